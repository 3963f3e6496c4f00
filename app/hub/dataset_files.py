"""Choose the files of a hub dataset that hold its training rows, from the listing alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from app.data.reading.inputs import BOOKKEEPING, OTHER_SPLIT, TRAIN_SPLIT, inner_suffix
from app.data.reading.readers import COLUMN_SUFFIXES, JSON_SUFFIXES, TABLE_SUFFIXES
from app.errors import DataError, keyed

# What a page may fetch without being asked twice; most sets for fine-tuning are below 1 GB.
MAX_BYTES = 5_000_000_000
# One form is enough where a set comes in several: columns are smallest and typed.
_FORMS = (COLUMN_SUFFIXES, (".jsonl", ".ndjson"), (".json",), TABLE_SUFFIXES)
Listed = tuple[str, int]


def choose_files(hub_id: str, listing: Sequence[Listed], part: str = "") -> list[Listed]:
    """Return the (path, bytes) of the files to fetch: one form, the training split where splits are named.

    `part` names a file, a folder or a split instead. Raises DataError where no file holds rows, where the part is not
    there, or where the files are larger than MAX_BYTES together.
    """
    rows = sorted(one for one in listing if _form(one[0]) is not None)
    if not rows:
        known = ", ".join((*JSON_SUFFIXES, *TABLE_SUFFIXES, *COLUMN_SUFFIXES))
        raise DataError(
            keyed("holds_no_file_of_rows", "{hub_id} holds no file of rows", hub_id=hub_id),
            f"Known are {known}",
            keyed("choose_another_set_or_convert_it", "Choose another set, or convert it"),
        )
    if part:
        rows = _part_of(hub_id, rows, part)
    training = [one for one in rows if TRAIN_SPLIT.search(one[0].lower())]
    others = [one for one in rows if not OTHER_SPLIT.search(one[0].lower())]
    split = rows if part else training or others or rows
    form = min(_form(path) or 0 for path, _ in split)
    chosen = [one for one in split if _form(one[0]) == form]
    size_bytes = sum(size for _, size in chosen)
    if size_bytes > MAX_BYTES:
        raise DataError(
            keyed(
                "the_training_files_of_have_gb",
                "The training files of {hub_id} have {size_bytes} GB",
                hub_id=hub_id,
                size_bytes=f"{size_bytes / 1e9:.1f}",
            ),
            keyed("at_most_gb_are_fetched", "At most {max_bytes} GB are fetched", max_bytes=f"{MAX_BYTES / 1e9:.0f}"),
            keyed("download_the_part_you_want_yourself", "Download the part you want yourself, and name its folder"),
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
    raise DataError(
        keyed("has_no_part", "{hub_id} has no part {part}", hub_id=hub_id, part=f"{part!r:.80}"),
        keyed("its_files_of_rows_are", "Its files of rows are {there}", there=there),
        keyed("name_one_of_them", "Name one of them"),
    )


def _form(path: str) -> int | None:
    """Return which of _FORMS a path belongs to, None for anything that holds no rows or hides."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or any(part.startswith(".") for part in pure.parts) or pure.name in BOOKKEEPING:
        return None
    suffix = inner_suffix(pure.name)
    return next((number for number, form in enumerate(_FORMS) if suffix in form), None)
