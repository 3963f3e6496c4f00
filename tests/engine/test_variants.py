from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from app.engine import variants
from app.engine.variants import BASE, VariantSet
from app.errors import EngineError
from app.models.adapters import AdapterFolder
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING


@pytest.fixture
def fresh(tiny_base: Path) -> VariantSet:
    return VariantSet(load_base(str(tiny_base), quant="none", dtype="fp32"), load_tokenizer(str(tiny_base)))


def changed(source: Path, target: Path, change: object, config: dict[str, object] | None = None) -> Path:
    """Copy an adapter with its tensors run through `change`."""
    shutil.copytree(source, target)
    tensors = load_file(target / "adapter_model.safetensors")
    save_file(change(tensors), target / "adapter_model.safetensors")  # type: ignore[operator]
    settings = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**settings, **(config or {})}))
    return target


def test_adding_and_removing_leaves_the_base_as_it_was(fresh: VariantSet, tiny_adapters: dict[str, Path]) -> None:
    before = fresh._logits_of([BASE])
    for name, folder in tiny_adapters.items():
        fresh.add(name, folder)
    own = {name: fresh._logits_of([name]) for name in tiny_adapters}
    for name in ("plain", "dora", "patterned"):
        fresh.remove(name)
    assert torch.equal(fresh._logits_of([BASE]), before)
    for name in ("narrow", "rslora", "head"):
        torch.testing.assert_close(fresh._logits_of([name]), own[name])


def test_an_adapter_of_zeros_is_the_base_and_no_error(
    fresh: VariantSet, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    zeros = changed(
        tiny_adapters["plain"],
        tmp_path / "zeros",
        lambda tensors: {name: t * 0 if "lora_B" in name else t for name, t in tensors.items()},
    )
    fresh.add("zeros", zeros)
    assert torch.equal(fresh._logits_of(["zeros"]), fresh._logits_of([BASE]))


def test_an_adapter_whose_alpha_is_0_is_the_base_and_no_error(
    fresh: VariantSet, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    silent = changed(tiny_adapters["plain"], tmp_path / "silent", lambda tensors: tensors)
    file = silent / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 0}))
    fresh.add("silent", silent)
    assert torch.equal(fresh._logits_of(["silent"]), fresh._logits_of([BASE]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {n: t.fill_(float("nan")) for n, t in tensors.items()}, "not numbers"),
        (lambda tensors: {n.replace("layers.1", "layers.9"): t for n, t in tensors.items()}, "no such layer"),
        (lambda tensors: {n: t[:, :64].contiguous() if "lora_A" in n else t for n, t in tensors.items()}, "the layer"),
        (lambda tensors: {n: t for n, t in tensors.items() if "q_proj.lora_B" not in n}, "lacks"),
    ],
)
def test_a_broken_adapter_is_refused_and_nothing_stays(
    fresh: VariantSet, tiny_adapters: dict[str, Path], tmp_path: Path, change: object, message: str
) -> None:
    broken = changed(tiny_adapters["plain"], tmp_path / "broken", change)
    with pytest.raises(EngineError, match=message):
        fresh.add("broken", broken)
    assert list(fresh.columns) == [BASE]
    fresh.add("good", tiny_adapters["plain"])


def test_an_adapter_that_began_with_a_changed_base_is_refused(
    fresh: VariantSet, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    pissa = changed(tiny_adapters["plain"], tmp_path / "pissa", lambda t: t, {"init_lora_weights": "pissa_niter_4"})
    with pytest.raises(EngineError, match="pissa"):
        fresh.add("pissa", pissa)
    assert list(fresh.columns) == [BASE]


def test_a_merged_model_stands_beside_the_base_and_answers_as_its_adapter(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), str(tiny_adapters["plain"]))
    adapted.merge_and_unload().save_pretrained(merged)
    tiny_models.tokenizer().save_pretrained(merged)
    load = partial(load_base, quant="none", dtype="fp32")
    columns = VariantSet(load(str(tiny_base)), load_tokenizer(str(tiny_base)), load=load)
    before = columns._logits_of([BASE])
    columns.add("plain", tiny_adapters["plain"])
    column = columns.add("merged", merged)
    assert column.whole and not column.shared and len(column.hash) == 12
    torch.testing.assert_close(columns._logits_of(["merged"]), columns._logits_of(["plain"]), rtol=1e-3, atol=1e-3)
    assert torch.equal(columns._logits_of([BASE]), before)
    columns.remove("merged")
    assert list(columns.columns) == [BASE, "plain"] and not columns._models


def test_a_model_with_another_tokenizer_is_no_column(fresh: VariantSet, tiny_base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_base, tmp_path / "other")
    tokenizer = load_tokenizer(str(other))
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(EngineError, match="another tokenizer"):
        fresh.add("other", other)
    assert list(fresh.columns) == [BASE]


@pytest.mark.parametrize("fault", ["other weights", "half of them", "the base"])
def test_the_proof_catches_a_column_that_is_not_itself(
    fresh: VariantSet, tiny_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fresh.add("plain", tiny_adapters["plain"])
    put = fresh._stack.put
    mixed_up = {
        "other weights": list(AdapterFolder(tiny_adapters["rslora"]).updates()),
        "half of them": list(AdapterFolder(tiny_adapters["patterned"]).updates())[::2],
        "the base": [],
    }[fault]
    monkeypatch.setattr(fresh._stack, "put", lambda name, updates: put(name, mixed_up))
    with pytest.raises(EngineError, match="has other weights"):
        fresh.add("patterned", tiny_adapters["patterned"])
    monkeypatch.undo()
    assert list(fresh.columns) == [BASE, "plain"]
    fresh.add("patterned", tiny_adapters["patterned"])


def test_the_proof_catches_a_base_that_changed(fresh: VariantSet, tiny_adapters: dict[str, Path]) -> None:
    with torch.no_grad():
        fresh.model.model.norm.weight.mul_(1.01)
    with pytest.raises(EngineError, match="changed the base"):
        fresh.add("plain", tiny_adapters["plain"])


def test_the_proof_catches_rows_that_are_mixed_up(
    fresh: VariantSet, tiny_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.add("plain", tiny_adapters["plain"])
    route = fresh._stack.route
    monkeypatch.setattr(fresh._stack, "route", lambda names: route(names and [names[0], *reversed(names[1:])]))
    with pytest.raises(EngineError, match="mixed up"):
        fresh.add("narrow", tiny_adapters["narrow"])


@pytest.mark.parametrize("name", ["plain", "dora"])
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_file_that_changes_while_it_is_loaded_is_no_column(
    fresh: VariantSet,
    tiny_adapters: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file: str,
) -> None:
    folder = shutil.copytree(tiny_adapters[name], tmp_path / "mine")
    own_tensors = variants.own_tensors

    def changed_meanwhile(*arguments: Any) -> dict[str, str]:
        """Let another program write the file between the first and the second look at it."""
        answer = own_tensors(*arguments)
        if file.endswith("json"):
            settings = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**settings, "lora_alpha": 17}))
        else:
            tensors = load_file(folder / file)
            save_file({key: tensor * 2 for key, tensor in tensors.items()}, folder / file)
        return answer

    monkeypatch.setattr(variants, "own_tensors", changed_meanwhile)
    with pytest.raises(EngineError, match="was changed while it was loaded"):
        fresh.add("mine", folder)
    monkeypatch.undo()
    assert list(fresh.columns) == [BASE]
    fresh.add("mine", folder)


def test_a_model_that_changes_while_it_is_loaded_is_no_column(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "model")

    def load(model: str) -> PreTrainedModel:
        loaded = load_base(model, quant="none", dtype="fp32")
        if model == str(folder):
            tensors = load_file(folder / "model.safetensors")
            save_file({name: tensor * 2 for name, tensor in tensors.items()}, folder / "model.safetensors")
        return loaded

    columns = VariantSet(load(str(tiny_base)), load_tokenizer(str(tiny_base)), load=load)
    with pytest.raises(EngineError, match="was changed while it was loaded"):
        columns.add("mine", folder)
    assert list(columns.columns) == [BASE]


def test_dora_on_an_8_bit_base_is_refused_in_words(tiny_base: Path, tiny_adapters: dict[str, Path]) -> None:
    columns = VariantSet(load_base(str(tiny_base), quant="int8", dtype="fp32"), load_tokenizer(str(tiny_base)))
    with pytest.raises(EngineError, match="cannot run on an 8-bit base here"):
        columns.add("dora", tiny_adapters["dora"])
    columns.add("plain", tiny_adapters["plain"])


def test_hash_is_of_weights_and_settings(tiny_adapters: dict[str, Path], tmp_path: Path) -> None:
    plain = AdapterFolder(tiny_adapters["plain"]).hash
    scaled = changed(tiny_adapters["plain"], tmp_path / "scaled", lambda t: t, {"lora_alpha": 99})
    assert len(plain) == 12 and AdapterFolder(scaled).hash != plain
    assert AdapterFolder(Path(shutil.copytree(tiny_adapters["plain"], tmp_path / "copy"))).hash == plain
