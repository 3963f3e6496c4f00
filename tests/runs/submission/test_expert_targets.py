"""What PEFT cannot do to experts is refused before a run starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import catalog
from app.config.schema import RunConfig, parse
from app.runs.submission.submit import _name_problems
from tests.models.moe_models import moe_config

NEEDS = [("lora_dropout", 0.1, "dropout"), ("use_dora", True, "DoRA")]


def problems(folder: Path, kind: str, **adapter: Any) -> list[str]:
    moe_config(kind).save_pretrained(folder)
    config: RunConfig = parse({"model": {"name": str(folder)}, "adapter": adapter})
    return [one.line() for one in _name_problems(config, catalog.find(str(folder)))]


@pytest.mark.parametrize(("setting", "value", "said"), NEEDS)
def test_dropout_and_dora_on_experts_are_refused(tmp_path: Path, setting: str, value: Any, said: str) -> None:
    (line,) = problems(tmp_path, "qwen3_moe", **{setting: value})
    assert line.startswith(f"adapter.{setting}: all-linear adapts the experts of") and f"no {said}" in line
    assert "q_proj, k_proj, v_proj, o_proj" in line
    assert not problems(tmp_path, "qwen3_moe", **{setting: value, "target_modules": ["q_proj", "v_proj"]})
    (named,) = problems(tmp_path, "gpt_oss", **{setting: value, "target_modules": ["q_proj", "experts"]})
    assert "experts adapts the experts of" in named
    assert not problems(tmp_path, "gpt_oss", **{setting: value}), "PEFT adapts its attention alone"
