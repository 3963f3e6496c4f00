"""Prompt suites: saved lists of prompts, and what the page asks of the suite's job. Free of heavy imports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import UsageError, WorkspaceError
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory, replace_file
from app.models.names import resolve
from app.workspace import Workspace, safe_name

RESULT_FILE = "suite.json"
MOST_PROMPTS, _LONGEST_PROMPT = 1000, 20_000
_ARROW = "=>"
# A spreadsheet takes cells that begin so for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Item:
    """One prompt, and words that a good answer holds (none: any answer will do)."""

    prompt: str
    expect: str = ""


@dataclass(frozen=True)
class Suite:
    """A named list of prompts."""

    name: str
    items: tuple[Item, ...]

    @property
    def text(self) -> str:
        """Return the prompts as they are written: one a line, `prompt => words`."""
        return "\n".join(f"{one.prompt} {_ARROW} {one.expect}" if one.expect else one.prompt for one in self.items)


def parse_suite(name: str, text: str) -> Suite:
    """Read prompts, one a line. Raises UsageError for no name, no prompt, or too many."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not name.strip():
        raise UsageError("The suite has no name", "", "name it, so that it can be run again")
    if not lines or len(lines) > MOST_PROMPTS or max(map(len, lines)) > _LONGEST_PROMPT:
        why = "it has no prompt" if not lines else f"more than {MOST_PROMPTS:,} prompts, or one is too long"
        raise UsageError("The suite cannot be used", why, "write one prompt a line")
    items = []
    for line in lines:
        prompt, _, expect = line.rpartition(_ARROW) if _ARROW in line else (line, "", "")
        items.append(Item(prompt.strip() or line, expect.strip()))
    return Suite(safe_name(name), tuple(items))


def save(workspace: Workspace, suite: Suite) -> None:
    """Keep a suite under its name. Raises WorkspaceError when it cannot be written."""
    file = workspace.suite_path(suite.name)
    try:
        file.parent.mkdir(exist_ok=True)
        replace_file(file, json.dumps(asdict(suite), ensure_ascii=False, indent=1))
    except OSError as error:
        raise WorkspaceError("The suite could not be kept", error.strerror or str(error), "free room") from None


def saved(workspace: Workspace) -> list[Suite]:
    """Return all saved suites by name; a damaged file is passed over."""
    found = []
    for file in sorted(workspace.suites.glob("*.json")):
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            items = tuple(Item(str(one["prompt"]), str(one.get("expect", ""))) for one in raw["items"])
            found.append(Suite(str(raw["name"]), items))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def start_suite(
    workspace: Workspace,
    suite: Suite,
    model: str,
    adapters: Mapping[str, Path],
    *,
    titles: Mapping[str, str],
    quant: str = "nf4",
    dtype: str = "auto",
    max_tokens: int = 96,
    base: bool = True,
    queue: bool = False,
) -> JobDirectory:
    """Hand in a run of a suite and return its job at once. Raises BusyError when the accelerator has an owner."""
    config = {
        "suite": suite.name,
        "items": [asdict(one) for one in suite.items],
        "model": resolve(model),
        "adapters": {name: str(folder) for name, folder in adapters.items()},
        "titles": dict(titles),
        "base": base,
        "quant": quant,
        "dtype": dtype,
        "max_tokens": max_tokens,
    }
    return jobs.submit(workspace, "suite", config, name=f"suite: {suite.name}", queue=queue)


@dataclass(frozen=True)
class SuiteResult:
    """What came of a run: the columns (name, title, hash) and, for each prompt, the answers by column."""

    suite: str
    columns: tuple[Mapping[str, str], ...]
    rows: tuple[Mapping[str, Any], ...]

    def passed(self, column: str) -> tuple[int, int]:
        """Return how many answers hold what was expected, and of how many something was."""
        judged = [row["answers"][column]["passed"] for row in self.rows if column in row["answers"]]
        return sum(one is True for one in judged), sum(one is not None for one in judged)


def read_result(job: JobDirectory) -> SuiteResult | None:
    """Return the result of a suite's job as far as it got, or None."""
    try:
        raw = json.loads((job.result / RESULT_FILE).read_text(encoding="utf-8"))
        return SuiteResult(str(raw["suite"]), tuple(raw["columns"]), tuple(raw["rows"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_json(result: SuiteResult) -> str:
    """Return a result as JSON."""
    return json.dumps(asdict(result), ensure_ascii=False, indent=2)


def as_csv(result: SuiteResult) -> str:
    """Return a result as CSV; a cell that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")  # a page shows carriage returns as signs
    writer.writerow(["prompt", "expected", *(_cell(column["title"]) for column in result.columns)])
    for row in result.rows:
        writer.writerow([_cell(text) for text in _texts(result, row)])
    return out.getvalue()


def as_markdown(result: SuiteResult) -> str:
    """Return a result as a Markdown table."""
    head = ["prompt", "expected", *(column["title"] for column in result.columns)]
    lines = [_markdown_row(head), "|" + " --- |" * len(head)]
    lines += [_markdown_row(_texts(result, row)) for row in result.rows]
    return "\n".join([f"# {result.suite}", "", *lines, ""])


def _texts(result: SuiteResult, row: Mapping[str, Any]) -> Sequence[str]:
    answers = [str(row["answers"].get(column["name"], {}).get("text", "")) for column in result.columns]
    return [str(row["prompt"]), str(row["expect"]), *answers]


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _markdown_row(cells: Sequence[str]) -> str:
    plain = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>") for cell in cells]
    return "| " + " | ".join(plain) + " |"
