"""Write the files of a merged model into its draft, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch

from app.export.base_model import BaseModel
from app.export.folder import Draft, copy_small_files, write_config
from app.export.merge import Updates, block_elements, merged_blocks
from app.export.plan import Plan
from app.export.shards import ShardWriter, write_index
from app.models.adapters import AdapterFolder


def write_shards(
    adapter: AdapterFolder,
    plan: Plan,
    draft: Draft,
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
        if draft.has(name):
            done += sum(outline.bytes for outline in outlines)
            continue
        with ShardWriter(draft.path / name, outlines) as writer:
            for outline in outlines:
                writer.put(outline, merged_blocks(plan.outputs[outline.name], updates, elements, pause))
                done += outline.bytes
                progress(done)
            draft.record(name, writer.finish())


def write_surroundings(
    base: BaseModel, adapter: AdapterFolder, plan: Plan, draft: Draft, dtype: torch.dtype | None
) -> None:
    """Write everything that a model folder needs beside its weights."""
    write_index(draft.path, plan.shards)
    write_config(draft, base, plan, dtype)
    copy_small_files(draft, base, adapter)
