"""Runs side by side: what they were asked, what came of it, where they differ, and the best of each figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.files import csv_text
from app.jobs.directory import JobDirectory
from app.runs.results import curves, summary
from app.runs.results.curves import NAMES
from app.runs.results.summary import RunSummary


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a name and a value for each run. `best` is the index of the best values."""

    name: str
    values: tuple[object, ...]
    best: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Tell whether the runs disagree."""
        return any(value != self.values[0] for value in self.values[1:])


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side, in the order they were named."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    figures: tuple[Row, ...]
    settings: tuple[Row, ...]

    @property
    def differing(self) -> tuple[Row, ...]:
        """Return the settings in which the runs differ."""
        return tuple(row for row in self.settings if row.differs)

    def as_dict(self) -> dict[str, object]:
        """Return plain data: what `jobs compare --json` answers."""
        return {
            "runs": [{"id": job_id, "name": name} for job_id, name in zip(self.ids, self.names, strict=True)],
            "figures": [{"name": row.name, "values": list(row.values), "best": list(row.best)} for row in self.figures],
            "settings": [
                {"name": row.name, "values": list(row.values), "differs": row.differs} for row in self.settings
            ],
        }


# The figures that are compared, and which end of each is the better one.
_FIGURES: dict[str, Literal["low", "high"]] = {
    "best_loss": "low",
    "last_loss": "low",
    "best_validation": "low",
    "last_validation": "low",
    "seconds": "low",
    "tokens_per_s": "high",
    "memory_bytes": "low",
}
# Costs that differ by less than this are noise of the machine.
_COSTS = frozenset({"seconds", "tokens_per_s", "memory_bytes"})
_SAME_SHARE = 0.02


def compare(jobs: Sequence[JobDirectory]) -> Comparison:
    """Put runs side by side. Raises JobError for one that cannot be read."""
    found = [summary.of(job) for job in jobs]
    trees = [dict(_flat(job.config)) for job in jobs]
    names = list(dict.fromkeys(name for tree in trees for name in tree))
    return Comparison(
        ids=tuple(job.id for job in jobs),
        names=tuple(job.name or job.id for job in jobs),
        figures=(
            Row("state", tuple(job.status().state for job in jobs)),
            Row("steps", tuple(record.steps for record in found)),
            *(_figure(name, found, better) for name, better in _FIGURES.items()),
        ),
        settings=tuple(Row(name, tuple(tree.get(name) for tree in trees)) for name in names),
    )


def _figure(name: str, found: Sequence[RunSummary], better: Literal["low", "high"]) -> Row:
    values = tuple(getattr(record, name) for record in found)
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(set(known)) == 1:
        return Row(name, values)
    best = min(known) if better == "low" else max(known)
    room = _SAME_SHARE * abs(best) if name in _COSTS else 0.0
    alike = [index for index, value in enumerate(values) if value is not None and abs(value - best) <= room]
    return Row(name, values, tuple(alike) if len(alike) < len(known) else ())


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings by their dotted names; a mapping below a section is one value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{name}.")
        else:
            yield prefix + name, value


def table_csv(found: Comparison, *, only_differences: bool = False) -> str:
    """Return the comparison as CSV: a line a figure and a setting, a column a run."""
    settings = found.differing if only_differences else found.settings
    head: list[Sequence[object]] = [("", *found.names), ("id", *found.ids)]
    return csv_text([*head, *((row.name, *row.values) for row in (*found.figures, *settings))])


def metrics_csv(jobs: Sequence[JobDirectory]) -> str:
    """Return every logged step of every run as CSV: a line a step, seconds of training beside it."""
    return csv_text(_metric_rows(jobs))


def _metric_rows(jobs: Sequence[JobDirectory]) -> Iterator[Sequence[object]]:
    yield ("id", "name", "step", "seconds", *NAMES)
    for job in jobs:
        found = curves.read(job.metrics_file)
        by_step: dict[float, dict[str, float]] = {}
        for name in ("seconds", *NAMES):
            series = found.clock if name == "seconds" else found[name]
            for step, value in zip(series.steps, series.values, strict=False):
                by_step.setdefault(step, {})[name] = value
        for step, row in sorted(by_step.items()):
            yield (job.id, job.name, int(step), *(row.get(name) for name in ("seconds", *NAMES)))
