"""Every error that a user can meet.

    WorkbenchError              what happened, why, and what to do
    ├── UsageError              the command or its arguments are wrong (exit status 2)
    │   ├── ConfigError         one or more settings are wrong; lists all of them
    │   └── TakenError          something else is saved under this name, and is not written over unasked
    ├── WorkspaceError          the workspace cannot be read or written, or a name is unsafe
    ├── ModelError              a model folder or config.json cannot be used
    ├── PlanError               the planner cannot answer for these settings
    ├── DataError               a data file or a row in it cannot be used (carries the line)
    │   └── TemplateError       a chat template cannot render, or cannot be masked
    ├── JobError                a job cannot be started, stopped or found
    │   └── BusyError           another job owns the accelerator
    ├── MemoryShortError        the accelerator or the machine has too little memory
    ├── DiskError               the disk is full or will be
    ├── DivergedError           the loss is not finite, or left its best behind for good
    ├── EngineError             the playground engine refused or failed
    ├── ExportError             a merge or an export cannot be done
    │   └── OtherBaseError      the model is not the one that the adapter was trained on
    └── NetworkError            a hub name was given and the hub cannot be reached

A WorkbenchError is shown as one plain line; anything else is a defect of ours and keeps its traceback in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Keyed(str):
    """A text in English that knows its key, so that the page can say it in another language.

    `said.<key>` is its key among the page's texts, `values` fill the places of both.
    """

    key: str
    values: dict[str, object]
    _english: str

    def __new__(cls, key: str, english: str, values: dict[str, object]) -> Keyed:
        """Return the text with its values filled in."""
        text = super().__new__(cls, english.format(**values) if values else english)
        text.key, text.values, text._english = key, values, english
        return text

    def __getnewargs__(self) -> tuple[str, str, dict[str, object]]:  # type: ignore[override]
        """Return what a copy is made of."""
        return self.key, self._english, self.values


def keyed(key: str, english: str, /, **values: object) -> Keyed:
    """Return a text of an error in English, with the key under which the page says it in another language."""
    return Keyed(key, english, values)


class WorkbenchError(Exception):
    """Say what happened, why, and what to do.

    `kind` is the word that a failed job carries in its status (memory, disk, data, diverged, code). `on_page` is what
    to do on the page, where that is another hand than at the command line; empty where `remedy` serves both.
    """

    exit_code = 1
    kind = "code"

    def __init__(self, what: str, why: str = "", remedy: str = "", *, on_page: str = "") -> None:
        self.what, self.why = _plain(what), _plain(why)
        self.remedy, self.on_page = _plain(remedy), _plain(on_page)
        super().__init__(self.line())

    def line(self, *, on_page: bool = False) -> str:
        """Return the one plain line that a person reads, at the command line or on the page: what, why, what to do."""
        remedy = self.page_remedy if on_page else self.remedy
        said = " ".join(_sentence(part) for part in (self.what, self.why, remedy) if part)
        return " ".join(said.split())

    @property
    def page_remedy(self) -> str:
        """Return what to do on the page."""
        return self.on_page or self.remedy

    def as_dict(self) -> dict[str, str]:
        """Return the parts for a status file or a JSON answer."""
        return {"kind": self.kind, "what": self.what, "why": self.why, "remedy": self.remedy}


def _plain(part: str) -> str:
    """Return a part without blanks around it and without its stop; a text with a key is written so already."""
    return part if isinstance(part, Keyed) else part.strip().rstrip(".")


def _sentence(part: str) -> str:
    """Begin with a capital and end with a mark, but leave names such as training.max_steps, qwen3-8b and vLLM."""
    first = part.split(maxsplit=1)[0].rstrip(":,")
    is_name = (
        any(mark in first for mark in "._/")
        or any(letter.isdigit() for letter in first)
        or first[1:] != first[1:].lower()
    )
    return (part if is_name else part[:1].upper() + part[1:]) + ("" if part.endswith("?") else ".")


def one_line(error: BaseException, most: int = 300) -> str:
    """Return what an error of a library says, all of it in one line: the reason often stands behind a heading."""
    said = " ".join(str(error).split()) or type(error).__name__
    heading, _, reason = said.partition(": ")
    if reason and heading.startswith("Error(s) in loading state_dict"):  # torch's
        said = reason
    return said if len(said) <= most else f"{said[: most - 1]}…"


@contextmanager
def foreign_code(
    refusal: Callable[[Exception], Exception],
    passing: type[Exception] | tuple[type[Exception], ...] = WorkbenchError,
) -> Iterator[None]:
    """Raise `refusal(error)` for whatever error comes out of code or files of others; one of `passing` stays as it is.

    For what has no whole list of classes that it may raise: a chat template, the code of a model's class, a library
    that reads a file of somebody else. An interruption is no error and passes.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise refusal(error) from error


class UsageError(WorkbenchError):
    """The command or its arguments are wrong."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One wrong setting: its dotted name, what is wrong with its limit, and what to do."""

    field: str
    message: str
    remedy: str = ""

    def line(self) -> str:
        """Return the problem in one line."""
        return f"{self.field}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


class ConfigError(UsageError):
    """One or more settings are wrong. `problems` lists all of them at once."""

    def __init__(self, problems: list[Problem], source: str = "the settings") -> None:
        self.problems = problems
        count = len(problems)
        what = f"{count} setting{'s' if count != 1 else ''} in {source} cannot be used"
        super().__init__(what, " | ".join(problem.line() for problem in problems))


class TakenError(UsageError):
    """Something else is saved under this name. Nothing was written; the page asks, the command line takes --force."""


class WorkspaceError(WorkbenchError):
    """The workspace cannot be read or written, or a name is unsafe."""

    kind = "disk"


class ModelError(WorkbenchError):
    """A model folder or config.json cannot be used."""


class PlanError(UsageError):
    """The planner cannot answer for these settings. `field` is the one that it names, by the planner's own name."""

    def __init__(self, what: str, why: str = "", remedy: str = "", *, on_page: str = "", field: str = "") -> None:
        self.field = field
        super().__init__(what, why, remedy, on_page=on_page)


class DataError(WorkbenchError):
    """A data file or a row in it cannot be used. `line` is 1-based, None when the whole file is meant."""

    kind = "data"

    def __init__(
        self, what: str, why: str = "", remedy: str = "", line: int | None = None, *, on_page: str = ""
    ) -> None:
        self.line_number = line
        if line is not None:
            what = keyed("line", "Line {line}: {what}", line=line, what=what)
        super().__init__(what, why, remedy, on_page=on_page)


class TemplateError(DataError):
    """A chat template cannot render this conversation, or its loss mask cannot be proven."""


class JobError(WorkbenchError):
    """A job cannot be started, stopped or found."""


class BusyError(JobError):
    """Another job owns the accelerator."""


class MemoryShortError(WorkbenchError):
    """The accelerator or the machine has too little memory."""

    kind = "memory"


class DiskError(WorkbenchError):
    """The disk is full or will be."""

    kind = "disk"


class DivergedError(WorkbenchError):
    """The loss is not finite, or left its best behind for good."""

    kind = "diverged"


class EngineError(WorkbenchError):
    """The playground engine refused or failed."""


class ExportError(WorkbenchError):
    """A merge or an export cannot be done."""


class OtherBaseError(ExportError):
    """The model at hand is not the one that an adapter was trained on."""

    def __init__(self, what: str, why: str = "") -> None:
        remedy = "name the model that it was trained on with --base"
        super().__init__(what, why, remedy, on_page="put the model that it was trained on back to its place")


class NetworkError(WorkbenchError):
    """A hub name was given and the hub cannot be reached."""
