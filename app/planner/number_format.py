"""The number format that the dtype "auto" means on a processor, and why: asked by page, command line and trainer alike.

Without instructions for bf16 a processor computes it in software, many times slower than fp32. With them bf16 is
usually faster, but not on every machine and not for every width. So the trainer measures both before the first run of a
width, and what it found is kept in the workspace, where everybody reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app import hardware
from app.catalog.spec import ModelSpec
from app.files import replace_file
from app.planner.phrases import Phrase
from app.planner.request import Dtype
from app.reading import read_object

_FILE = "number_format.json"
# Below this bf16 gives up digits for next to nothing.
_LEAST_GAIN = 1.1


@dataclass(frozen=True)
class Timing:
    """Seconds of the same linear layer, forward and back, in both formats."""

    fp32_s: float
    bf16_s: float

    @property
    def gain(self) -> float:
        """Return how many times faster bf16 is."""
        return self.fp32_s / self.bf16_s


@dataclass(frozen=True)
class NumberFormat:
    """A format and the reason for it."""

    dtype: Dtype
    why: Phrase


def on_processor(hidden: int, intermediate: int, workspace: Path | None) -> NumberFormat:
    """Return the format of a model of these widths; before it was measured, what the instructions promise."""
    if not hardware.has_bf16_instructions():
        return NumberFormat("fp32", Phrase("planner.note.dtype.no_bf16"))
    timing = kept(hidden, intermediate, workspace) if workspace else None
    return NumberFormat("bf16", Phrase("planner.note.dtype.open")) if timing is None else judged(timing)


def against(dtype: str) -> Phrase | None:
    """Return what speaks against a format that was chosen for this processor; None where nothing does."""
    slow = dtype == "bf16" and not hardware.has_bf16_instructions()
    return Phrase("planner.note.dtype.slow_bf16") if slow else None


def of_spec(spec: ModelSpec, workspace: Path | None) -> NumberFormat:
    """Return the format of a model on this machine's processor."""
    return on_processor(spec.hidden, spec.intermediate, workspace)


def judged(timing: Timing) -> NumberFormat:
    """Return what a measurement says."""
    dtype: Dtype = "bf16" if timing.gain >= _LEAST_GAIN else "fp32"
    return NumberFormat(dtype, Phrase(f"planner.note.dtype.{dtype}", gain=timing.gain))


def kept(hidden: int, intermediate: int, workspace: Path) -> Timing | None:
    """Return what was measured of these widths on this processor with this torch."""
    try:
        found = read_object(workspace / _FILE).get(_key(hidden, intermediate))
        timing = Timing(**found) if isinstance(found, dict) else None
    except (OSError, ValueError, TypeError):
        return None
    return timing if timing is not None and timing.fp32_s > 0 and timing.bf16_s > 0 else None


def keep(timing: Timing, hidden: int, intermediate: int, workspace: Path) -> None:
    """Keep a measurement in the workspace."""
    file = workspace / _FILE
    try:
        known = read_object(file)
    except (OSError, ValueError):
        known = {}
    replace_file(file, json.dumps({**known, _key(hidden, intermediate): asdict(timing)}, indent=1))


def _key(hidden: int, intermediate: int) -> str:
    return f"{hardware.cpu_name()}, {hardware.usable_cpus()} processors, torch {_torch()}, {hidden} x {intermediate}"


@lru_cache(maxsize=1)
def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:  # a page without the libraries of the children
        return "none"
