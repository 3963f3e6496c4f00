"""A real browser against the really launched page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.ui.running_page import RunningPage

# Nothing of the browser's own may go out: no updates, no sync, no first-run pages.
_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What a page says that somebody looks at: its tab, and every sentence and error that is shown.
_TOLD = """() => [...document.querySelectorAll(
    "[role=tab][aria-selected=true], .wb-sentence, .wb-error, .wb-busy, .wb-state"
)].filter((one) => one.checkVisibility()).map((one) => one.innerText).join("\\n")"""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def browser_path() -> str | None:
    """Return a Chromium of this machine; None lets Playwright use its own."""
    return os.environ.get("WORKBENCH_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Missing it is a failure in CI and a skip elsewhere.

    It ends with the tests of a file: while the driver goes, this thread has a running event loop, in which no test
    elsewhere could run one of its own.
    """
    with sync_playwright() as driver:
        path = browser_path() or driver.chromium.executable_path
        if not Path(path).is_file():
            reason = "no Chromium here; install one, or run `playwright install chromium`"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        opened = driver.chromium.launch(executable_path=path, args=_SWITCHES)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    """The page on an empty workspace."""
    with RunningPage(tmp_path_factory.mktemp("browser") / "workspace") as page:
        yield page


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with a failed test what its pages showed and what their server said; WORKBENCH_SHOTS keeps pictures."""
    report = yield
    opener = getattr(item, "funcargs", {}).get("open_page")
    if report.when == "call" and report.failed and opener is not None:
        for number, opened in enumerate(opener.opened):
            try:
                shown = str(opened.page.evaluate(_TOLD))
            except PlaywrightError as gone:  # a crashed page can show nothing, and the report must not fail with it
                shown = str(gone)
            told = [
                shown,
                *opened.watch.errors,
                opened.watch.log.read_text(encoding="utf-8")[-4000:],
            ]
            report.sections.append((f"page {number}", "\n".join(told)))
            if "WORKBENCH_SHOTS" in os.environ:
                shot = Path(os.environ["WORKBENCH_SHOTS"]) / f"{item.name}-{number}.png"
                opened.page.screenshot(path=str(shot), full_page=True)
    return report


@dataclass
class Watch:
    """What a tab said and asked for: console errors, page errors, dialogs, requests to other hosts."""

    address: str
    log: Path
    errors: list[str] = field(default_factory=list)
    leaving: bool = False
    foreign: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A document that is left behind complains about its own requests being cut off.
        if message.type == "error" and not self.leaving:
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"http://{self.address}/", "data:", "blob:")):
            self.foreign.append(request.url)

    def _response(self, response: Response) -> None:
        # The console says only that there was one.
        if response.status >= 500:
            self.errors.append(f"{response.status} {response.url} for {response.request.post_data}")

    def check(self) -> None:
        said = self.log.read_text(encoding="utf-8")
        assert not self.errors, said[-4000:]
        assert "Traceback" not in said, said[said.index("Traceback") :][:4000]
        assert not self.foreign


@dataclass
class Opened:
    """One browser tab on the page."""

    page: Page
    watch: Watch

    def reload(self) -> None:
        """Load the page again in the same tab."""
        self.watch.leaving = True
        self.page.reload()
        self.watch.leaving = False

    def tab(self, name: str) -> None:
        """Open one of the five tabs; all of them fit beside each other at any width."""
        self.page.click(f"#wb-tabs > .tab-wrapper #tab-{name}-button")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[object]:
    """Return a function that opens the page in a fresh browser profile."""
    contexts: list[BrowserContext] = []

    def opener(served: RunningPage, width: int = 1440, scheme: str = "light", locale: str = "en-US") -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale=locale)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        opened = Opened(page, Watch(served.address, served.log))
        opener.opened.append(opened)  # type: ignore[attr-defined]
        opened.watch.follow(page)
        page.goto(served.url)
        page.wait_for_selector("#wb-strip .wb-machine")  # an empty strip and an empty sentence stand there before
        page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)")
        return opened

    opener.opened = []  # type: ignore[attr-defined]
    yield opener
    for context in contexts:
        context.close()
