"""One fresh process a question: what a process still holds of one measurement must not reach the next.

The next process loads its libraries while the present one works. Both speak lines of JSON: question in, answer out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

NOT_MEASURED = "not measured"
_HOUSE = Path(__file__).resolve().parents[1]
Answer = dict[str, Any]


class FreshChildren:
    """Ask processes of `python -m MODULE --child` one question each."""

    def __init__(self, module: str) -> None:
        self._command = [sys.executable, "-m", module, "--child"]
        self._next: subprocess.Popen[str] | None = None

    def __enter__(self) -> FreshChildren:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._next is not None:
            self._next.kill()
            self._next.communicate()

    def ask(self, question: Answer, another: bool = True) -> Answer:
        """Return the answer of a fresh process, or what went wrong; start the next one when there is `another`."""
        child = self._next or self._started()
        self._next = self._started() if another else None
        told, _ = child.communicate(json.dumps(question) + "\n")
        try:
            answer: Answer = json.loads(told.splitlines()[-1])
        except (ValueError, IndexError):
            return {"error": f"the process ended with status {child.returncode}"}
        return answer

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_HOUSE)


def answer_one(answer: Callable[[Answer], Answer]) -> None:
    """Answer the one question on standard input; whatever the libraries print goes to standard error."""
    out, sys.stdout = sys.stdout, sys.stderr
    question = json.loads(sys.stdin.readline() or "null")
    if question is None:  # there was no other question
        return
    try:
        told = answer(question)
    except (RuntimeError, MemoryError) as error:  # torch's out-of-memory error is one: a result like another
        told = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    print(json.dumps(told), file=out, flush=True)


def card_arguments(description: str | None, result: Path) -> argparse.ArgumentParser:
    """Return the arguments that all measurements on a card take. `result` is where they write by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help=f"default {result.name}; a dry run keeps nothing without it")
    parser.add_argument("--filled-gb", type=int, default=24, help="random weights on the disk; the rest are holes")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on whatever device there is")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def append_row(path: Path, row: Answer) -> None:
    """Append one line of JSON, which is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def measured_rows(path: Path) -> list[Answer]:
    """Return the rows of an earlier call that hold a measurement."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if row.get("measured", NOT_MEASURED) != NOT_MEASURED]


def keep_measured(path: Path) -> list[Answer]:
    """Drop the rows without a measurement, which are tried again, and return the others."""
    rows = measured_rows(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows
