"""On which size of card a run fits: for the settings at hand, and for a model in general."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from app.catalog.spec import ModelSpec
from app.errors import PlanError
from app.planner.estimate import estimate
from app.planner.parts.overhead import free_bytes
from app.planner.request import PlanRequest

# Sizes of cards that people have, in GB.
SIZES_GB = (6, 8, 12, 16, 24, 48, 80)
# What "it fits" means of a model without settings: QLoRA of rank 16 on rows of so many tokens, one at a time.
_TOKENS = 1024


def fitting(request: PlanRequest, sizes_gb: Sequence[int] = SIZES_GB) -> dict[int, bool]:
    """Return for each size whether a request for a card fits. Raises PlanError for what cannot be planned."""
    peak = estimate(request.changed(vram_gb=None, free_bytes=None)).device_peak
    free = {size: free_bytes(request.changed(vram_gb=size, free_bytes=None)) or 0 for size in sizes_gb}
    return {size: peak <= free[size] for size in sizes_gb}


@lru_cache(maxsize=512)
def least_gb(model: ModelSpec) -> int | None:
    """Return the smallest card on which QLoRA of a model fits, in GB; None where none does or it is not known.

    It takes about two milliseconds and is kept: a model that only a simulation can measure is not simulated for it.
    """
    try:
        fits = fitting(PlanRequest(model=model, method="qlora", rank=16, micro_batch=1, seq_len=_TOKENS))
    except PlanError:
        return None
    return next((size for size, enough in fits.items() if enough), None)
