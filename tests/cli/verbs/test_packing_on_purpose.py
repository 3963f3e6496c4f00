"""Packing that somebody asks for in so many words is refused where rows would see each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.main import main

BLOOM = {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "bloom").mkdir()
    (tmp_path / "bloom" / "config.json").write_text(json.dumps(BLOOM))
    data = "assets/datasets/pirate.json"
    workspace = ["--workspace", str(tmp_path / "workspace")]
    return [
        "train",
        *workspace,
        "--preset",
        "cpu-starter",
        "--model",
        str(tmp_path / "bloom"),
        "--data",
        data,
        "--detach",
    ]


@pytest.mark.parametrize("value", ["true", "yes", "on"])
def test_packing_on_purpose_is_refused_with_the_reason(
    words: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--set", f"data.packing={value}"]) == 2
    said = capsys.readouterr().err.strip()
    assert "data.packing=true cannot be kept" in said and "see each other" in said
    assert len(said.splitlines()) == 1 and "Traceback" not in said


@pytest.mark.parametrize("more", [[], ["--set", "data.packing=false"], ["--set", "training.max_steps=3"]], ids=str)
def test_packing_of_a_preset_is_no_purpose(
    words: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words, *more])  # it may be refused for what the folder lacks
    assert "packed" not in capsys.readouterr().err
