"""The pace at which pages ask, by how many there are."""

from __future__ import annotations

from app.ui.shell.serving.open_pages import POLL_S, OpenPages


def test_ten_pages_ask_hardly_more_often_than_two() -> None:
    pages = OpenPages(clock=lambda: 0.0)
    paces = [pages.pace_s(f"page {number}") for number in range(10)]
    assert paces[:2] == [POLL_S, POLL_S]
    assert paces[-1] == 5 * POLL_S
    assert pages.pace_s("page 0") == 5 * POLL_S, "a page that asks again is no further page"


def test_pages_that_are_gone_no_longer_count() -> None:
    now = 0.0
    pages = OpenPages(clock=lambda: now)
    for number in range(10):
        pages.pace_s(f"page {number}")
    now = 60.0
    assert pages.pace_s("page 3") == POLL_S
    assert pages.pace_s(None) == POLL_S
