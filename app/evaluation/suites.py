"""Prompt suites: saved lists of prompts, and what the page asks of the suite's job. Free of heavy imports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from app.errors import TakenError, UsageError, WorkspaceError, keyed
from app.files import csv_text, replace_file
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.reading import parsed_as, parsed_json
from app.workspace import Workspace, safe_name

RESULT_FILE = "suite.json"
MOST_PROMPTS, _LONGEST_PROMPT = 1000, 20_000
_ARROW = "=>"


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
        raise UsageError(
            keyed("the_suite_has_no_name", "The suite has no name"),
            "",
            keyed("name_it_so_that_it_can", "name it, so that it can be run again"),
        )
    if not lines or len(lines) > MOST_PROMPTS or max(map(len, lines)) > _LONGEST_PROMPT:
        why = "it has no prompt" if not lines else f"more than {MOST_PROMPTS:,} prompts, or one is too long"
        raise UsageError(
            keyed("the_suite_cannot_be_used", "The suite cannot be used"),
            why,
            keyed("write_one_prompt_a_line", "write one prompt a line"),
        )
    items = []
    for line in lines:
        prompt, _, expect = line.rpartition(_ARROW) if _ARROW in line else (line, "", "")
        items.append(Item(prompt.strip() or line, expect.strip()))
    return Suite(safe_name(name), tuple(items))


def read_suite(file: Path) -> tuple[Item, ...]:
    """Read prompts with what good answers hold: a saved suite, a list of `prompt` and `keys`, or `prompt => words`.

    Raises UsageError for a file that is none of these.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"There is no suite at {file.name}", "", "name a file of prompts") from None
    try:
        raw = parsed_json(text)
    except ValueError:
        return parse_suite(file.stem, text).items
    try:
        listed = raw if isinstance(raw, list) else raw.get("items") or raw["prompts"]
        items = tuple(item for one in listed for item in _items(one))
    except (KeyError, TypeError, AttributeError):
        items = ()
    if not items:
        raise UsageError(f"{file.name} is no suite", "it lists no prompts", "write one `prompt => words` a line")
    return items


def _items(one: dict[str, object]) -> Iterator[Item]:
    keys = one.get("keys")
    for expect in keys if isinstance(keys, list) and keys else [one.get("expect") or ""]:
        yield Item(str(one["prompt"]), str(expect))


def passed(text: str, expect: str) -> bool | None:
    """Tell whether an answer holds the expected words, in any case; None when nothing was expected."""
    return None if not expect else " ".join(expect.split()).casefold() in " ".join(text.split()).casefold()


def save(workspace: Workspace, suite: Suite, *, replace: bool = False) -> None:
    """Keep a suite under its name. Raises WorkspaceError when it cannot be written.

    Raises TakenError where a suite with other prompts has the name, unless it may be replaced.
    """
    file = workspace.suite_path(suite.name)
    if not replace and file.exists() and suite not in saved(workspace):
        why = "it is not written over"
        raise TakenError(
            keyed("there_is_another_suite", "There is another suite {name}", name=f"{suite.name!r:.60}"),
            why,
            keyed("choose_another_name", "choose another name"),
        )
    try:
        file.parent.mkdir(exist_ok=True)
        replace_file(file, json.dumps(asdict(suite), ensure_ascii=False, indent=1))
    except OSError as error:
        raise WorkspaceError(
            keyed("the_suite_could_not_be_kept", "The suite could not be kept"),
            error.strerror or str(error),
            keyed("free_room_2", "free room"),
        ) from None


def saved(workspace: Workspace) -> list[Suite]:
    """Return all saved suites by name; a damaged file is passed over."""
    found = []
    for file in sorted(workspace.suites.glob("*.json")):
        try:
            raw = parsed_json(file.read_text(encoding="utf-8"))
            items = tuple(Item(str(one["prompt"]), str(one.get("expect", ""))) for one in raw["items"])
            found.append(Suite(str(raw["name"]), items))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


@dataclass(frozen=True)
class SuiteRequest:
    """What a run of a suite is asked for; it crosses to the child as plain data.

    adapters: folders by the name of their column. titles: what people call these columns. base: whether the base
    answers too.
    """

    suite: str
    items: tuple[Item, ...]
    model: str
    adapters: dict[str, str]
    titles: dict[str, str] = field(default_factory=dict)
    base: bool = True
    quant: str = "nf4"
    dtype: str = "auto"
    max_tokens: int = 96


def start_suite(workspace: Workspace, request: SuiteRequest, *, queue: bool = False) -> JobDirectory:
    """Hand in a run of a suite and return its job at once. Raises BusyError when the accelerator has an owner."""
    config = asdict(replace(request, model=resolve(request.model)))
    config["items"] = list(config["items"])  # YAML has no tuples
    return jobs.submit(workspace, "suite", config, name=f"suite: {request.suite}", queue=queue)


@dataclass(frozen=True)
class SuiteColumn:
    """One column of a run: the name that its answers go by, what people call it, and the adapter's hash."""

    name: str
    title: str
    hash: str = ""


@dataclass(frozen=True)
class SuiteAnswer:
    """One answer. `passed` tells whether it holds what was expected, None when nothing was."""

    text: str = ""
    tokens: int = 0
    error: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class SuiteRow:
    """One prompt with the answers by column."""

    prompt: str
    expect: str
    answers: dict[str, SuiteAnswer]


@dataclass(frozen=True)
class SuiteResult:
    """What came of a run: its columns, and a row for each prompt."""

    suite: str
    columns: tuple[SuiteColumn, ...]
    rows: tuple[SuiteRow, ...]

    def passed(self, column: str) -> tuple[int, int]:
        """Return how many answers hold what was expected, and of how many something was."""
        judged = [row.answers[column].passed for row in self.rows if column in row.answers]
        return sum(one is True for one in judged), sum(one is not None for one in judged)


def read_result(job: JobDirectory) -> SuiteResult | None:
    """Return the result of a suite's job as far as it got, or None."""
    try:
        return parsed_as(SuiteResult, parsed_json((job.result / RESULT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Change:
    """What an adapter's answers lost and won against an earlier run, by prompt."""

    broke: frozenset[str]
    mended: frozenset[str]


def change(result: SuiteResult, column: str, earlier: SuiteResult | None) -> Change:
    """Compare what is expected with the last column of an earlier run; prompts of both runs count."""
    if earlier is None or not earlier.columns:
        return Change(frozenset(), frozenset())
    before, now = _judged(earlier, earlier.columns[-1].name), _judged(result, column)
    both = before.keys() & now.keys()
    return Change(
        frozenset(prompt for prompt in both if before[prompt] and not now[prompt]),
        frozenset(prompt for prompt in both if now[prompt] and not before[prompt]),
    )


def _judged(result: SuiteResult, column: str) -> dict[str, bool]:
    answers = {row.prompt: row.answers.get(column, SuiteAnswer()).passed for row in result.rows}
    return {prompt: passed for prompt, passed in answers.items() if passed is not None}


def as_json(result: SuiteResult) -> str:
    """Return a result as JSON."""
    return json.dumps(asdict(result), ensure_ascii=False, indent=2)


def as_csv(result: SuiteResult) -> str:
    """Return a result as CSV for spreadsheets."""
    head = ["prompt", "expected", *(column.title for column in result.columns)]
    return csv_text([head, *(_texts(result, row) for row in result.rows)])


def as_markdown(result: SuiteResult) -> str:
    """Return a result as a Markdown table."""
    head = ["prompt", "expected", *(column.title for column in result.columns)]
    lines = [_markdown_row(head), "|" + " --- |" * len(head)]
    lines += [_markdown_row(_texts(result, row)) for row in result.rows]
    return "\n".join([f"# {result.suite}", "", *lines, ""])


def _texts(result: SuiteResult, row: SuiteRow) -> Sequence[str]:
    answers = [row.answers.get(column.name, SuiteAnswer()).text for column in result.columns]
    return [row.prompt, row.expect, *answers]


def _markdown_row(cells: Sequence[str]) -> str:
    plain = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>") for cell in cells]
    return "| " + " | ".join(plain) + " |"
