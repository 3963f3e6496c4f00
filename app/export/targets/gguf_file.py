"""The GGUF file of an export: written in the format asked for, or in the smallest that still answers as it should."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.errors import ExportError
from app.evaluation.suites import read_suite
from app.export.gguf.model import GgufFile, Importance, refuse_unfit_tokenizer, write_model
from app.export.gguf.quality import probes, proof
from app.export.gguf.quality.probes import HeldOut
from app.export.gguf.quality.proof import Proof, Reference
from app.export.gguf.quantization import importance, llama_cpp
from app.export.gguf.quantization.formats import FORMATS
from app.export.merge.base_model import BaseModel
from app.export.merge.job import allowed_memory
from app.export.requests import Bound, ExportRequest, Tried
from app.export.staging import opened
from app.export.targets.report import ExportReceipt
from app.export.targets.turn_format import Turns


@dataclass(frozen=True)
class Made:
    """The file that stays, its format, how it answers in llama.cpp (None: not measured), and all that were tried."""

    file: GgufFile
    dtype: str
    proof: Proof | None
    tried: list[Tried] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class Maker:
    """What every file of an export has in common. `stem` is the file's name without its format.

    beside: where a file is written until it is whole; one that was broken off is gone on with by the next export of the
    same values to the same place.
    """

    request: ExportRequest
    model: BaseModel
    turns: Turns
    folder: Path
    stem: str
    beside: Path
    pause: Callable[[], None]
    progress: Callable[[int, int, str], None]

    def make(self, receipt: ExportReceipt) -> Made:
        """Write the file and put what was found on the receipt. Raises ExportError."""
        refuse_unfit_tokenizer(self.model, self.turns)
        wanted, memory = self.request.smallest, allowed_memory(self.request.max_ram_bytes)
        if wanted or FORMATS[self.request.dtype].is_mix:
            self.progress(0, 1, f"fetching llama.cpp ({llama_cpp.DOWNLOAD})")
            llama_cpp.fetch()
        held_out = self._held_out(memory)
        reference = self._reference(memory, held_out, receipt)
        weights = self._importance(memory, held_out, receipt)
        made = self._smallest(Bound.of(wanted), reference, weights) if wanted else self._one(reference, weights)
        _note(receipt, made)
        return made

    def _held_out(self, memory: int) -> HeldOut:
        """Return the rows of the named file, else those that the adapter's run kept back."""
        request, folder = self.request, self.model.folder
        places = proof.most_places(folder, memory)
        if request.rows:
            return probes.rows_of_file(folder, Path(request.rows), places)
        return probes.rows_of_run(Path(request.adapter), places) if request.adapter else HeldOut([], frozenset())

    def _reference(self, memory: int, held_out: HeldOut, receipt: ExportReceipt) -> Reference | None:
        """Return what the 16-bit model says, where llama.cpp is here to be held against it."""
        if not llama_cpp.is_here():
            receipt.notes.append("Not run in llama.cpp, which is not installed; a format smaller than q8_0 brings it.")
            return None
        self.progress(0, 1, "asking the 16-bit model")
        suite = read_suite(Path(self.request.suite)) if self.request.suite else ()
        found = proof.reference_of(self.model.folder, self._parameters, memory, held_out.texts, suite)
        if found is None:
            receipt.untold.append(
                f"not compared in llama.cpp: the 16-bit model does not fit into {memory / 1e9:.1f} GB; raise --max-ram"
            )
        return found

    def _importance(self, memory: int, held_out: HeldOut, receipt: ExportReceipt) -> Importance:
        if not self.request.imatrix:
            return {}
        self.progress(0, 1, "weighing columns by your rows")
        found = importance.collect(self.model, Path(self.request.imatrix), self._parameters, memory, held_out.ids)
        receipt.facts["imatrix"] = {"rows": found.rows, "tokens": found.tokens, "sha256": found.sha256}
        receipt.lines.append(f"- Columns weighed by {found.tokens} tokens of {found.rows} rows")
        return found.columns

    @property
    def _parameters(self) -> int:
        return sum(tensor.rows * tensor.row_elements for tensor in self.model.tensors.values())

    def _one(self, reference: Reference | None, weights: Importance) -> Made:
        dtype = self.request.dtype
        file = self._written(dtype, weights)
        found = self._proven(file, reference) if reference else None
        return Made(file, dtype, found, bytes=file.path.stat().st_size)

    def _smallest(self, bound: Bound, reference: Reference | None, weights: Importance) -> Made:
        """Try the formats from the smallest on until one is within the bound; keep that file alone."""
        if reference is None:
            raise ExportError(
                "The smallest file cannot be looked for",
                "the 16-bit model does not fit into the memory, so no file can be held against it",
                "raise --max-ram, or name a format",
            )
        tried: list[Tried] = []
        for dtype in reversed(FORMATS):
            if dtype == "bf16":  # as large as f16
                continue
            file = self._written(dtype, weights)
            found, size = self._proven(file, reference), file.path.stat().st_size
            score = found.suite.passed if found.suite else None
            passed = bound.holds(found.agreement, found.mean_kl, score)
            tried.append(Tried(dtype, size, found.agreement, found.mean_kl, passed, score))
            if passed:
                return Made(file, dtype, found, tried, size)
            file.path.unlink()
        best = max(tried, key=lambda one: (one.suite or 0.0, one.agreement, -one.mean_kl))
        raise ExportError(
            f"No format is within {bound.text}",
            f"the best, {best.dtype}, has agreement {best.agreement:.3f}, KL {best.mean_kl:.4f}{_suite(best)}",
            "give a wider bound",
        )

    def _proven(self, file: GgufFile, reference: Reference) -> Proof:
        self.progress(0, 1, "running in llama.cpp")
        return proof.prove(file.path, reference, self.model.config)

    def _written(self, dtype: str, weights: Importance) -> GgufFile:
        name = f"{self.stem}-{dtype}.gguf"
        beside = self.beside.with_name(f"{self.beside.name}.{dtype}")
        with opened(beside, self._digest(dtype, weights), self.model.bytes) as parts:
            file = write_model(
                self.model,
                self.turns,
                parts.folder / name,
                dtype,
                allowed_memory(self.request.max_ram_bytes),
                name=self.stem,
                importance=weights,
                pause=self.pause,
                progress=self.progress,
            )
            file.path.replace(self.folder / name)
        return replace(file, path=self.folder / name)

    def _digest(self, dtype: str, weights: Importance) -> str:
        """Hash what the values of a file come from: the files of weights as they lie there, and what is counted."""
        stats = [(path.name, path.stat()) for path in sorted(self.model.folder.glob("*.safetensors"))]
        of = [dtype, self.stem, llama_cpp.WHEEL, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]
        digest = hashlib.sha256(json.dumps(of).encode())
        for name, columns in sorted(weights.items()):
            digest.update(name.encode() + columns.tobytes())
        return digest.hexdigest()


def _note(receipt: ExportReceipt, made: Made) -> None:
    note_file(receipt, made.file, made.dtype)
    if made.tried:
        receipt.facts["tried"] = [one.as_dict() for one in made.tried]
        receipt.lines += [
            f"- {one.dtype}: {one.bytes / 1e6:,.1f} MB, agreement {one.agreement:.3f}, KL {one.mean_kl:.4f}"
            f"{_suite(one)}, {'kept' if one.passed else 'outside of the bound'}"
            for one in made.tried
        ]
    found = made.proof
    if found is None:
        return
    receipt.facts["llama.cpp"] = {"wheel": llama_cpp.WHEEL, **found.as_dict()}
    receipt.lines += _told(found)
    if found.agreement < proof.LEAST_AGREEMENT and not made.tried:
        receipt.reasons.append(
            f"in llama.cpp the {made.dtype} file chooses another token than the 16-bit model at "
            f"{1 - found.agreement:.0%} of {found.tokens} places; a larger format stays closer"
        )
    score = found.suite
    if score and score.passed < score.passed_16bit * proof.LEAST_AGREEMENT and not made.tried:
        receipt.reasons.append(
            f"in llama.cpp the {made.dtype} file passes {score.passed:.0%} of the suite's {score.prompts} prompts, the "
            f"16-bit model {score.passed_16bit:.0%}; a larger format stays closer, or --smallest suite=0.9 finds one"
        )


def _suite(one: Tried) -> str:
    return "" if one.suite is None else f", {one.suite:.1%} of the suite passed"


def _told(found: Proof) -> list[str]:
    """Return what running a file found, as lines of a receipt."""
    lines = []
    for name, part in (("the model's own answers", found.prompts), ("held-out rows", found.rows)):
        if part is not None:
            lines.append(
                f"- Run in llama.cpp on {name}: the 16-bit model's next token at {part.agreement:.1%} of {part.tokens} "
                f"places, mean KL {part.mean_kl:.2e}"
            )
    if found.suite:
        score = found.suite
        lines.append(
            f"- Suite of {score.prompts} prompts: {score.passed:.1%} passed in llama.cpp, {score.passed_16bit:.1%} "
            "by the 16-bit model"
        )
    lines.append(f"- {found.tokens_per_s:.1f} tokens a second on this processor")
    memory = ", ".join(f"{size / 1e9:.2f} GB at {name} tokens" for name, size in found.memory.items())
    return [*lines, f"- Memory of weights and cache: {memory}"] if memory else lines


def note_file(receipt: ExportReceipt, file: GgufFile, dtype: str) -> None:
    """Put a file and what reading it back found onto the receipt."""
    written = file.written
    receipt.facts["gguf"] = {"file": file.path.name, "sha256": file.sha256, "dtype": dtype, **written.as_dict()}
    receipt.notes += file.notes
    receipt.lines.append(
        f"- `{file.path.name}` {file.sha256}: {written.tensors} tensors read back, largest difference from the merged "
        f"weights {written.max_abs_error:.2e}"
    )
    if not written.as_expected:
        receipt.reasons.append(f"{written.beyond_rounding} values are further off than {dtype} explains")
