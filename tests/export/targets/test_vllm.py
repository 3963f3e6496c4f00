from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import ExportError
from app.export.targets.vllm import hand_over
from app.models.adapters import AdapterFolder
from tests.models import tiny_models


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("vllm") / "base", "llama")


def test_a_plain_adapter_is_handed_over_clean(tmp_path: Path, base: Path) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, r=12, use_rslora=True)
    (adapter / "training_args.bin").write_bytes(b"secret")
    (adapter / "chat_template.jinja").write_text(tiny_models.CHATML)
    out = tmp_path / "out"
    answer = hand_over(AdapterFolder(adapter), "owner/model", out, "pirate; rm -rf")
    assert answer.max_lora_rank == 16
    assert answer.command.startswith("vllm serve owner/model --enable-lora --max-lora-rank 16 --lora-modules 'pirate")
    assert answer.command.endswith("--chat-template chat_template.jinja") and "; rm" not in answer.command
    files = sorted(path.name for path in out.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "requests.jsonl",
        "requests.sh",
    ]
    (config,) = out.rglob("adapter_config.json")
    assert json.loads(config.read_text())["base_model_name_or_path"] == "owner/model"
    assert all(str(tmp_path) not in path.read_text("latin-1") for path in out.rglob("*") if path.is_file())


def test_a_base_of_this_machine_stands_in_the_command_and_in_no_file(tmp_path: Path, base: Path) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    answer = hand_over(AdapterFolder(adapter), str(base), tmp_path / "out")
    assert answer.command.startswith(f"vllm serve {base} --enable-lora")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "vllm serve base --enable-lora" in readme and "stands for the folder" in readme
    assert all(str(base) not in path.read_text("latin-1") for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"rank_pattern": {"q_proj": 2}}, "differs between layers"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
        ({"r": 600}, "highest is 512"),
    ],
)
def test_what_vllm_refuses_is_refused_with_the_reason(
    tmp_path: Path, base: Path, settings: dict[str, Any], reason: str
) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **{"target_modules": ["q_proj"], **settings})
    with pytest.raises(ExportError, match=reason):
        hand_over(AdapterFolder(adapter), "owner/model", tmp_path / "out")
    assert not (tmp_path / "out").exists()
