"""Choose the files of a hub dataset that hold its training rows, from the listing alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from app.data.readers import COLUMN_SUFFIXES, JSON_SUFFIXES, TABLE_SUFFIXES
from app.data.sources import inner_suffix
from app.errors import DataError

# What a page may fetch without being asked twice; most sets for fine-tuning are below 1 GB.
MAX_BYTES = 5_000_000_000
# One form is enough where a set comes in several: columns are smallest and typed.
_FORMS = (COLUMN_SUFFIXES, (".jsonl", ".ndjson"), (".json",), TABLE_SUFFIXES)
_OTHER_SPLIT = re.compile(r"(?:^|[^a-z])(?:test|tests|valid|validation|val|dev|eval)(?:[^a-z]|$)")
_TRAIN_SPLIT = re.compile(r"(?:^|[^a-z])train(?:ing)?(?:[^a-z]|$)")
_NOT_ROWS = ("dataset_infos.json", "dataset_info.json", "package.json", "state.json")
Listed = tuple[str, int]


def choose_files(hub_id: str, listing: Sequence[Listed], part: str = "") -> list[Listed]:
    """Return the (path, bytes) of the files to fetch: one form, the training split where splits are named.

    `part` names a file, a folder or a split instead. Raises DataError where no file holds rows, where the part is not
    there, or where the files are larger than MAX_BYTES together.
    """
    rows = sorted(one for one in listing if _form(one[0]) is not None)
    if not rows:
        known = ", ".join((*JSON_SUFFIXES, *TABLE_SUFFIXES, *COLUMN_SUFFIXES))
        raise DataError(f"{hub_id} holds no file of rows", f"Known are {known}", "Choose another set, or convert it")
    if part:
        rows = _part_of(hub_id, rows, part)
    training = [one for one in rows if _TRAIN_SPLIT.search(one[0].lower())]
    others = [one for one in rows if not _OTHER_SPLIT.search(one[0].lower())]
    split = rows if part else training or others or rows
    form = min(_form(path) or 0 for path, _ in split)
    chosen = [one for one in split if _form(one[0]) == form]
    size_bytes = sum(size for _, size in chosen)
    if size_bytes > MAX_BYTES:
        raise DataError(
            f"The training files of {hub_id} have {size_bytes / 1e9:.1f} GB",
            f"At most {MAX_BYTES / 1e9:.0f} GB are fetched",
            "Download the part you want yourself, and name its folder",
        )
    return chosen


def _part_of(hub_id: str, rows: list[Listed], part: str) -> list[Listed]:
    """Return the file of this name, else the files of this folder, else those that carry the name of this split."""
    word = re.compile(rf"(?:^|[^a-z]){re.escape(part.lower())}(?:[^a-z]|$)")
    for is_meant in (
        lambda path: path == part,
        lambda path: path.startswith(part.rstrip("/") + "/"),
        lambda path: word.search(path.lower()) is not None,
    ):
        if found := [one for one in rows if is_meant(one[0])]:
            return found
    there = ", ".join(path for path, _ in rows[:5]) + (" and more" if len(rows) > 5 else "")
    raise DataError(f"{hub_id} has no part {part!r:.80}", f"Its files of rows are {there}", "Name one of them")


def _form(path: str) -> int | None:
    """Return which of _FORMS a path belongs to, None for anything that holds no rows or hides."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or any(part.startswith(".") for part in pure.parts) or pure.name in _NOT_ROWS:
        return None
    suffix = inner_suffix(pure.name)
    return next((number for number, form in enumerate(_FORMS) if suffix in form), None)
