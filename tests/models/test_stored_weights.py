"""4-bit weights kept on disk: the same bits as quantised anew, found by all that they depend on, and bounded."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from app.config.schema import RunConfig
from app.models import stored_weights
from app.models.loading import load_base
from app.models.stored_weights import Identity, StoredWeights
from app.training.assembly import load_model
from tests.models import tiny_models

SOME = Identity("0" * 64, "1" * 64, "nf4", True, "torch.float32", "torch.float32", "cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("stored") / "base")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredWeights:
    monkeypatch.setattr(stored_weights, "LEAST_FREE_BYTES", 0)
    return StoredWeights(tmp_path / "quantized", least_bytes=0)


def folders(tmp_path: Path) -> list[str]:
    return sorted(each.name for each in (tmp_path / "quantized").iterdir()) if (tmp_path / "quantized").exists() else []


def assert_equal(one: PreTrainedModel, other: PreTrainedModel) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    ids = torch.arange(40)[None] + 5
    assert torch.equal(one(ids).logits, other(ids).logits)
    for (name, mine), (_, yours) in zip(one.named_modules(), other.named_modules(), strict=True):
        assert type(mine) is type(yours) and getattr(mine, "compute_dtype", 0) == getattr(yours, "compute_dtype", 0)
        assert not getattr(mine, "support_avx512bf16_for_cpu", False), name
    assert one.name_or_path == other.name_or_path and one.training == other.training
    assert not any(parameter.requires_grad for parameter in other.parameters())


@pytest.mark.parametrize("quant", ["nf4", "fp4"])
@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_weights_are_the_quantised_ones_bit_by_bit(
    base: Path, store: StoredWeights, tmp_path: Path, quant: str, double_quant: bool, dtype: str
) -> None:
    def loaded(store: StoredWeights | None) -> PreTrainedModel:
        return load_base(str(base), quant=quant, double_quant=double_quant, dtype=dtype, store=store)  # type: ignore[arg-type]

    plain, first = loaded(None), loaded(store)
    (kept,) = folders(tmp_path)
    before = (tmp_path / "quantized" / kept / "model.safetensors").stat().st_mtime_ns
    second = loaded(store)
    assert_equal(plain, first)
    assert_equal(plain, second)
    assert (tmp_path / "quantized" / kept / "model.safetensors").stat().st_mtime_ns == before


def test_equal_weights_under_another_configuration_are_another_base(
    base: Path, store: StoredWeights, tmp_path: Path
) -> None:
    first = load_base(str(base), store=store)
    other = Path(shutil.copytree(base, tmp_path / "other"))
    settings = json.loads((other / "config.json").read_text())
    settings["rope_parameters"] = {**(settings.get("rope_parameters") or {}), "rope_theta": 77.0}
    (other / "config.json").write_text(json.dumps(settings))
    second = load_base(str(other), store=store)
    assert second.config.rope_parameters["rope_theta"] == 77.0
    assert not torch.equal(first(torch.arange(40)[None]).logits, second(torch.arange(40)[None]).logits)
    # A copy of the same base finds what is kept of the first.
    load_base(str(shutil.copytree(base, tmp_path / "copy")), store=store)
    assert len(folders(tmp_path)) == 2


def test_what_is_kept_and_cannot_be_read_costs_no_run(
    base: Path, store: StoredWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = load_base(str(base), store=store)
    (kept,) = folders(tmp_path)
    weights = tmp_path / "quantized" / kept / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    assert_equal(plain, load_base(str(base), store=store))
    assert "made anew" in capsys.readouterr().out
    assert weights.read_bytes()[:8] != b"\xff" * 8, "written anew"


def test_the_second_load_reads_what_is_kept(base: Path, store: StoredWeights, tmp_path: Path) -> None:
    load_base(str(base), store=store)
    (kept,) = folders(tmp_path)
    other = tiny_models.save_model(tmp_path / "other", tie_word_embeddings=False)
    load_base(str(other), store=StoredWeights(tmp_path / "elsewhere", least_bytes=0))
    (theirs,) = (tmp_path / "elsewhere").iterdir()
    assert theirs.name != kept
    for file in theirs.iterdir():
        (tmp_path / "quantized" / kept / file.name).write_bytes(file.read_bytes())
    # Another base's weights under this one's name: they are what is loaded, so nothing was quantised.
    assert not load_base(str(base), store=store).config.tie_word_embeddings


def test_what_was_cut_off_is_quantised_anew(base: Path, store: StoredWeights, tmp_path: Path) -> None:
    plain = load_base(str(base), store=store)
    (kept,) = folders(tmp_path)
    file = tmp_path / "quantized" / kept / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert_equal(plain, load_base(str(base), store=store))
    assert file.stat().st_size > 100 and folders(tmp_path) == [kept]


@pytest.mark.parametrize("field", ["base_sha256", "quant", "double_quant", "compute_dtype", "dtype", "device"])
def test_whatever_the_bits_depend_on_is_in_the_name(field: str) -> None:
    assert replace(SOME, **{field: "another"}).name != SOME.name == replace(SOME).name  # type: ignore[arg-type]


def test_another_library_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SOME.name
    monkeypatch.setattr(stored_weights, "version", lambda name: "9.9")
    assert SOME.name != before


def test_the_oldest_makes_room_and_nothing_too_large_is_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_weights, "LEAST_FREE_BYTES", 0)
    model = load_base(str(base))
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    bounded = StoredWeights(tmp_path / "quantized", least_bytes=0, most_bytes=int(2.9 * size))
    names = [replace(SOME, dtype=str(number)) for number in range(3)]
    for age, name in enumerate(names[:2]):
        assert bounded.keep(name, model)
        os.utime(tmp_path / "quantized" / name.name, (age, age))
    assert bounded.find(names[0]) is not None  # used now, so the other is the oldest
    assert bounded.keep(names[2], model)
    assert [bounded.find(name) is not None for name in names] == [True, False, True]
    assert not StoredWeights(tmp_path / "quantized", least_bytes=0, most_bytes=size // 2).keep(SOME, model)
    assert not StoredWeights(tmp_path / "small", least_bytes=size + 1).keep(SOME, model)
    monkeypatch.setattr(stored_weights, "LEAST_FREE_BYTES", 1 << 60)
    assert not bounded.keep(SOME, model)


def test_a_disk_that_takes_nothing_ends_no_run(base: Path, store: StoredWeights, tmp_path: Path) -> None:
    (tmp_path / "quantized").mkdir()
    model = load_base(str(base))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    model.save_pretrained = full
    assert not store.keep(SOME, model) and folders(tmp_path) == []


def test_a_run_keeps_none_where_it_is_told_so(base: Path, store: StoredWeights, tmp_path: Path) -> None:
    config = RunConfig().changed({"model.name": str(base), "quantization.keep_on_disk": False})
    load_model(config, str(base), store)
    assert folders(tmp_path) == []
    load_model(config.changed({"quantization.keep_on_disk": True}), str(base), store)
    assert len(folders(tmp_path)) == 1


def test_a_base_in_16_bits_is_not_kept(base: Path, store: StoredWeights, tmp_path: Path) -> None:
    load_base(str(base), quant="none", store=store)
    load_base(str(base), quant="int8", store=store)
    assert folders(tmp_path) == []
