"""What an optimiser keeps for each trained number, by its name."""

from __future__ import annotations

from typing import get_args

import pytest

from app.planner.parts.optimizer import state_bytes, step_scratch_bytes
from app.planner.request import Optimizer

LARGE = [(1 << 20, 1)]


def names() -> list[Optimizer]:
    """Return every optimiser that a request may name."""
    return [name for one in get_args(Optimizer) for name in (get_args(one) or (one,))]


@pytest.mark.parametrize("name", names())
def test_every_optimiser_that_can_be_chosen_can_be_planned(name: Optimizer) -> None:
    assert 0 <= state_bytes(name, LARGE, 4) <= 8 << 20 and step_scratch_bytes(name, 100) in (0, 100)


def test_eight_bits_are_a_quarter_and_small_tensors_keep_theirs_in_fp32() -> None:
    whole, eight = state_bytes("adamw_torch", LARGE, 4), state_bytes("adamw_8bit", LARGE, 4)
    assert whole == 8 << 20 and 0.25 < eight / whole < 0.26
    assert state_bytes("adamw_8bit", [(4095, 2)], 2) == 8 * 4095 * 2
    assert state_bytes("lion_8bit", [(4095, 2)], 2) == 4 * 4095 * 2
    assert state_bytes("adamw_torch", [(4095, 2)], 2) == 4 * 4095 * 2


def test_states_follow_the_parameters_own_size_where_torch_makes_them() -> None:
    assert state_bytes("adamw_torch_fused", LARGE, 2) * 2 == state_bytes("adamw_torch_fused", LARGE, 4)
    assert state_bytes("paged_adamw_32bit", LARGE, 2) == state_bytes("paged_adamw_32bit", LARGE, 4)
