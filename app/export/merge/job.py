"""The merge's child: stream, check, write the receipt, move into place."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from app.errors import ExportError, MemoryShortError, ModelError
from app.export.merge import mxfp4_base
from app.export.merge.base_model import (
    BaseModel,
    base_place,
    is_quantised,
    public_name,
    trained_on_a_copy,
    training_quantization,
)
from app.export.merge.check import Measurement, fitting_dtype, measure
from app.export.merge.dequantise import NOTE, write_copy
from app.export.merge.plan import Plan, make_plan
from app.export.merge.report import Receipt, Source, peak_rss_bytes
from app.export.merge.shards import SHARD_BYTES
from app.export.merge.streaming import write_shards, write_surroundings
from app.export.requests import MergeRequest
from app.export.staging import Staging, opened, refuse_existing
from app.jobs.child import JobChild, Outcome, Result
from app.models.adapter_files import CONFIG_FILE
from app.models.adapters import AdapterFolder
from app.models.identity import base_warning, fingerprint, noted_base
from app.models.loading import resolve_dtype
from app.workspace import file_sha256

_LEAST_RAM_BYTES = 64 << 20


class Stopped(Exception):
    """The job was asked to stop; what is complete stays where it is."""


def run(child: JobChild) -> tuple[Outcome, Result]:
    """Merge, and return the figures that `merge --json` answers."""
    request = child.request(MergeRequest)
    out = Path(request.out)
    refuse_existing(out)
    try:
        merge = Merge.prepare(child, request)
        with opened(out, merge.plan.digest, merge.plan.bytes) as staging:
            receipt = merge.write(staging, out.name)
            receipt.write(staging.folder)
            staging.publish()
            return "finished", asdict(receipt.answer(out))
    except Stopped:
        return "stopped", {}
    finally:
        shutil.rmtree(child.directory.path / "base", ignore_errors=True)


@dataclass(frozen=True)
class Merge:
    """A merge, ready to be written. `began` is the monotonic time at which it was asked for."""

    child: JobChild
    base: BaseModel
    adapter: AdapterFolder
    plan: Plan
    dtype: torch.dtype | None
    max_ram_bytes: int
    began: float
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @classmethod
    def prepare(cls, child: JobChild, request: MergeRequest) -> Merge:
        """Read both models' headers and plan. Raises ExportError for what cannot be merged."""
        began = time.monotonic()
        child.progress(0, 0, "reading the models")
        adapter = AdapterFolder(Path(request.adapter))
        base, notes, doubts = _base(child, adapter, request)
        dtype = resolve_dtype(request.dtype) if request.dtype else None
        plan = make_plan(base, adapter, dtype, SHARD_BYTES)
        memory = allowed_memory(request.max_ram_bytes)
        return cls(child, base, adapter, plan, dtype, memory, began, notes, doubts)

    def write(self, staging: Staging, name: str) -> Receipt:
        """Write a model folder into its staging folder, check it, and return its receipt. Raises Stopped."""
        baseline = psutil.Process().memory_info().rss
        write_shards(self.adapter, self.plan, staging, self.max_ram_bytes, pause=self.pause, progress=self._progress)
        merged_after, peak = time.monotonic() - self.began, peak_rss_bytes()
        write_surroundings(self.base, self.adapter, self.plan, staging.folder, self.dtype)
        measured, reason = self._check(staging.folder)
        return self._receipt(name, staging, merged_after, baseline, peak, measured, reason)

    def pause(self) -> None:
        """Raise Stopped when the job shall end."""
        if self.child.stop_requested():
            raise Stopped

    def _progress(self, done_bytes: int) -> None:
        self.child.progress(done_bytes >> 20, self.plan.bytes >> 20, "merging")

    def _check(self, folder: Path) -> tuple[Measurement | None, str]:
        """Compare the merged model with its parts, if the memory allows it; else say why not."""
        self.pause()
        vocabulary = self.base.config.get_text_config(decoder=True).vocab_size
        dtype = fitting_dtype(self.base.parameters, vocabulary, self.max_ram_bytes)
        if dtype is None:
            return None, (
                f"{self.base.parameters / 1e9:.2f} billion weights do not fit into "
                f"{self.max_ram_bytes / 2**30:.1f} GiB that it may take"
            )
        trained = training_quantization(self.adapter.path)
        nf4 = trained is None or bool(trained.get("load_in_4bit"))
        self.child.progress(self.plan.bytes >> 20, self.plan.bytes >> 20, "checking")
        try:
            return measure(self.base.folder, self.adapter.path, folder, dtype, nf4=nf4), ""
        except (ModelError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            # Without a tokenizer, or where PEFT does not take this adapter, nothing can be compared; the merge needs
            # neither. The error may name folders of this machine, so it goes to the log alone.
            print(f"the check failed: {type(error).__name__}: {error}", flush=True)
            return None, "base, adapter and tokenizer do not load together here; the job's log says why"

    def _receipt(
        self,
        name: str,
        staging: Staging,
        merge_seconds: float,
        baseline: int,
        peak: int,
        measured: Measurement | None,
        reason: str,
    ) -> Receipt:
        files = sorted({tensor.file for tensor in self.base.tensors.values()})
        own = (self.adapter.weights_file, self.adapter.path / CONFIG_FILE)
        dtypes = sorted({str(output.outline.dtype).removeprefix("torch.") for output in self.plan.outputs.values()})
        notes = [*self.notes, *filter(None, [mxfp4_base.note(self.base.tensors)])]
        if self.plan.untied:
            why = "the adapter changes one end only" if self.base.tied else "the base holds two different matrices"
            notes.append(f"Embeddings and output layer are not tied in the merged model: {why}.")
        return Receipt(
            model=name,
            adapter=Source(self.adapter.hash, _hashes(own)),
            base=Source(public_name(self.base.name), _hashes([self.base.folder / "config.json", *files])),
            dtype=", ".join(dtypes),
            shards=staging.hashes,
            merge_seconds=merge_seconds,
            seconds=time.monotonic() - self.began,
            baseline_rss_bytes=baseline,
            peak_rss_bytes=peak,
            max_ram_bytes=self.max_ram_bytes,
            measured=measured,
            not_measured=reason,
            notes=notes,
            doubts=list(self.doubts),
        )


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in files}


def _base(
    child: JobChild, adapter: AdapterFolder, request: MergeRequest
) -> tuple[BaseModel, tuple[str, ...], tuple[str, ...]]:
    """Return the base, notes and doubts; a base in 4 bits is copied into the job's folder where the person insists."""
    name, folder = base_place(adapter, request.base)
    if not request.dequantise or not is_quantised(folder):
        base = BaseModel(name, folder)
        return base, (), tuple(doubts(adapter, folder))

    def pause() -> None:
        if child.stop_requested():
            raise Stopped

    child.progress(0, 0, "dequantising the base")
    copy = child.directory.path / "base"
    write_copy(folder, copy, pause)
    return BaseModel(name, copy), (NOTE,), tuple(doubts(adapter, folder))


def doubts(adapter: AdapterFolder, base: Path) -> Iterator[str]:
    """Yield what makes a merge doubtful before it is measured: unknown settings, and another base than in training."""
    for name in adapter.unknown:
        yield f"the setting {name} is not known here and was taken to change nothing"
    if noted_base(adapter.path) and not trained_on_a_copy(adapter):
        warning = base_warning(adapter.path, fingerprint(str(base)))
        yield from [f"the adapter was {warning}"] if warning else []


def allowed_memory(wanted: int | None) -> int:
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
