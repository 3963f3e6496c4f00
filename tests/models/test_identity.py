"""Which base an adapter belongs to: the fingerprint of the weights, and the note beside the adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from app.models.identity import base_warning, fingerprint, noted_base, write_note
from app.models.names import resolve
from tests.models import tiny_models


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("identity") / "base", hidden_size=768)


def changed(base: Path, folder: Path, name: str, amount: float) -> Path:
    """Copy a model with one value of one tensor changed."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[0] += amount
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_copy_is_the_same_base_and_a_perturbed_one_is_not(base: Path, tmp_path: Path) -> None:
    same = changed(base, tmp_path / "same", "model.norm.weight", 0.0)
    other = changed(base, tmp_path / "other", "model.layers.1.self_attn.q_proj.weight", 0.5)
    assert fingerprint(str(base)) == fingerprint(str(same)) != fingerprint(str(other))
    assert len(fingerprint(str(base))) == 64


def test_the_starter_and_a_perturbed_copy(tmp_path: Path) -> None:
    starter = Path(resolve("starter"))
    copy = changed(starter, tmp_path / "copy", "model.embed_tokens.weight", 0.01)
    write_note(tmp_path, fingerprint(str(starter)))
    assert base_warning(tmp_path, fingerprint(str(starter))) == ""
    assert "trained on another base" in base_warning(tmp_path, fingerprint(str(copy)))


def test_what_is_not_known_is_no_warning(base: Path, tmp_path: Path) -> None:
    assert fingerprint("some/model-that-was-never-fetched") == fingerprint(str(tmp_path)) == ""
    write_note(tmp_path, "")
    assert noted_base(tmp_path) == "" and base_warning(tmp_path, fingerprint(str(base))) == ""
    (tmp_path / "workbench.json").write_text("[" * 100_000)
    assert noted_base(tmp_path) == ""
