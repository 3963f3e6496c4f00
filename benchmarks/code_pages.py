"""Count how the code page of small files is decided: right, refused by line, or wrong; beside chardet and others.

    python -m benchmarks.code_pages [--show]

The files are those of `tests/data/reading/test_small_code_pages.py`; with them come lines of plain text with one sign,
in every page that can write it. Detectors that are not installed are reported as `not measured`. `--show` prints what
was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from app.data.reading.code_pages import find_code_page

TESTS = Path(__file__).resolve().parents[1] / "tests" / "data" / "reading" / "test_small_code_pages.py"
# Pages of the West and of Central Europe, of Windows, DOS, Unix and the Mac, and those of the other frames' languages.
PAGES = {
    "cp1252": ("cp1252", "iso8859_15", "mac_roman", "cp850", "cp437"),
    "cp1250": ("cp1250", "iso8859_2", "mac_latin2", "cp852"),
    "cp1251": ("cp1251", "koi8_r", "cp866", "mac_cyrillic"),
    "cp1253": ("cp1253", "iso8859_7"),
    "cp1254": ("cp1254", "iso8859_9"),
}
Find = Callable[[bytes], "str | None"]


def ours(data: bytes) -> str | None:
    """Return the text as this project reads it, None where it asks for UTF-8."""
    found = find_code_page(data, is_cut=False)
    if found is None:
        return None
    text = data.decode(found[0])
    strange = {char for char in text if char > "\x7f"} - found[1] if found[1] else set()
    return None if strange else text


def chardet(data: bytes) -> str | None:
    """Return the text as chardet reads it."""
    page = importlib.import_module("chardet").detect(data)["encoding"]
    return None if page is None else data.decode(page, "replace")


def charset_normalizer(data: bytes) -> str | None:
    """Return the text as charset-normalizer reads it."""
    best = importlib.import_module("charset_normalizer").from_bytes(data).best()
    return None if best is None else str(best)


def files() -> Iterator[tuple[str, str]]:
    """Yield page and text of the small files."""
    tests = runpy.run_path(str(TESTS))
    for name, page in tests["CASES"]:
        if page != "utf-16":
            yield from ((page, text) for _, text in tests["small_files"](tests["PAIRS"][name][1]))


def signs_of(page: str) -> list[str]:
    """Return what a page writes beyond ASCII that is no letter."""
    text = bytes(range(0x80, 0x100)).decode(page, "ignore")
    return sorted({char for char in text if not char.isalpha() and char.isprintable()})


def lines() -> Iterator[tuple[str, str]]:
    """Yield page and text of tables of one line with one sign, and of such a line between plain ones."""
    tests = runpy.run_path(str(TESTS))
    for home, frames in tests["FRAMES"].items():
        for page in PAGES[home]:
            for frame in frames:
                for sign in signs_of(page):
                    line = frame.replace("{}", sign)
                    for text in (
                        f"question;answer\n{line};ok\n",
                        f"{line}\n",
                        f"question,answer\nWhat is it?,It is a test.\n{line},Yes\nAnd then?,That is all.\n",
                    ):
                        yield page, text


def count(find: Find, cases: Iterator[tuple[str, str]], show: bool) -> Counter[str]:
    """Return how many were right, refused and wrong; `all` holds those that their page can write."""
    counts: Counter[str] = Counter()
    for page, text in cases:
        try:
            data = text.encode(page)
        except UnicodeEncodeError:
            continue
        if data.isascii():
            continue
        read = find(data)
        verdict = "refused" if read is None else "right" if read == text else "wrong"
        counts[verdict] += 1
        if verdict == "wrong" and show:
            print(page, repr(text), repr(read))
    return counts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--show", action="store_true", help="print what was read wrong here")
    arguments = parser.parse_args()
    for title, cases in (("small files", files), ("lines with one sign", lines)):
        print(f"{title}:")
        for name, find in (("here", ours), ("chardet", chardet), ("charset-normalizer", charset_normalizer)):
            try:
                counts = count(find, cases(), arguments.show and find is ours)
            except ImportError:
                print(f"  {name}: not measured")
                continue
            print(f"  {name}: {counts['right']:,} right, {counts['refused']:,} refused, {counts['wrong']:,} wrong")


if __name__ == "__main__":
    sys.exit(main())
