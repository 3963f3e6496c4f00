"""One layer with adapters on it: every way of computing a batch is the plain sum, and a row of the base stays exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from app.engine.batching import stacked_layer
from app.engine.batching.adapter_stack import AdapterStack, Mix, Source
from app.models.adapters import LoraUpdate

RANKS = {"four": 4, "eight": 8, "six": 6}
MIXED: list[Source] = [None, "eight", "four", None, Mix((("six", 0.5), ("four", -2.0))), "eight", None]
STEADY: list[Source] = [None, "eight", None, "four", "six", None]
TWO: list[Source] = [Mix((("six", 0.5), ("four", -2.0))), "eight"]


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 96).requires_grad_(False)


@pytest.fixture
def updates() -> dict[str, LoraUpdate]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: LoraUpdate(
            "", torch.randn(rank, 64, generator=generator), torch.randn(96, rank, generator=generator), 2.0 / rank
        )
        for name, rank in RANKS.items()
    }


@pytest.fixture
def stack(layer: nn.Linear, updates: dict[str, LoraUpdate]) -> AdapterStack:
    made = AdapterStack({"": layer}, torch.float32)
    for name, update in updates.items():
        made.put(name, [update])
    return made


def dense(layer: nn.Linear, updates: dict[str, LoraUpdate], sources: list[Source], x: torch.Tensor) -> torch.Tensor:
    """Return the layer's output with every row's update added to the weight."""
    rows = []
    for row, source in enumerate(sources):
        parts = source.parts if isinstance(source, Mix) else ((source, 1.0),) if source else ()
        weight = layer.weight.clone()
        for name, factor in parts:
            weight += factor * updates[name].scaling * updates[name].b @ updates[name].a
        rows.append(nn.functional.linear(x[row], weight, layer.bias))
    return torch.stack(rows)


@pytest.mark.parametrize("length", [1, 3, 40])
@pytest.mark.parametrize("sources", [MIXED, STEADY, TWO, ["eight"] * 7, [None] * 7])
def test_each_row_gets_its_own_update_however_long_the_batch_goes_on(
    layer: nn.Linear, updates: dict[str, LoraUpdate], stack: AdapterStack, sources: list[Source], length: int
) -> None:
    for token in range(7):
        x = torch.randn(len(sources), length, 64, generator=torch.Generator().manual_seed(token))
        stack.route(sources)
        found = layer(x)
        torch.testing.assert_close(found, dense(layer, updates, sources, x), rtol=1e-4, atol=1e-4)
        stack.route(None)
        base = [row for row, source in enumerate(sources) if source is None]
        assert torch.equal(found[base], layer(x)[base])


def test_copies_are_made_for_a_batch_that_goes_on_and_leave_with_it(
    stack: AdapterStack, updates: dict[str, LoraUpdate]
) -> None:
    held = stack._layers[""]
    for _ in range(3):
        stack.route(STEADY)
        assert held.own is None
    stack.route(STEADY)
    assert held.own is not None and held.own[0] == slice(1, 5)
    stack.route(None)  # another lane's turn: the copies wait for this one's next
    stack.route(STEADY)
    assert held.own is not None
    stack.route(STEADY[1:])
    assert held.own is None
    for _ in range(4):
        stack.route(STEADY)
    stack.drop("six")
    assert held.own is None and stack.holds("eight", [updates["eight"]])


def test_no_copies_where_they_would_not_pay_or_not_fit(stack: AdapterStack, monkeypatch: pytest.MonkeyPatch) -> None:
    held, many = stack._layers[""], ["eight", "four"] * 10
    assert many.count("eight") * 2 * 8 > stacked_layer._COPIED_RANKS * sum(RANKS.values())
    for _ in range(5):
        stack.route(many)
    assert held.own is None
    monkeypatch.setattr("app.engine.batching.adapter_stack._MOST_COPIED_BYTES", 100)
    for _ in range(5):
        stack.route(STEADY)
    assert held.own is None
