"""Write files so that a reader, a crash or a full disk never meets half of one; tables for people; room on a disk."""

from __future__ import annotations

import csv
import io
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# What a spreadsheet takes for the beginning of a formula, the full-width signs of East Asian ones too (OWASP, "CSV
# Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def replace_file(path: Path, text: str, *, mode: int = 0o666, durable: bool = False) -> None:
    """Write a file beside `path` and move it there in one step, whoever else does the same.

    `durable` has the bytes on the disk before the move, so that the file is whole after a power cut too.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with replacing(path) as fresh, os.fdopen(os.open(fresh, flags, mode), "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; what is written there takes the place of `path` in one step, or is removed."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield fresh
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a renaming inside a folder durable; Windows cannot open folders, there the journal must do."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds `folder` or its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def folder_bytes(folder: Path, *, follow_links: bool = True) -> int:
    """Return the bytes of all files of a folder; what goes away meanwhile takes none, and a link only if followed."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and (follow_links or not path.is_symlink()):
                total += path.stat().st_size
    return total


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV for people and their spreadsheets: a text that one would run gets an apostrophe in front.

    Only for tables that people open; data that are read again are JSON Lines or Parquet, which keep every text exact.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")  # a page shows carriage returns as signs
    for row in rows:
        writer.writerow([_harmless(value) for value in row])
    return out.getvalue()


def _harmless(value: object) -> str:
    if isinstance(value, (int, float)):
        return str(value)
    text = "" if value is None else str(value)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # a bare CR is not quoted by csv, and would end the row
    return f"'{text}" if text.startswith(_FORMULA) else text
