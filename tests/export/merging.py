"""Run a merge without a job, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from app.export.merge.base_model import find_base
from app.export.merge.plan import make_plan
from app.export.merge.streaming import write_shards, write_surroundings
from app.export.staging import opened
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
    with opened(out, plan.digest, plan.bytes) as staging:
        write_shards(adapter, plan, staging, max_ram_bytes, pause=pause)
        write_surroundings(found, adapter, plan, staging.folder, dtype)
        staging.publish()
    return out
