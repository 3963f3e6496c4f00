"""Several adapters in one row, by weight: live, and the same as their blend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.engine.batching.adapter_stack import Mix
from app.engine.variants import BASE, VariantSet
from app.models.adapters import AdapterFolder
from app.models.identity import write_note
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
MIX = Mix((("plain", 0.6), ("rslora", -0.4), ("narrow", 1.5)))


def dense_logits(base: Path, adapters: dict[str, Path], mix: Mix, ids: torch.Tensor) -> torch.Tensor:
    """Return the last logits of a base whose weights were changed by the weighted updates."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in mix.parts:
            for part in AdapterFolder(adapters[name]).updates():
                model.get_submodule(part.module).weight += weight * part.scaling * (part.b @ part.a)
        return model(ids).logits[:, -1]


def test_a_mix_is_the_weighted_sum_of_the_updates(
    columns: VariantSet, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    expected = dense_logits(tiny_base, tiny_adapters, MIX, columns._probe)
    torch.testing.assert_close(columns._logits_of([MIX]), expected, rtol=1e-4, atol=1e-4)


def test_a_mix_beside_other_rows_changes_none_of_them(columns: VariantSet) -> None:
    sources: list[str | Mix] = [BASE, "plain", MIX, "patterned", Mix((("plain", 0.0),)), Mix((("plain", 1.0),))]
    together = columns._logits_of(sources)
    assert torch.equal(together[0], columns._logits_of([BASE] * len(sources))[0])
    assert torch.equal(together[4], together[0])
    torch.testing.assert_close(together[5], together[1])
    for row, source in enumerate(sources):
        torch.testing.assert_close(together[row], columns._logits_of([source])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("base_hash", "warned"), [("a" * 64, False), ("b" * 64, True), ("", False)])
def test_an_adapter_of_another_base_carries_a_warning(
    tiny_base: Path, tmp_path: Path, base_hash: str, warned: bool
) -> None:
    folder = tiny_models.save_adapter(tmp_path / "adapter", tiny_base)
    write_note(folder, "a" * 64)
    made = VariantSet(load_base(str(tiny_base), quant="none", dtype="fp32"), load_tokenizer(str(tiny_base)), base_hash)
    assert bool(made.add("mine", folder).warning) is warned
