"""Rows of a data set by pages, and those in which words are found."""

from __future__ import annotations

import json

from app.runs import dataset_selection
from app.runs.dataset_selection import DatasetSelection
from app.ui.shell.language import Translator
from app.ui.tabs.data import tab, view

T = Translator()
PIRATE = dataset_selection.sample("pirate.json")


def _turn(start: object, words: object = "", total: object = None, seen: DatasetSelection = PIRATE) -> str | None:
    return tab.turned(seen, json.dumps({"start": start, "words": words, "total": total}), T)


def test_pages_lead_to_the_last_row_and_no_further() -> None:
    first, last = dataset_selection.page(PIRATE, 0, 20), dataset_selection.page(PIRATE, 280, 20)
    assert (len(first.rows), first.more) == (20, True)
    assert (len(last.rows), last.more) == (20, False)
    assert last.rows[-1].number == 300
    shown = _turn(280, total=300)
    assert shown is not None
    assert "rows 281 to 300 of 300" in shown
    assert shown.count("disabled") == 1


def test_a_search_looks_at_all_rows_and_needs_every_word() -> None:
    everything = dataset_selection.rows(PIRATE, 0, 1000)
    wanted = [row.number for row in everything if "german" in row.text and "word" in row.text]
    assert wanted
    found = dataset_selection.page(PIRATE, 0, 20, "GERMAN word")
    assert [row.number for row in found.rows] == wanted[:20]
    assert _turn(0, "no such words anywhere") == view.rows_page(
        dataset_selection.RowPage((), words="no such words anywhere"), T
    )


def test_a_page_shows_what_was_searched_for_inert() -> None:
    shown = _turn(0, '"><img src=x>')
    assert shown is not None
    assert "<img" not in shown


def test_what_is_no_wish_changes_nothing() -> None:
    assert _turn(-20) is None
    assert _turn(10**12) is None
    assert _turn("many") is None
    assert _turn(0, seen=DatasetSelection()) is None
    assert tab.turned(PIRATE, "page", T) is None
