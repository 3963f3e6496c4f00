"""Run a merge without a job, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from app.export.base_model import find_base
from app.export.folder import opened
from app.export.plan import make_plan
from app.export.streaming import write_shards, write_surroundings
from app.models.adapters import AdapterFolder


def merge(
    adapter_folder: Path,
    out: Path,
    *,
    base: str | None = None,
    dtype: torch.dtype | None = None,
    max_ram_bytes: int = 64 << 10,
    shard_bytes: int = 300_000,
    pause: Callable[[], None] = lambda: None,
) -> Path:
    """Merge with tiny blocks and shards, so that every seam is crossed, and return `out`."""
    adapter = AdapterFolder(adapter_folder)
    found = find_base(adapter, base)
    plan = make_plan(found, adapter, dtype, shard_bytes)
    with opened(out, plan) as draft:
        write_shards(adapter, plan, draft, max_ram_bytes, pause=pause)
        write_surroundings(found, adapter, plan, draft, dtype)
        draft.publish()
    return out
