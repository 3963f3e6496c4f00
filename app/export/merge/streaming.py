"""Write the files of a merged model into its staging folder, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from app.export.merge.addition import Updates, block_elements, merged_blocks
from app.export.merge.base_model import BaseModel
from app.export.merge.model_folder import copy_small_files, write_config
from app.export.merge.plan import Plan
from app.export.merge.shards import ShardWriter, write_index
from app.export.staging import Staging
from app.models.adapters import AdapterFolder


def write_shards(
    adapter: AdapterFolder,
    plan: Plan,
    staging: Staging,
    max_ram_bytes: int,
    *,
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the shards that are not there yet.

    `pause` is called before each block and may raise to stop; `progress` hears the bytes done. A shard that is
    complete stays, whatever happens later.
    """
    elements, updates, done = block_elements(max_ram_bytes), Updates(adapter), 0
    for name, outlines in plan.shards.items():
        if staging.has(name):
            done += sum(outline.bytes for outline in outlines)
            continue
        with ShardWriter(staging.folder / name, outlines) as writer:
            for outline in outlines:
                writer.put(outline, merged_blocks(plan.outputs[outline.name], updates, elements, pause))
                done += outline.bytes
                progress(done)
            staging.record(name, writer.finish())


def write_surroundings(
    base: BaseModel, adapter: AdapterFolder, plan: Plan, folder: Path, dtype: torch.dtype | None
) -> None:
    """Write everything that a model folder needs beside its weights."""
    write_index(folder, plan.shards)
    write_config(folder, base, plan, dtype)
    copy_small_files(folder, base, adapter)
