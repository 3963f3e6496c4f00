"""The likelihoods of many columns in one pass are those that the plain model, and PEFT, give to one row at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from app.engine.batching.adapter_stack import Mix
from app.engine.variants import VariantSet
from app.evaluation.held_out import likelihood
from app.evaluation.held_out.cases import Passage
from app.evaluation.held_out.likelihood import likelihoods
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
PASSAGES = [
    Passage(list(range(20, 30)), ((6, 10),)),
    Passage(list(range(40, 90)), ((10, 14), (40, 50))),
    Passage([7, 8, 9], ((1, 3),)),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("likelihood") / "base", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def adapters(base: Path) -> dict[str, Path]:
    made = {"plain": {"r": 8}, "narrow": {"r": 4, "target_modules": ["q_proj"]}, "dora": {"r": 4, "use_dora": True}}
    return {
        name: tiny_models.save_adapter(base.parent / name, base, seed=seed, **settings)
        for seed, (name, settings) in enumerate(made.items())
    }


@pytest.fixture(scope="module")
def columns(base: Path, adapters: dict[str, Path]) -> VariantSet:
    made = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    for name, folder in adapters.items():
        made.add(name, folder)
    return made


def _alone(model: torch.nn.Module, passage: Passage) -> tuple[float, torch.Tensor]:
    """Return the log-probability of the trained tokens and the distributions that predict them."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([passage.ids])).logits[0].float().log_softmax(-1)
    places = [token for low, high in passage.trained for token in range(low, high)]
    rows = logprobs[[token - 1 for token in places]]
    return float(rows.gather(1, torch.tensor([[passage.ids[token]] for token in places])).sum()), rows


@pytest.mark.parametrize("room", [likelihood._LOGIT_BYTES, 3000])
def test_every_column_gets_the_likelihood_it_has_alone(
    columns: VariantSet, base: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(likelihood, "_LOGIT_BYTES", room)
    if room < 10_000:
        monkeypatch.setattr(likelihood, "_PASS_TOKENS", 64)  # parts on a cache, and several batches
    names = ["base", "plain", "narrow", "dora"]
    found = likelihoods(columns, PASSAGES, names, divergence=True)
    assert found is not None
    for place, passage in enumerate(PASSAGES):
        plain, before = _alone(load_base(str(base), quant="none", dtype="fp32"), passage)
        for number, name in enumerate(names):
            model = load_base(str(base), quant="none", dtype="fp32")
            model = model if name == "base" else PeftModel.from_pretrained(model, str(adapters[name])).eval()
            logprob, after = _alone(model, passage)
            kl = float((before.exp() * (before - after)).sum())
            one = found[place][number]
            assert one.tokens == passage.count
            assert one.logprob == pytest.approx(logprob, rel=1e-4, abs=1e-4)
            assert one.divergence == pytest.approx(kl, rel=1e-3, abs=1e-4)
        assert found[place][0].loss == pytest.approx(-plain / passage.count, rel=1e-5)


def test_a_weight_goes_from_the_base_to_the_adapter_and_beyond(columns: VariantSet) -> None:
    sources = ["base", *(Mix((("plain", weight),)) for weight in (0.0, 0.5, 1.0, 1.5)), "plain"]
    found = likelihoods(columns, PASSAGES, sources, divergence=True)
    assert found is not None
    base, none, half, whole, more, plain = found[1]
    assert none.logprob == pytest.approx(base.logprob, abs=1e-4) and none.divergence < 1e-6
    assert whole.logprob == pytest.approx(plain.logprob, abs=1e-4)
    assert 0 < half.divergence < whole.divergence < more.divergence
    assert math.isclose(whole.divergence, plain.divergence, rel_tol=1e-3)


def test_a_stop_ends_it_between_two_batches(columns: VariantSet) -> None:
    assert likelihoods(columns, PASSAGES, ["base"], measured=lambda count: False) is None
