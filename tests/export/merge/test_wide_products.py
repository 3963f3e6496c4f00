"""Products of bf16 weights in fp32 on a processor without bf16 instructions: by the formats that linear really gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from app import hardware
from app.export.merge import check, wide_products
from app.export.merge.wide_products import widen_products
from app.models.loading import load_base
from tests.models import tiny_models

IDS = torch.arange(3, 35).view(1, -1)


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> set[torch.dtype]:
    """The formats of all linear products from here on; the products themselves stay as they are."""
    seen: set[torch.dtype] = set()
    linear = nn.functional.linear

    def listening(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.update((x.dtype, weight.dtype))
        return linear(x, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", listening)
    return seen


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama in bf16 with biases in its attention."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    return tiny_models.save_model(folder, "llama", dtype=torch.bfloat16, attention_bias=True)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("quant", ["none", "nf4"])
@pytest.mark.parametrize("piece", [1 << 22, 1000])
def test_without_instructions_products_are_in_fp32_and_weights_stay(
    base: Path, quant: str, piece: int, formats: set[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: False)
    monkeypatch.setattr(wide_products, "_PIECE", piece)
    model = load_base(str(base), quant=quant, dtype="bf16")  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = logits(model)
    assert torch.bfloat16 in formats
    formats.clear()
    assert widen_products(model) == 2 * 7 + 1
    wide = logits(model)
    assert formats == {torch.float32} and wide.dtype == torch.bfloat16
    assert (wide - plain).abs().max() < 0.05 * plain.abs().max()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(after[name].dtype == one.dtype and torch.equal(after[name], one) for name, one in before.items())


def test_with_instructions_and_in_fp32_nothing_changes(
    base: Path, formats: set[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: True)
    model = load_base(str(base), quant="none", dtype="bf16")
    assert widen_products(model) == 0
    logits(model)
    assert formats == {torch.bfloat16}
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: False)
    assert widen_products(load_base(str(base), quant="none", dtype="fp32")) == 0


@pytest.mark.parametrize("has", [True, False])
def test_the_check_of_a_merge_that_has_no_room_for_fp32(
    base: Path, tmp_path: Path, has: bool, formats: set[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: has)
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    formats.clear()
    found = check.measure(base, adapter, base, "bf16", nf4=True)
    assert (torch.bfloat16 in formats) is has
    assert found.dtype == "bf16" and found.nf4_base is not None and found.nf4_base.mean_kl > 0
    assert found.merged.mean_kl == pytest.approx(found.base.mean_kl, rel=0.05)  # the "merged" model is the base
