"""The receipt of a merge: what went in, what was measured, and whether it can be trusted."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.export.merge.check import MOST_OF_BASE_KL, NOISE_KL, Gap, Measurement
from app.export.requests import MergeAnswer
from app.jobs.directory import versions

RECEIPT = "receipt.json"
CANNOT_TELL = "cannot tell"
# Rounding the merged weights to bfloat16 changes about one prediction in a hundred on small models (measured on the
# starter); more than this says that something else went wrong.
LEAST_AGREEMENT = 0.97
MOST_MEAN_KL = 0.02
# The 4-bit base is another model; this far apart, answers seen while training are no guide to the merged model's.
MOST_NF4_MEAN_KL = 0.5


@dataclass(frozen=True)
class Source:
    """A model or adapter that went into a merge: what it is called, or its hash, and the SHA-256 of its files."""

    name: str
    files: dict[str, str]


@dataclass
class Receipt:
    """Everything that a receipt says.

    `measured` is None when the check was left out, for the reason given; `doubts` are known before anything is
    measured, and each is a warning.
    """

    model: str
    adapter: Source
    base: Source
    dtype: str
    shards: dict[str, str]
    merge_seconds: float
    seconds: float
    baseline_rss_bytes: int
    peak_rss_bytes: int
    max_ram_bytes: int
    measured: Measurement | None
    not_measured: str = ""
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Return why the verdict is not a pass; empty for a pass."""
        if self.measured is None:
            return [*self.doubts, f"not measured: {self.not_measured}"]
        found = [*self.doubts, *self._wrong(self.measured)]
        nf4 = self.measured.nf4_adapter
        if nf4 is not None and not nf4.mean_kl <= MOST_NF4_MEAN_KL:
            found.append(f"the adapter on the 4-bit base is far off: mean KL {nf4.mean_kl:.4f} > {MOST_NF4_MEAN_KL}")
        return found

    @staticmethod
    def _wrong(measured: Measurement) -> list[str]:
        """Return what speaks against the merged weights themselves."""
        found, gap, base = [], measured.merged, measured.base
        if not gap.greedy_agreement >= LEAST_AGREEMENT:
            found.append(f"greedy agreement {gap.greedy_agreement:.4f} is below {LEAST_AGREEMENT}")
        if not gap.mean_kl <= MOST_MEAN_KL:
            found.append(f"mean KL {gap.mean_kl:.5f} is above {MOST_MEAN_KL}")
        if measured.changes_nothing:
            found.append(
                f"cannot tell: the adapter changes nothing that shows (mean KL {base.mean_kl:.1e} to its base, and "
                f"{NOISE_KL[measured.dtype]:.0e} is noise in {measured.dtype}), so any copy of the base looks merged"
            )
        elif not measured.is_nearer:
            found.append(
                f"the merged model is not clearly nearer to the adapter than the bare base is: mean KL "
                f"{gap.mean_kl:.1e} against {base.mean_kl:.1e}, and at most {MOST_OF_BASE_KL:.0%} of that is expected; "
                "either it was not merged, or the adapter is so mild that rounding its sum takes much of it"
            )
        return found

    @property
    def verdict(self) -> str:
        """Return pass, warn, or "cannot tell" where an adapter that changes nothing leaves nothing to compare."""
        if self.measured is not None and self.measured.changes_nothing and len(self._wrong(self.measured)) == 1:
            return CANNOT_TELL
        return "warn" if self.reasons else "pass"

    def answer(self, folder: Path) -> MergeAnswer:
        """Return what `merge --json` answers; figures that were not measured are None."""
        gap = self.measured.merged if self.measured else None
        return MergeAnswer(
            model=str(folder),
            receipt=str(folder / RECEIPT),
            verdict=self.verdict,
            greedy_agreement=gap.greedy_agreement if gap else None,
            mean_kl=gap.mean_kl if gap else None,
            max_logit_diff=gap.max_logit_diff if gap else None,
            peak_rss_bytes=self.peak_rss_bytes,
            seconds=self.seconds,
            base_mean_kl=self.measured.base.mean_kl if self.measured else None,
            reasons=self.reasons,
        )

    def as_dict(self) -> dict[str, object]:
        """Return the content of receipt.json."""
        measured = self.measured
        return {
            "schema": 1,
            "model": self.model,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "notes": self.notes,
            "thresholds": {
                "greedy_agreement": LEAST_AGREEMENT,
                "mean_kl": MOST_MEAN_KL,
                "share_of_base_mean_kl": MOST_OF_BASE_KL,
                "nf4_mean_kl": MOST_NF4_MEAN_KL,
            },
            "merged_against_adapter": measured.merged.as_dict() if measured else "not measured",
            "base_against_adapter": measured.base.as_dict() if measured else "not measured",
            "nf4_against_16_bit": _nf4(measured),
            "compared_tokens": measured.tokens if measured else 0,
            "compared_in": measured.dtype if measured else None,
            "adapter": {"hash": self.adapter.name, "files": self.adapter.files},
            "base": {"name": self.base.name, "files": self.base.files},
            "dtype": self.dtype,
            "shards": self.shards,
            "peak_rss_bytes": self.peak_rss_bytes,
            "baseline_rss_bytes": self.baseline_rss_bytes,
            "max_ram_bytes": self.max_ram_bytes,
            "merge_seconds": round(self.merge_seconds, 3),
            "seconds": round(self.seconds, 3),
            "versions": versions(),
        }

    def write(self, folder: Path) -> None:
        """Write receipt.json and receipt.md."""
        (folder / RECEIPT).write_text(json.dumps(self.as_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / "receipt.md").write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Return the receipt for people."""
        lines = [f"# Merge receipt: {self.model}", "", f"Verdict: **{self.verdict}**"]
        lines += [f"- {reason}" for reason in self.reasons]
        lines += [
            "",
            "| compared | same greedy token | mean KL (nats) | largest logit difference |",
            "|---|---|---|---|",
        ]
        if self.measured:
            lines.append(_row("merged model against base + adapter", self.measured.merged))
            lines.append(_row("bare base against base + adapter", self.measured.base))
            if self.measured.nf4_adapter and self.measured.nf4_base:
                lines.append(_row("adapter on the NF4 base against the 16-bit base", self.measured.nf4_adapter))
                lines.append(_row("NF4 base against 16-bit base, no adapter", self.measured.nf4_base))
            lines += ["", f"{self.measured.tokens} tokens of greedy answers, computed in {self.measured.dtype}."]
        else:
            lines.append(f"| not measured: {self.not_measured} | | | |")
        lines += [f"{note}" for note in self.notes]
        lines += ["", f"- weights: {self.dtype}, added in float32 and rounded once"]
        lines += [f"- base: {self.base.name}", f"- adapter: {self.adapter.name}"]
        lines += [f"- peak memory while merging: {self.peak_rss_bytes / 2**20:.0f} MiB"]
        lines += [f"- time: {self.merge_seconds:.1f} s merging, {self.seconds:.1f} s in all", "", "## Files (SHA-256)"]
        groups = {"base": self.base.files, "adapter": self.adapter.files, "merged": self.shards}
        lines += [f"- {group} `{name}` {sha256}" for group, files in groups.items() for name, sha256 in files.items()]
        return "\n".join(lines) + "\n"


def _nf4(measured: Measurement | None) -> object:
    if measured is None or measured.nf4_adapter is None or measured.nf4_base is None:
        return "not measured"
    return {"base": measured.nf4_base.as_dict(), "with_adapter": measured.nf4_adapter.as_dict()}


def _row(name: str, gap: Gap) -> str:
    return f"| {name} | {gap.greedy_agreement:.2%} | {gap.mean_kl:.2e} | {gap.max_logit_diff:.2e} |"


def peak_rss_bytes() -> int:
    """Return the largest memory that this process has held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
