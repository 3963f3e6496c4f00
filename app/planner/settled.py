"""What a run decided for itself before its first step, kept beside its job: a resume goes on with the same numbers.

job.yaml says what was asked for and is never rewritten. Settings left to the machine ("auto") are settled once, by what
the machine can do and what is free then; settled.json holds them as dotted names, each with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.config.schema import RunConfig
from app.errors import ConfigError
from app.files import replace_file
from app.reading import read_object

FILE = "settled.json"
Value = str | int


@dataclass(frozen=True)
class Settled:
    """Settings by their dotted names, and why each is as it is."""

    changes: Mapping[str, Value] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def read(job: Path) -> Settled:
    """Return what a job has settled; nothing where the record is missing or damaged."""
    try:
        found = read_object(job / FILE)
    except (OSError, ValueError):
        return Settled()
    changes, reasons = found.get("changes"), found.get("reasons")
    if not isinstance(changes, dict) or not isinstance(reasons, dict):
        return Settled()
    return Settled(changes, {name: str(reason) for name, reason in reasons.items()})


def remember(job: Path, changes: Mapping[str, Value], reason: str) -> None:
    """Add what was settled, all of it for one reason."""
    before = read(job)
    reasons = {**before.reasons, **dict.fromkeys(changes, reason)}
    replace_file(job / FILE, json.dumps({"changes": {**before.changes, **changes}, "reasons": reasons}, indent=1))


def applied(config: RunConfig, job: Path) -> RunConfig:
    """Return a run's settings with what it has settled; a record that fits no setting any more is passed over."""
    changes = read(job).changes
    try:
        return config.changed(changes) if changes else config
    except ConfigError:
        return config
