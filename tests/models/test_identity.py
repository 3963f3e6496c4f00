"""Which base an adapter belongs to: the fingerprint of the weights, and the note beside the adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.models.identity import base_warning, fingerprint, noted_base, write_note
from app.models.names import resolve
from tests.models import tiny_models


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("identity") / "base", hidden_size=1024)


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


@pytest.mark.parametrize("row", [1, 100, -2])
def test_one_changed_row_of_a_large_tensor_is_another_base(base: Path, tmp_path: Path, row: int) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    embeddings = tensors["model.embed_tokens.weight"]
    assert embeddings.nbytes > 1 << 20
    embeddings[row] += 0.5
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    write_note(tmp_path, fingerprint(str(base)))
    assert "trained on another base" in base_warning(tmp_path, fingerprint(str(copy)))


def test_a_base_that_changes_under_its_name_is_another_base(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    before = fingerprint(str(copy))
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\x01\x02")
    assert fingerprint(str(copy)) != before == fingerprint(str(base))


def test_shards_have_the_fingerprint_of_the_one_file(base: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert fingerprint(str(tmp_path / "shards")) == fingerprint(str(base))


def test_a_note_made_from_samples_is_no_proof_of_either(base: Path, tmp_path: Path) -> None:
    (tmp_path / "workbench.json").write_text('{"base_sha256": "' + "a" * 64 + '"}')
    assert "cannot tell" in base_warning(tmp_path, fingerprint(str(base)))


def test_what_is_not_known_is_no_warning(base: Path, tmp_path: Path) -> None:
    assert fingerprint("some/model-that-was-never-fetched") == fingerprint(str(tmp_path)) == ""
    write_note(tmp_path, "")
    assert noted_base(tmp_path) == "" and base_warning(tmp_path, fingerprint(str(base))) == ""
    (tmp_path / "workbench.json").write_text("[" * 100_000)
    assert noted_base(tmp_path) == ""
