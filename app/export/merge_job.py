"""The merge's child: stream, check, write the receipt, move into place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from app.errors import ExportError, MemoryShortError
from app.export.base_model import BaseModel, find_base, training_quantization
from app.export.check import Measurement, fitting_dtype, measure
from app.export.folder import Draft, opened, refuse_existing
from app.export.plan import Plan, make_plan
from app.export.receipt import Receipt, peak_rss_bytes
from app.export.shards import SHARD_BYTES
from app.export.streaming import write_shards, write_surroundings
from app.jobs.child import JobChild, Outcome
from app.models.adapters import CONFIG_FILE, AdapterFolder
from app.models.loading import resolve_dtype
from app.workspace import file_sha256

_LEAST_RAM_BYTES = 64 << 20


class _Stopped(Exception):
    """The job was asked to stop; what is complete stays in the draft."""


def run(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Merge, and return the figures that `merge --json` answers."""
    began, config = time.monotonic(), child.config
    out = Path(config["out"])
    refuse_existing(out)
    child.progress(0, 0, "reading the models")
    adapter = AdapterFolder(Path(config["adapter"]))
    base = find_base(adapter, config.get("base"))
    dtype = resolve_dtype(config["dtype"]) if config.get("dtype") else None
    max_ram_bytes = _memory(config.get("max_ram_bytes"))
    plan = make_plan(base, adapter, dtype, int(config.get("shard_bytes") or SHARD_BYTES))
    try:
        with opened(out, plan) as draft:
            return "finished", _Merge(child, base, adapter, plan, draft, max_ram_bytes, began).run(out, dtype)
    except _Stopped:
        return "stopped", {}


class _Merge:
    """One merge under way."""

    def __init__(
        self,
        child: JobChild,
        base: BaseModel,
        adapter: AdapterFolder,
        plan: Plan,
        draft: Draft,
        max_ram_bytes: int,
        began: float,
    ) -> None:
        self._child, self._base, self._adapter, self._plan, self._draft = child, base, adapter, plan, draft
        self._max_ram_bytes, self._began = max_ram_bytes, began

    def run(self, out: Path, dtype: torch.dtype | None) -> dict[str, Any]:
        """Write everything, check it, and put it in its place."""
        baseline = psutil.Process().memory_info().rss
        write_shards(
            self._adapter, self._plan, self._draft, self._max_ram_bytes, pause=self._pause, progress=self._progress
        )
        merged_after, peak = time.monotonic(), peak_rss_bytes()
        write_surroundings(self._base, self._adapter, self._plan, self._draft, dtype)
        measured, reason = self._check()
        receipt = self._receipt(out, merged_after - self._began, baseline, peak, measured, reason)
        receipt.write(self._draft.path)
        self._draft.publish()
        return receipt.answer(out)

    def _progress(self, done_bytes: int) -> None:
        self._child.progress(done_bytes >> 20, self._plan.bytes >> 20, "merging")

    def _pause(self) -> None:
        if self._child.stop_requested():
            raise _Stopped

    def _check(self) -> tuple[Measurement | None, str]:
        """Compare the merged model with its parts, if the memory allows it; else say why not."""
        self._pause()
        vocabulary = self._base.config.get_text_config(decoder=True).vocab_size
        dtype = fitting_dtype(self._base.parameters, vocabulary, self._max_ram_bytes)
        if dtype is None:
            return None, (
                f"{self._base.parameters / 1e9:.2f} billion weights do not fit into "
                f"{self._max_ram_bytes / 2**30:.1f} GiB; allow more with --max-ram"
            )
        trained = training_quantization(self._adapter.path)
        nf4 = trained is None or bool(trained.get("load_in_4bit"))
        self._child.progress(self._plan.bytes >> 20, self._plan.bytes >> 20, "checking")
        return measure(self._base.folder, self._adapter.path, self._draft.path, dtype, nf4=nf4), ""

    def _receipt(
        self, out: Path, merge_seconds: float, baseline: int, peak: int, measured: Measurement | None, reason: str
    ) -> Receipt:
        files = sorted({tensor.file for tensor in self._base.tensors.values()})
        own = (self._adapter.weights_file, self._adapter.path / CONFIG_FILE)
        dtypes = sorted({str(output.outline.dtype).removeprefix("torch.") for output in self._plan.outputs.values()})
        notes = ["The embeddings are no longer tied: the adapter changes one end only."] if self._plan.untied else []
        return Receipt(
            model=out.name,
            adapter={"hash": self._adapter.hash, "files": {path.name: file_sha256(path) for path in own}},
            base={
                "name": _public_name(self._base.name),
                "files": {path.name: file_sha256(path) for path in [self._base.folder / "config.json", *files]},
            },
            dtype=", ".join(dtypes),
            shards=self._draft.shard_hashes,
            merge_seconds=merge_seconds,
            seconds=time.monotonic() - self._began,
            baseline_rss_bytes=baseline,
            peak_rss_bytes=peak,
            max_ram_bytes=self._max_ram_bytes,
            measured=measured,
            not_measured=reason,
            notes=notes,
        )


def _public_name(name: str) -> str:
    """Return a base's name without the folders of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def _memory(wanted: int | None) -> int:
    """Return the memory to stay within. Raises MemoryShortError when the machine has less free."""
    available = int(psutil.virtual_memory().available)
    limit = available // 2 if wanted is None else int(wanted)
    if limit < _LEAST_RAM_BYTES:
        raise ExportError(
            f"{limit / 2**20:.0f} MiB are too little for a merge", "a block needs room", "allow 64 MiB or more"
        )
    if available < _LEAST_RAM_BYTES:
        raise MemoryShortError(
            f"Only {available / 2**20:.0f} MiB of memory are free", "a merge needs 64 MiB", "close other programs"
        )
    return min(limit, available)
