"""Every measurement that wants a CUDA card, one after another, each alone: one command, one file to send.

    python -m benchmarks.gpu --list                      what there is, and how long it takes
    python -m benchmarks.gpu [--only NAME ...]           measure on this machine's card
    python -m benchmarks.gpu --dry-run [--only NAME ...] tiny shapes through the same code on any machine

Each measurement is a command of its own that can be run alone as well. What it found is appended to one JSON at once,
with the card, its driver and the versions, so that an interrupted hour loses one measurement at most and a second call
with `--only` does what is left. Minutes are estimates for one large card: nothing here was measured yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import hardware
from app.files import replace_file
from app.jobs.directory import versions
from benchmarks.fresh_children import NOT_MEASURED

RESULT = Path(__file__).parent / "results" / "gpu.json"
_HOUSE = Path(__file__).resolve().parents[1]
# A measurement that takes so many times its minutes hangs.
_PATIENCE = 4


@dataclass(frozen=True)
class Measurement:
    """One command: a module of this folder with its arguments on a card, and those of a dry run.

    `out` is the option that says where its result goes, `kept` the file that it goes on with in a second call.
    """

    name: str
    what: str
    minutes: float
    module: str
    on_card: tuple[str, ...]
    dry: tuple[str, ...]
    out: str = "--out"
    kept: str = ""

    def command(self, dry: bool, out: Path) -> list[str]:
        """Return the command that writes its result into `out`."""
        arguments = self.dry if dry else self.on_card
        return [sys.executable, "-m", f"benchmarks.{self.module}", *arguments, self.out, str(out)]


_TINY = ("--hidden", "128", "--layers", "1", "--repeat", "1")
_LARGE = ("--device", "cuda", "--hidden", "2048", "--layers", "28")
_DRY_ROUND = ("--dry-run", "--rounds", "1")
MEASUREMENTS = (
    Measurement(
        "planner",
        "the plan against two real steps of our worker, 60 rows",
        20,
        "planner_gpu",
        ("--seconds", "1200"),
        ("--dry-run", "--rows", "1"),
        kept="planner_gpu.jsonl",
    ),
    Measurement(
        "presets",
        "every preset for 20 steps, held to its card's memory",
        20,
        "presets_gpu",
        ("--seconds", "1200"),
        ("--dry-run", "--presets", "6gb"),
        kept="presets_gpu.jsonl",
    ),
    Measurement(
        "throughput-8b",
        "tokens a second of an 8B at 2,048 tokens beside TRL, and Unsloth where it is installed",
        3,
        "throughput_gpu",
        (),
        _DRY_ROUND,
    ),
    Measurement(
        "throughput-8b-4k",
        "the same at 4,096 tokens",
        5,
        "throughput_gpu",
        ("--length", "4096"),
        (*_DRY_ROUND, "--length", "4096"),
    ),
    Measurement(
        "throughput-0.6b",
        "a 0.6B with eight short rows a micro-batch: what launching kernels costs",
        2,
        "throughput_gpu",
        ("--model", "qwen3-0.6b", "--length", "256", "--micro-batch", "8"),
        (*_DRY_ROUND, "--model", "qwen3-0.6b", "--micro-batch", "2"),
    ),
    Measurement(
        "columns",
        "1, 2, 4 and 8 columns: one by one, PEFT's mixed batch, ours",
        4,
        "engine_columns",
        _LARGE,
        (*_TINY, "--columns", "1", "2", "--tokens", "4"),
        out="--json",
    ),
    Measurement(
        "second-turn",
        "the second turn of a conversation of 1,000 tokens, its prefix kept and read anew",
        3,
        "kept_prefix",
        _LARGE,
        (*_TINY, "--columns", "1", "2", "--tokens", "40"),
        out="--json",
    ),
)
NAMES = tuple(each.name for each in MEASUREMENTS)


def measured(measurement: Measurement, dry: bool) -> dict[str, Any]:
    """Run one measurement alone and return what it found, or how it ended."""
    begun = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        kept = None if dry or not measurement.kept else RESULT.parent / measurement.kept
        out = kept or Path(scratch) / "result.json"
        command = measurement.command(dry, out)
        try:
            ended = subprocess.run(
                command, cwd=_HOUSE, stdout=2, timeout=60 * _PATIENCE * measurement.minutes, check=False
            )
            status = f"ended with status {ended.returncode}" if ended.returncode else "measured"
        except subprocess.TimeoutExpired:
            status = f"ended after {_PATIENCE * measurement.minutes:g} minutes"
        found = _read(out)
    return {
        "name": measurement.name,
        "what": measurement.what,
        "command": " ".join(["python", *command[1:-2]]),
        "dry_run": dry,
        "status": status if found is not None or status != "measured" else "it wrote no result",
        "began": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(begun)),
        "minutes": round((time.time() - begun) / 60, 2),
        "found": NOT_MEASURED if found is None else found,
    }


def _read(out: Path) -> Any:
    """Return what a measurement wrote: one object, or one a line. None where it wrote nothing."""
    try:
        text = out.read_text(encoding="utf-8")
    except OSError:
        return None
    for parts in ([text], text.splitlines()):
        with suppress(ValueError):
            found = [json.loads(part) for part in parts]
            return (found[0] if parts == [text] else found) if found else None
    return None


def machine() -> dict[str, Any]:
    """Return the card, the processor and the versions."""
    card = hardware.readings().gpu
    return {
        "card": card.name if card else NOT_MEASURED,
        "card_bytes": card.total_bytes if card else 0,
        "driver": hardware.readings().driver or NOT_MEASURED,
        "processor": hardware.cpu_name(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def append(out: Path, found: dict[str, Any]) -> None:
    """Append a measurement, with the machine that it is of, to the one file of all."""
    held = _read(out)
    runs = held["runs"] if isinstance(held, dict) and isinstance(held.get("runs"), list) else []
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, json.dumps({"runs": [*runs, {**found, "machine": machine()}]}, indent=1) + "\n")


def listed() -> list[str]:
    """Return the measurements with their minutes, and their sum."""
    lines = [f"{each.name:18}{each.minutes:4g} min  {each.what}" for each in MEASUREMENTS]
    return [*lines, f"{'all':18}{sum(each.minutes for each in MEASUREMENTS):4g} min"]


def main(words: Sequence[str] | None = None) -> int:
    """List or measure. Return 1 when a measurement ended badly, or there is no card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help="only these")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on any machine")
    parser.add_argument("--out", type=Path, help="the file that results are appended to")
    options = parser.parse_args(words)
    print("\n".join(listed()))
    if options.list:
        return 0
    if not options.dry_run and hardware.readings().gpu is None:
        print("No CUDA card is found here. --dry-run tries the same code on any machine.", file=sys.stderr)
        return 1
    out = options.out or (Path(tempfile.gettempdir()) / "gpu-dry-run.json" if options.dry_run else RESULT)
    failed = 0
    for measurement in (each for each in MEASUREMENTS if each.name in options.only):
        print(f"{measurement.name}: about {measurement.minutes:g} min", file=sys.stderr, flush=True)
        found = measured(measurement, options.dry_run)
        append(out, found)
        failed += found["status"] != "measured"
        print(f"{measurement.name}: {found['status']}, {found['minutes']} min", flush=True)
    print(out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
