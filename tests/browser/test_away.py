"""The server goes away and comes back: the page says so, takes no click meanwhile, and is there again by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage


def test_the_page_says_that_its_server_is_away_and_comes_back(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    with RunningPage(tmp_path / "workspace") as served:
        page = open_page(served).page
        page.wait_for_function("!document.querySelector('[aria-busy]')")
        assert served.process is not None
        served.process.kill()
        served.process.wait(timeout=20)
        page.wait_for_selector("#wb-away:has-text('Training goes on')")
        page.evaluate("window.before = true")
        # A click that cannot be answered is refused: the page is there to be read and for nothing else.
        assert page.evaluate("document.querySelector('#wb-use-plan').closest('[inert]') !== null")
        with RunningPage(served.workspace, port=served.port):
            page.wait_for_function("window.before !== true && document.querySelector('#wb-plan-sentence .wb-sentence')")
            page.wait_for_selector("#wb-away", state="detached")
            page.click("#wb-card label:has-text('8 GB') >> nth=0")
            page.wait_for_selector("#wb-plan-sentence:has-text('7.2 GB')")
