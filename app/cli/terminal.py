"""What every verb shares: its parser, its workspace, its data on standard output, its progress on standard error."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from app.errors import UsageError
from app.workspace import Workspace, default_root, open_workspace

_LONGEST_MESSAGE = 200


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors are one plain line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError in place of printing the usage and leaving; a word of thousands of letters is cut."""
        message = message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…"
        raise UsageError(message[:1].upper() + message[1:], "", f"see `{self.prog} --help`")


def positive(text: str) -> int:
    """Read a whole number above 0, as the type of an argument. Raises ArgumentTypeError for anything else."""
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a whole number above 0")
    return int(text)


def port(text: str) -> int:
    """Read a port, as the type of an argument. Raises ArgumentTypeError for anything else."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a port, ports are 1 to 65535")
    return int(text)


def written(text: str) -> str:
    """Read text that a model is to see, as the type of an argument. Raises ArgumentTypeError for bytes that are none.

    Such bytes reach a program as half characters, which no file and no request can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(
            f"character {error.start + 1} is no text in UTF-8; write it in UTF-8"
        ) from None
    return text


def secret(text: str) -> str:
    """Read a token, as the type of an argument. Raises ArgumentTypeError for one that no header of a request carries.

    Clients write headers in ASCII and drop blanks around a value: such a token would be wrong at every request.
    """
    if not re.fullmatch("[!-~]*", written(text)):
        raise argparse.ArgumentTypeError("a request cannot carry it; use letters without accents, digits and hyphens")
    return text


class Verbs:
    """The collection of verbs that `register` functions add to."""

    def __init__(self, subparsers: argparse._SubParsersAction[Parser], common: Parser) -> None:
        self._subparsers = subparsers
        self._common = common

    @property
    def names(self) -> Collection[str]:
        """Return the names of the verbs."""
        return self._subparsers.choices

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], None],
        *,
        help: str,
        example: str,
        answers: bool = True,
        former_name: str = "",
    ) -> Parser:
        """Add a verb and return its parser. `answers` gives it --json; `run` takes the parsed arguments.

        Under its `former_name` the verb is understood, but no help lists it.
        """
        parser = self._subparsers.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example: {example}",
            parents=[self._common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if answers:
            parser.add_argument("--json", action="store_true", help="answer with one JSON object on standard output")
        parser.set_defaults(run=run)
        if former_name:
            self._subparsers.choices[former_name] = parser
        return parser

    def group(self, name: str, *, help: str, example: str) -> Verbs:
        """Add a verb that has verbs of its own."""
        parser = self._subparsers.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example: {example}",
            parents=[self._common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        inner = parser.add_subparsers(dest=f"{name}_verb", metavar="VERB", required=True, parser_class=Parser)
        return Verbs(inner, self._common)


def root_of(arguments: argparse.Namespace) -> Path:
    """Return the workspace's folder, which need not be there yet."""
    return Path(getattr(arguments, "workspace", None) or default_root()).expanduser()


def workspace_of(arguments: argparse.Namespace) -> Workspace:
    """Open the workspace that the command line names."""
    return open_workspace(getattr(arguments, "workspace", None))


def answer(arguments: argparse.Namespace, data: object, lines: Sequence[str]) -> None:
    """Print the data as JSON when --json is given, else the lines for people."""
    if getattr(arguments, "json", False):
        print(json.dumps(data, ensure_ascii=not _writes_unicode(), indent=2))
    else:
        print("\n".join(lines))


def _writes_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "") == "utf8"


def size_text(size_bytes: int) -> str:
    """Return a size as a table of files shows it."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


def progress(text: str, *, end: str = "\n") -> None:
    """Print a progress line on standard error."""
    print(text, file=sys.stderr, end=end, flush=True)


def named_folders(words: Sequence[str], option: str = "--adapter") -> dict[str, str]:
    """Read `name=DIR` words. Raises UsageError for a word without a name, and for a name given twice."""
    found: dict[str, str] = {}
    for word in words:
        name, separator, folder = word.partition("=")
        if not separator or not name or not folder:
            raise UsageError(f"{option} {word!r:.80} has no name", "", f"write {option} name=DIR")
        if name in found or name == "base":
            raise UsageError(f"The name {name!r:.60} is taken", "every column has a name of its own", "choose another")
        found[name] = folder
    return found


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size_bytes(text: str) -> int:
    """Read a size such as 2GB, 500 MB or 1GiB. Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not 0 < float(match[1]) < 1e15:
        raise UsageError(f"{text!r:.40} is not a size", "", "write for example 2GB or 500MB")
    return int(float(match[1]) * unit)


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[str]:
    """Return rows as aligned text lines with a heading."""
    cells = [list(columns)] + [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
