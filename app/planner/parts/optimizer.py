"""Bytes of the optimiser: its states at rest, and what its step needs for a moment."""

from __future__ import annotations

from collections.abc import Sequence

from app.planner.request import Optimizer

# Bytes of state for one trained number, apart from those that follow the parameter's own item size.
# 8-bit states of bitsandbytes: one byte each and one fp32 maximum for 256 of them.
_EIGHT_BIT = 1 + 4 / 256
_STATES: dict[Optimizer, tuple[float, int]] = {
    # (bytes of fixed size, states in the parameter's item size)
    "adamw_torch": (0.0, 2),
    "adamw_torch_fused": (0.0, 2),
    "adamw_8bit": (2 * _EIGHT_BIT, 0),
    "adamw_bnb_8bit": (2 * _EIGHT_BIT, 0),
    "paged_adamw_8bit": (2 * _EIGHT_BIT, 0),
    "paged_adamw_32bit": (8.0, 0),
    "lion_32bit": (4.0, 0),
    "lion_8bit": (_EIGHT_BIT, 0),
    "adafactor": (0.0, 0),
    "sgd": (0.0, 0),
    "sgd_momentum": (0.0, 1),
    "lora_fa": (0.0, 2),
}
# bitsandbytes pages and quantises only tensors of at least these many elements.
PAGED_ELEMENTS = 100_000
EIGHT_BIT_ELEMENTS = 4096


def is_paged(optimizer: Optimizer) -> bool:
    """Tell whether large states live in unified memory, which may be on the card or not."""
    return optimizer.startswith("paged_")


def state_bytes(optimizer: Optimizer, sizes: Sequence[tuple[int, int]], itemsize: int) -> int:
    """Return the states' bytes on the card for trained tensors given as (elements, how many of them).

    Small tensors keep fp32 states in 8-bit optimisers. Paged states of large tensors are counted on the card: they are
    there while the optimiser steps.
    """
    fixed, following = _STATES[optimizer]
    total = 0.0
    for elements, count in sizes:
        small = "8bit" in optimizer and elements < EIGHT_BIT_ELEMENTS
        each = (4.0 if optimizer.startswith("lion") else 8.0) if small else fixed + following * itemsize
        total += each * elements * count
    return int(total)


def step_scratch_bytes(optimizer: Optimizer, trained_bytes: int) -> int:
    """Return what the optimiser's step allocates for a moment.

    torch's multi-tensor AdamW takes the square root of all second moments at once (torch/optim/adamw.py); the fused
    and the bitsandbytes kernels work in place; Adafactor builds its update, parameter by parameter, in fp32.
    """
    return trained_bytes if optimizer == "adamw_torch" else 0
