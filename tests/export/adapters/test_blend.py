from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from app.errors import ExportError, UsageError
from app.export.adapters.blend import Part, blend_layer, padded
from app.export.adapters.blend_job import Ingredient, check, check_cat_rank, modules_of, refuse_misread, write
from app.export.requests import BlendAnswer, BlendRequest, WeightedAdapter, start_blend, wait_for_answer
from app.export.targets.vllm import hand_over
from app.models.adapters import AdapterFolder, LoraUpdate
from app.workspace import open_workspace
from tests.export.merging import merge
from tests.models import tiny_models

IDS = torch.arange(3, 67)[None]


def update(rank: int, scaling: float, seed: int, shape: tuple[int, int] = (48, 32)) -> LoraUpdate:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, shape[1], generator=generator)
    return LoraUpdate("layer", a, torch.randn(shape[0], rank, generator=generator), scaling)


def dense(part: LoraUpdate) -> torch.Tensor:
    return part.scaling * part.b.double() @ part.a.double()


PARTS = [update(8, 2.0, 1), update(3, 0.7, 2), update(16, 4.0, 3)]
WEIGHTS = [0.5, -1.0, 0.25]
EXACT = sum(weight * dense(part) for weight, part in zip(WEIGHTS, PARTS, strict=True))


def blended(method: Any, rank: int | None = None, density: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, Any]:
    parts = [Part(part, weight) for part, weight in zip(PARTS, WEIGHTS, strict=True)]
    layer = blend_layer(parts, method, rank, density, seed)
    return layer.b.double() @ layer.a.double(), layer


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_cat_and_linear_are_the_weighted_sum(method: str) -> None:
    found, layer = blended(method)
    assert float((found - EXACT).norm() / EXACT.norm()) < 1e-6
    assert layer.a.shape[0] == 27 and layer.max_abs_error < 1e-4
    a, b = padded(layer, 40)
    assert a.shape == (40, 32) and b.shape == (48, 40)
    torch.testing.assert_close(b.double() @ a.double(), found)


def test_linear_needs_no_more_rank_than_the_sum_has() -> None:
    same = Part(PARTS[0], 0.75)
    layer = blend_layer([same, same], "linear", None, 0.5, 0)
    assert layer.a.shape[0] == 8
    torch.testing.assert_close(layer.b.double() @ layer.a.double(), 1.5 * dense(PARTS[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [4, None])
def test_svd_is_the_best_of_its_rank(rank: int | None) -> None:
    found, layer = blended("svd", rank)
    values = torch.linalg.svdvals(EXACT)
    kept = rank or 16
    assert layer.a.shape[0] == kept
    best = float(values[kept:].norm() / values.norm())
    assert float((found - EXACT).norm() / EXACT.norm()) == pytest.approx(best, rel=1e-4)
    assert layer.relative_error == pytest.approx(best, rel=1e-3)
    assert layer.max_abs_error == pytest.approx(float((found - EXACT).abs().max()), rel=1e-3)


def test_ties_is_the_paper_s_three_steps() -> None:
    full, layer = blended("ties", rank=32, density=0.4)
    trimmed = []
    for part in PARTS:
        values = dense(part).float()
        least = values.abs().flatten().sort(descending=True).values[int(0.4 * values.numel()) - 1]
        trimmed.append(torch.where(values.abs() >= least, values, 0.0))
    expected = torch.zeros(48, 32)
    for row in range(48):
        for column in range(32):
            entries = [float(t[row, column]) for t in trimmed]
            sign = 1 if sum(entries) >= 0 else -1
            agreeing = [w * e for w, e in zip(WEIGHTS, entries, strict=True) if e * sign > 0]
            expected[row, column] = sum(agreeing) / len(agreeing) if agreeing else 0.0
    assert float((full - expected).norm() / expected.norm()) < 1e-5 and layer.relative_error < 1e-5
    _, cut = blended("ties", rank=8, density=0.4)
    values = torch.linalg.svdvals(expected)
    assert cut.relative_error == pytest.approx(float(values[8:].norm() / values.norm()), rel=0.02)


def test_dare_keeps_the_expected_sum_and_its_seed() -> None:
    runs = torch.stack([blended("dare", rank=32, density=0.5, seed=seed)[0] for seed in range(300)])
    spread = runs.std(0) / 300**0.5
    assert float(((runs.mean(0) - EXACT).abs() < 5 * spread + 1e-3).float().mean()) > 0.999
    assert torch.equal(blended("dare", seed=4)[0], blended("dare", seed=4)[0])
    assert not torch.equal(blended("dare", seed=4)[0], blended("dare", seed=5)[0])
    assert float((blended("dare", rank=32, density=1.0)[0] - EXACT).norm() / EXACT.norm()) < 1e-5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("blend") / "base", "llama")


def logits_with_updates(base: Path, adapters: list[tuple[Path, float]]) -> torch.Tensor:
    """Return the logits of a base whose weights were changed by dense float32 arithmetic."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        for folder, weight in adapters:
            for part in AdapterFolder(folder).updates():
                model.get_submodule(part.module).weight += weight * dense(part).float()
        return model(IDS).logits


def test_a_blend_job_makes_an_adapter_that_peft_loads(tmp_path: Path, base: Path) -> None:
    one = tiny_models.save_adapter(tmp_path / "one", base, seed=1, r=8, use_rslora=True)
    two = tiny_models.save_adapter(tmp_path / "two", base, seed=2, r=4, target_modules=["q_proj", "up_proj"])
    out = tmp_path / "blend"
    workspace = open_workspace(tmp_path / "workspace")
    request = BlendRequest([WeightedAdapter(str(one), 0.6), WeightedAdapter(str(two), 0.4)], str(out), method="linear")
    answer = wait_for_answer(start_blend(workspace, request), BlendAnswer)
    assert list(asdict(answer)) == ["adapter", "rank", "max_abs_error", "verdict"]
    assert answer.adapter == str(out) and answer.rank == 12 and answer.verdict == "pass"
    assert answer.max_abs_error < 1e-5
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with tiny_models.quiet_peft(), torch.no_grad():
        found = PeftModel.from_pretrained(model, str(out)).eval()(IDS).logits
    expected = logits_with_updates(base, [(one, 0.6), (two, 0.4)])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert float((expected - logits_with_updates(base, [])).abs().max()) > 0.1
    with pytest.raises(ExportError, match="exists"):
        start_blend(workspace, request)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, "whole tensors"),
        ({"target_modules": ["embed_tokens"]}, "whole tensors|embeddings"),
    ],
)
def test_what_cannot_be_added_up_is_refused_with_the_reason(
    tmp_path: Path, base: Path, settings: dict[str, Any], reason: str
) -> None:
    plain = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "plain", base)), 1.0)
    odd = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "odd", base, **settings)), 1.0)
    with pytest.raises(ExportError, match=reason):
        check([plain, odd])
    check([plain, plain])


def test_misfits_are_refused(tmp_path: Path, base: Path) -> None:
    plain = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "plain", base)), 1.0)
    wide = tiny_models.save_model(tmp_path / "wide", "llama", hidden_size=192)
    other = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "other", wide)), 1.0)
    with pytest.raises(ExportError, match="does not fit"):
        check([plain, other])
    with pytest.raises(ExportError, match="needs an adapter"):
        check([])
    with pytest.raises(ExportError, match="not a number"):
        check([plain, Ingredient(plain.adapter, float("nan"))])
    workspace = open_workspace(tmp_path)
    pair = [WeightedAdapter(str(tmp_path / "plain"))] * 2
    for wrong in ({"method": "sum"}, {"rank": 0}, {"density": 0.0}):
        with pytest.raises(UsageError):
            start_blend(workspace, BlendRequest(pair, str(tmp_path / "out"), **wrong))  # type: ignore[arg-type]


def test_a_cut_that_loses_much_is_a_warning(tmp_path: Path, base: Path) -> None:
    parts = [
        Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / str(seed), base, seed=seed)), 1.0)
        for seed in (1, 2)
    ]
    modules = list(parts[0].adapter.layers)
    layers = {m: blend_layer([Part(p.adapter.update(m), 1.0) for p in parts], "svd", 2, 0.5, 0) for m in modules}
    answer = write(tmp_path / "out", parts, layers, BlendRequest([], "", "svd"))
    assert answer.verdict == "warn" and answer.rank == 2
    assert "loses" in json.loads((tmp_path / "out" / "blend.json").read_text())["reasons"][0]


def blend(ingredients: list[Ingredient], out: Path, method: Any, rank: int | None = None) -> BlendAnswer:
    """Blend without a process of its own."""
    check(ingredients)
    layers = {
        module: blend_layer(
            [Part(one.adapter.update(module), one.weight) for one in ingredients if module in one.adapter.layers],
            method,
            rank,
            0.5,
            0,
        )
        for module in modules_of(ingredients)
    }
    return write(out, ingredients, layers, BlendRequest([], "", method, rank))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "bloom"])
def test_blends_of_unlike_adapters_are_the_dense_sum_in_peft(tmp_path: Path, kind: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", kind)
    narrow = {"llama": "q_proj", "qwen3": "down_proj", "gpt2": "c_attn", "bloom": "query_key_value"}[kind]
    settings: list[dict[str, Any]] = [
        {"r": 8, "rank_pattern": {narrow: 2}, "alpha_pattern": {narrow: 40}},
        {"r": 16, "lora_alpha": 8, "use_rslora": True},
        {"r": 3, "target_modules": [narrow], "layers_to_transform": [1]},
    ]
    ingredients = [
        Ingredient(
            AdapterFolder(
                tiny_models.save_adapter(tmp_path / str(n), base, seed=n, fan_in_fan_out=kind == "gpt2", **one)
            ),
            weight,
        )
        for n, (one, weight) in enumerate(zip(settings, [0.7, -1.5, 0.0], strict=True))
    ]
    answer = blend(ingredients, tmp_path / "out", "linear", 40)
    assert answer.rank == 40 and answer.verdict == "pass"
    assert not list(tmp_path.glob(".out*"))
    expected, found = with_peft(base, ingredients), with_peft(base, [(tmp_path / "out", 1.0)])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def with_peft(base: Path, adapters: list[Any]) -> torch.Tensor:
    """Return the logits of a base onto which PEFT has merged each adapter by itself, weighted."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    total = {name: value.clone() for name, value in before.items()}
    for one in adapters:
        folder, weight = (one.adapter.path, one.weight) if isinstance(one, Ingredient) else one
        fresh = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with tiny_models.quiet_peft():
            merged = PeftModel.from_pretrained(fresh, str(folder)).merge_and_unload().state_dict()
        for name, value in merged.items():
            total[name] += weight * (value - before[name])
    model.load_state_dict(total)
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("method", ["linear", "cat", "svd"])
def test_one_adapter_at_weight_1_is_itself(tmp_path: Path, base: Path, method: str) -> None:
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base, r=6, use_rslora=True))
    answer = blend([Ingredient(adapter, 1.0)], tmp_path / "out", method)
    assert answer.verdict == "pass" and answer.rank == 6
    again = AdapterFolder(tmp_path / "out")
    for update in adapter.updates():
        difference = dense(again.update(update.module)) - dense(update)
        assert float(difference.norm()) < 1e-6 * float(dense(update).norm())


def test_cat_takes_no_rank_below_the_sum(tmp_path: Path, base: Path) -> None:
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base, r=6))
    pair = [Ingredient(adapter, 1.0), Ingredient(adapter, 1.0)]
    check_cat_rank(pair, None)
    check_cat_rank(pair, 12)
    with pytest.raises(ExportError, match="add up to 12"):
        check_cat_rank(pair, 11)


def test_weights_that_overflow_and_unknown_settings_are_told(tmp_path: Path, base: Path) -> None:
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base))
    with pytest.raises(ExportError, match="overflows"):
        blend([Ingredient(adapter, 1e300)], tmp_path / "out", "linear")
    config = tmp_path / "one" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_new_thing": True}))
    answer = blend([Ingredient(AdapterFolder(tmp_path / "one"), 1.0)], tmp_path / "out", "linear")
    assert answer.verdict == "warn" and "use_new_thing" in (tmp_path / "out" / "blend.json").read_text()


def test_adapters_of_other_architectures_are_refused(tmp_path: Path, base: Path) -> None:
    plain = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "plain", base)), 1.0)
    gpt2 = tiny_models.save_model(tmp_path / "gpt2", "gpt2")
    other = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "other", gpt2, fan_in_fan_out=True)), 1.0)
    with pytest.raises(ExportError, match="named transformer"):
        check([plain, other])


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, base: Path) -> None:
    folder = tiny_models.save_adapter(tmp_path / "one", base)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ExportError, match="pickle can run code"):
        request = BlendRequest([WeightedAdapter(str(folder))], str(tmp_path / "out"))
        start_blend(open_workspace(tmp_path / "workspace"), request)


@pytest.mark.parametrize("wrong", ["off", "nan", "nothing"])
def test_a_blend_that_went_wrong_is_no_pass(tmp_path: Path, base: Path, wrong: str) -> None:
    part = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base)), 1.0)
    layers = {m: blend_layer([Part(part.adapter.update(m), 1.0)], "linear", None, 0.5, 0) for m in part.adapter.layers}
    first = min(layers)
    if wrong == "nothing":
        layers = {module: replace(layer, b=torch.zeros_like(layer.b)) for module, layer in layers.items()}
    else:
        layers[first] = replace(layers[first], relative_error=0.05 if wrong == "off" else float("nan"))
    answer = write(tmp_path / "out", [part], layers, BlendRequest([], "", "linear"))
    reason = json.loads((tmp_path / "out" / "blend.json").read_text())["reasons"][0]
    assert answer.verdict == "warn" and ("nothing" if wrong == "nothing" else "off by") in reason


@pytest.mark.parametrize("method", ["cat", "linear", "svd"])
@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0)])
def test_parts_that_cancel_each_other_out_are_told(
    tmp_path: Path, base: Path, method: str, weights: tuple[float, float]
) -> None:
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base, r=6))
    answer = blend([Ingredient(adapter, weight) for weight in weights], tmp_path / "out", method)
    assert answer.verdict == "warn"
    assert "changes nothing" in (tmp_path / "out" / "blend.json").read_text()


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_a_blend_that_was_not_written_as_it_was_made_is_refused(tmp_path: Path, base: Path, value: float) -> None:
    part = Ingredient(AdapterFolder(tiny_models.save_adapter(tmp_path / "one", base)), 1.0)
    layers = {m: blend_layer([Part(part.adapter.update(m), 1.0)], "cat", None, 0.5, 0) for m in part.adapter.layers}
    write(tmp_path / "out", [part], layers, BlendRequest([], "", "cat"))
    refuse_misread(tmp_path / "out", layers)
    first = min(layers)
    layers[first].b[0, 0] = value
    with pytest.raises(ExportError, match="not written as it was made"):
        refuse_misread(tmp_path / "out", layers)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [({"use_dora": True}, "erge it"), ({"layer_replication": [[0, 2], [1, 2]]}, "PEFT itself")],
)
def test_merge_and_blend_do_not_send_people_to_each_other(
    tmp_path: Path, base: Path, settings: dict[str, Any], advice: str
) -> None:
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "odd", base, **settings))
    for place in (lambda: check([Ingredient(adapter, 1.0)]), lambda: hand_over(adapter, "b", tmp_path)):
        with pytest.raises(ExportError) as caught:
            place()
        assert advice in caught.value.line()
    if "PEFT" not in advice:
        assert merge(adapter.path, tmp_path / "merged").is_dir()  # the advice works
    else:
        with pytest.raises(ExportError, match=r"layer_replication.*PEFT itself"):
            merge(adapter.path, tmp_path / "merged")
