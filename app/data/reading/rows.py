"""A row and a problem, both with the line they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The fields of a row by their names: foreign JSON, of which nothing is known.
Fields = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Hold one record of a data file.

    `number` counts the records of the whole source from 1, bad ones included. `line` is the 1-based line on which
    the record starts (in Parquet and Arrow: the record's position). `file` is empty when the source is one file.
    """

    number: int
    line: int
    fields: Fields
    file: str = ""


@dataclass(frozen=True)
class RowProblem:
    """Hold what is wrong with one record: its line, a kind to group by, a message and what to do.

    `original` is the text of a record that could not be parsed, so that it can be handed back; it may be long.
    """

    line: int | None
    kind: str
    message: str
    fix: str
    row: int | None = None
    file: str = ""
    original: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry that `data check --json` lists, the file's name in front of the message."""
        message = printable(f"{self.file}: {self.message}" if self.file else self.message)
        return {"line": self.line, "kind": self.kind, "message": message, "fix": self.fix}


def printable(text: str) -> str:
    """Return text with control characters and lone surrogates as escapes: names of files and columns are foreign."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or (char.isspace() and char > "\x85") else char.encode("unicode_escape").decode()
        for char in text
    )


class BadRow(Exception):
    """Tell a reader that the record at hand cannot be used, while the others still can."""

    def __init__(self, kind: str, message: str, fix: str) -> None:
        self.kind = kind
        self.message = message
        self.fix = fix
        self.original = ""
        super().__init__(message)

    def about(self, original: str) -> BadRow:
        """Remember the record's own text; return the complaint."""
        self.original = original
        return self

    def at(self, line: int | None, row: int | None = None, file: str = "") -> RowProblem:
        """Return the problem at its place."""
        return RowProblem(line, self.kind, self.message, self.fix, row, file, self.original)
