"""Adapters beside the batch: each answers as PEFT alone does, and one that is refused leaves no trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.engine.variants import BASE, VariantSet
from app.errors import EngineError, ExportError
from app.export.adapters.blend_job import Ingredient, check
from app.export.merge.weight_delta import changes_of
from app.models.adapters import AdapterFolder
from app.models.loading import load_base, load_tokenizer
from app.models.names import resolve
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
STARTER = Path(resolve("starter"))
Tensors = dict[str, torch.Tensor]


def opened(base: Path, quant: Any = "none") -> VariantSet:
    return VariantSet(load_base(str(base), quant=quant, dtype="fp32"), load_tokenizer(str(base)))


@pytest.fixture(scope="module")
def starter() -> VariantSet:
    """Return the starter; tests must leave it as it is."""
    return opened(STARTER)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of adapters of the starter, each kind made once."""
    room, made = tmp_path_factory.mktemp("starter-adapters"), {}

    def make(name: str, **settings: Any) -> Path:
        if name not in made:
            made[name] = tiny_models.save_adapter(room / name, STARTER, seed=len(made), **settings)
        return made[name]

    return make


def resized(folder: Path, base: Path, tokens: int, **settings: Any) -> Path:
    """Save an adapter of a base whose vocabulary was enlarged first."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(tokens)
    with tiny_models.quiet_peft():
        peft = get_peft_model(model, LoraConfig(**{"r": 4, "target_modules": "all-linear", **settings}))
        tiny_models.randomise(peft, 3)
        peft.save_pretrained(str(folder), save_embedding_layers=True)
    return folder


def rewritten(source: Path, target: Path, change: Callable[[Tensors], Tensors], **config: Any) -> Path:
    target.mkdir()
    save_file(change(load_file(source / "adapter_model.safetensors")), target / "adapter_model.safetensors")
    settings = json.loads((source / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return target


def state(columns: VariantSet) -> tuple[Any, ...]:
    """Return all that an engine is made of: names, modules, hooks, weights with their places and bytes."""
    model = columns.model
    modules = [(name, type(module).__name__, len(module._forward_hooks)) for name, module in model.named_modules()]
    weights = [
        (name, one.data_ptr(), one.requires_grad, hash(one.detach().contiguous().view(torch.uint8).numpy().tobytes()))
        for name, one in model.named_parameters()
    ]
    layers = {name: (layer.a.data_ptr(), layer.b.data_ptr()) for name, layer in columns._stack._layers.items()}
    return dict(columns.columns), dict(columns._models), modules, weights, layers


def refused(columns: VariantSet, folder: Path, reason: str) -> None:
    """Add an adapter that cannot be, and hold the engine to be bit by bit as before."""
    before, answers = state(columns), columns._logits_of([BASE])
    with pytest.raises(EngineError, match=reason) as error:
        columns.add("refused", folder)
    assert "\n" not in error.value.line()
    assert state(columns) == before
    assert torch.equal(columns._logits_of([BASE]), answers)


def alone(base: Path, folder: Path, columns: VariantSet) -> torch.Tensor:
    """Return what PEFT alone answers to the probe."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with tiny_models.quiet_peft():
        model = PeftModel.from_pretrained(model, str(folder)).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=columns._probe).logits[:, -1]
    return found


def test_resized_embeddings_are_refused_and_the_next_adapter_is_served(
    starter: VariantSet, adapters: Callable[..., Path], tmp_path: Path
) -> None:
    refused(starter, resized(tmp_path / "resized", STARTER, 2050), "2,050 tokens, the base's 2,048")
    for name, settings in (("dora", {"use_dora": True}), ("plain", {})):
        folder = adapters(name, **settings)
        starter.add(name, folder)
        torch.testing.assert_close(starter._logits_of([name]), alone(STARTER, folder, starter), rtol=1e-3, atol=1e-3)
        starter.remove(name)


def test_beside_loads_again_after_the_first_one_has_gone(starter: VariantSet, adapters: Callable[..., Path]) -> None:
    head = adapters("head", modules_to_save=["lm_head"], target_modules=["q_proj"])
    before = state(starter)
    for _ in range(2):
        for name, folder in (("head", head), ("dora", adapters("dora", use_dora=True))):
            starter.add(name, folder)
            starter.remove(name)
    assert state(starter) == before


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layer_replication", [[0, 3], [1, 4]]),
        ("alora_invocation_tokens", [5, 6]),
        ("arrow_config", {"top_k": 1}),
        ("megatron_config", {"a": 1}),
    ],
)
def test_kinds_that_cannot_run_are_refused(
    starter: VariantSet, adapters: Callable[..., Path], tmp_path: Path, setting: str, value: Any
) -> None:
    folder = rewritten(adapters("plain"), tmp_path / "a", lambda tensors: tensors, **{setting: value})
    refused(starter, folder, rf"cannot be served.*{setting}")


def test_a_real_adapter_with_repeated_layers_is_refused(starter: VariantSet, tmp_path: Path) -> None:
    folder = tiny_models.save_adapter(tmp_path / "a", STARTER, layer_replication=[[0, 3], [1, 4]])
    refused(starter, folder, "repeats layers")


@pytest.mark.parametrize(
    ("name", "settings", "shared"),
    [
        ("tied head", {"target_modules": ["q_proj", "lm_head"]}, True),
        ("head alone", {"target_modules": ["lm_head"]}, True),
        ("tied embeddings", {"target_modules": ["embed_tokens", "v_proj"]}, False),
        ("whole head", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
        ("whole embeddings", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
        ("whole norm", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}, False),
        ("rows", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9]}, False),
        ("raw", {"target_modules": ["q_proj"], "target_parameters": ["mlp.up_proj.weight"]}, False),
    ],
)
def test_every_kind_answers_as_peft_alone(
    starter: VariantSet, adapters: Callable[..., Path], name: str, settings: dict[str, Any], shared: bool
) -> None:
    folder, before = adapters(name, **settings), state(starter)
    assert starter.add(name, folder).shared is shared
    expected = alone(STARTER, folder, starter)
    torch.testing.assert_close(starter._logits_of([name]), expected, rtol=1e-3, atol=1e-3)
    assert float((expected - starter._base_logits).abs().max()) > 0.01
    starter.remove(name)
    assert state(starter) == before


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_of_an_adapter_are_its_own(tmp_path: Path, bias: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama", attention_bias=True)
    folder = tiny_models.save_adapter(tmp_path / "biased", base, bias=bias)
    columns = opened(base)
    before = columns._logits_of([BASE])
    assert not columns.add("biased", folder).shared
    torch.testing.assert_close(columns._logits_of(["biased"]), alone(base, folder, columns), rtol=1e-3, atol=1e-3)
    assert torch.equal(columns._logits_of([BASE]), before)


Q = "base_model.model.model.layers.0.self_attn.q_proj"
EMBED = "base_model.model.model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {**t, f"{Q}.lora_magnitude_vector": torch.ones(7)}, "[Ss]ize mismatch"),
        (lambda t: {**t, "base_model.model.model.layers.9.mlp.weight": torch.ones(7)}, "no place in this base"),
        (lambda t: {**t, f"{Q}.base_layer.weight": torch.ones(256, 256)}, "on another base"),
        (lambda t: {**t, EMBED: torch.ones(2048, 256)}, "on another base"),
        (lambda t: {**t, EMBED: torch.ones(2050, 256)}, "2,050 tokens"),
        (lambda t: {n.replace("layers.0", "layers.7"): v for n, v in t.items()}, "none that PEFT reads"),
        (lambda t: {n: v for n, v in t.items() if "layers.0" not in n}, "file lacks .*layers.0"),
        (lambda t: {n.removeprefix("base_model."): v for n, v in t.items()}, "none that PEFT reads|no LoRA weights"),
        (lambda t: {n: v * float("nan") for n, v in t.items()}, "not numbers"),
    ],
)
def test_an_adapter_that_fails_halfway_leaves_no_trace(
    starter: VariantSet,
    adapters: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[Tensors], Tensors],
    reason: str,
) -> None:
    refused(starter, rewritten(adapters("dora", use_dora=True), tmp_path / "a", change), reason)


def test_an_answer_without_numbers_is_refused(
    starter: VariantSet, adapters: Callable[..., Path], tmp_path: Path
) -> None:
    huge = rewritten(
        adapters("plain"), tmp_path / "a", lambda t: {n: v * 1e38 if "_B" in n else v for n, v in t.items()}
    )
    refused(starter, huge, "not made of numbers")


def test_rows_that_the_base_has_not_are_refused(
    starter: VariantSet, adapters: Callable[..., Path], tmp_path: Path
) -> None:
    rows = adapters("rows", target_modules=["q_proj"], trainable_token_indices=[5, 9])
    folder = rewritten(rows, tmp_path / "a", lambda t: t, trainable_token_indices=[5, 2048])
    refused(starter, folder, "token 2048")


def test_whatever_a_library_raises_is_a_refusal(
    starter: VariantSet, adapters: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise IndexError("list index out of range")

    with monkeypatch.context() as patch:
        patch.setattr("app.engine.variants.open_adapter", fail)
        refused(starter, adapters("dora", use_dora=True), "list index out of range")
    with monkeypatch.context() as patch:  # half of the layers are put, then the memory ends
        patch.setattr("app.engine.batching.stacked_layer.StackedLayer.holds", fail)
        refused(starter, adapters("plain"), "list index out of range")


class OddError(Exception):
    """Of no library that is known here."""


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (AssertionError("no such layer"), "does not fit the base. No such layer"),
        (OddError("odd"), "does not fit the base. Odd"),
        (torch.OutOfMemoryError("2 GiB"), "There is no room for 'refused'. 2 GiB. Unload another column."),
    ],
)
def test_a_refusal_of_peft_is_a_misfit_and_a_full_card_is_none(
    starter: VariantSet, adapters: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "from_pretrained", fail)
        refused(starter, adapters("dora", use_dora=True), re.escape(reason))


def test_an_interruption_leaves_the_columns_as_they_were(
    starter: VariantSet, adapters: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = dict(starter.columns)
    with monkeypatch.context() as patch:
        patch.setattr(VariantSet, "_prove", interrupt)
        with pytest.raises(KeyboardInterrupt):
            starter.add("x", adapters("plain"))
    assert starter.columns == before
    starter.add("x", adapters("plain"))
    starter.remove("x")


@pytest.mark.parametrize(("quant", "settings"), [("nf4", {"use_dora": True}), ("int8", {"modules_to_save": ["norm"]})])
def test_a_quantised_base_is_shared_and_stays(tmp_path: Path, quant: str, settings: dict[str, Any]) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    columns = opened(base, quant)
    refused(columns, resized(tmp_path / "resized", base, 384), "384 tokens, the base's 320")
    folder = tiny_models.save_adapter(tmp_path / "a", base, **settings)
    columns.add("a", folder)
    weights = {one.data_ptr() for one in columns.model.parameters()}
    shared = [one for name, one in columns._models["a"].model.named_parameters() if "base_layer" in name]
    assert shared and {one.data_ptr() for one in shared} <= weights
    expected = alone(base, folder, columns)
    assert (columns._logits_of(["a"]) - expected).norm() < 0.35 * expected.norm()
    columns.remove("a")
    columns.add("again", folder)


@pytest.mark.parametrize(
    ("config", "blend", "merge"),
    [
        ({"layer_replication": [[0, 3], [1, 4]]}, "with PEFT itself in a script", "with PEFT itself in a script"),
        ({"alora_invocation_tokens": [5]}, "with PEFT itself in a script", "with PEFT itself in a script"),
        ({"use_bdlora": {"a": 1}}, "[Ss]erve it", "[Ss]erve it"),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "[Mm]erge it", None),
    ],
)
def test_merge_and_blend_do_not_send_from_one_to_the_other(
    adapters: Callable[..., Path], tmp_path: Path, config: dict[str, Any], blend: str, merge: str | None
) -> None:
    folder = AdapterFolder(rewritten(adapters("plain"), tmp_path / "a", lambda tensors: tensors, **config))
    with pytest.raises(ExportError, match=blend):
        check([Ingredient(folder, 1.0)])
    if merge:
        with pytest.raises(ExportError, match=merge):
            changes_of(folder, None)  # type: ignore[arg-type]
