"""Take the README's pictures of a page that runs: `python docs/pictures/take.py http://127.0.0.1:7861/`.

The page needs a finished run; `python3 launch.py demo` makes one. Playwright and a Chromium are needed as well.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

_FOLDER = Path(__file__).parent
_SIZE = {"width": 1200, "height": 760}
_ANSWERED = "document.querySelectorAll('.wb-column-card').length > 1 && !document.querySelector('.wb-busy')"


def _open(page: Page, tab: str) -> None:
    page.click(f"#wb-tabs > .tab-wrapper #tab-{tab}-button")


def _take(page: Page, name: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(_FOLDER / f"{name}.png"))


def main(address: str) -> None:
    """Take one picture of what fits, one of what is trained and one of what was learnt."""
    browser_path = os.environ.get("WORKBENCH_BROWSER") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path)
        page = browser.new_page(viewport=_SIZE, locale="en-US")  # type: ignore[arg-type]
        page.set_default_timeout(120_000)
        page.goto(address)
        page.wait_for_selector("#wb-bars .wb-stack")
        page.click("#wb-presets label:has-text('12 GB')")
        page.wait_for_selector("#wb-bars .wb-part-activations")
        _take(page, "plan")
        _open(page, "data")
        page.click("#wb-sample-0")
        page.wait_for_selector("#wb-rows tbody tr")
        page.click("#wb-data-views > .tab-wrapper [role=tab] >> nth=1")
        page.wait_for_selector("#wb-tokens .wb-trained")
        _take(page, "data")
        _open(page, "playground")
        page.wait_for_selector("#wb-adapters .token")
        page.fill("#wb-prompt textarea", "What colour is grass?")
        page.click("#wb-ask")
        page.wait_for_function(_ANSWERED)
        _take(page, "playground")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
