"""Pictures of every view of the page: both themes, both languages, three widths.

`python -m benchmarks.pictures --out DIR` trains the bundled starter for a workspace with a run (`--workspace` takes one
that has it), and takes about 230 pictures in some minutes; `--only` names views, `--docs` renews those of the
documentation, small, in place. Playwright and a Chromium are needed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.views import EMPTY, VIEWS, View, open_view
from tests.ui.running_page import HOUSE, RunningPage

_DOCS = HOUSE / "docs" / "pictures"
_WIDTHS, _THEMES, _LANGUAGES = (1440, 768, 390), ("light", "dark"), ("en-US", "zh-CN")
# The pictures of the documentation: view, theme, language, name.
_SHOWN = (
    ("plan", "light", "en-US", "plan"),
    ("data-tokens", "light", "en-US", "data"),
    ("train", "dark", "en-US", "train"),
    ("playground-chat", "light", "en-US", "playground"),
    ("export", "light", "en-US", "export"),
    ("plan", "light", "zh-CN", "plan-zh"),
    ("train", "light", "zh-CN", "train-zh"),
)
_COLOURS = 200


@dataclass(frozen=True)
class Look:
    """One way to look at the page."""

    width: int
    theme: str
    language: str

    @property
    def name(self) -> str:
        """Return what tells it from the others in a file name."""
        return f"{self.width}-{self.theme}-{self.language[:2]}"


def looks() -> Iterator[Look]:
    """Yield every combination."""
    for width in _WIDTHS:
        for theme in _THEMES:
            for language in _LANGUAGES:
                yield Look(width, theme, language)


def opened(browser: Browser, address: str, look: Look, height: int = 900) -> Page:
    """Open the page in a fresh profile."""
    size = {"width": look.width, "height": height}
    context = browser.new_context(viewport=size, color_scheme=look.theme, locale=look.language)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector("#wb-bars .wb-stack")
    page.wait_for_selector("#tab-plan-button[data-mark]")
    return page


def take(browser: Browser, address: str, views: Sequence[View], out: Path) -> int:
    """Take the views in every look; return how many pictures there are."""
    taken = 0
    for look in looks():
        page = opened(browser, address, look)
        for view in views:
            open_view(page, view)
            page.screenshot(path=str(out / f"{view.name}-{look.name}.png"), full_page=True)
            taken += 1
        page.context.close()
    return taken


def take_for_docs(browser: Browser, address: str) -> None:
    """Renew the pictures of the documentation: one screen each, in few colours so that they stay small."""
    for name, theme, language, file in _SHOWN:
        page = opened(browser, address, Look(1280, theme, language), height=800)
        view = next(view for view in VIEWS if view.name == name)
        open_view(page, view)
        if name == "playground-chat":
            _ask(page)
        path = _DOCS / f"{file}.png"
        page.screenshot(path=str(path))
        _shrink(path)
        page.context.close()


def _ask(page: Page) -> None:
    page.fill("#wb-prompt textarea", "What colour is grass?")
    page.click("#wb-ask")
    answered = "document.querySelectorAll('.wb-column-card').length > 1 && !document.querySelector('.wb-busy')"
    page.wait_for_function(answered, timeout=120_000)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(500)


def _shrink(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "workbench-pictures")
    parser.add_argument("--workspace", type=Path, help="a workspace with a finished run")
    parser.add_argument("--only", nargs="*", default=[], help="names of views, such as plan export")
    parser.add_argument("--docs", action="store_true", help="renew docs/pictures instead")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="pictures-"))
    workspace = arguments.workspace or fresh / "with-a-run"
    if arguments.workspace is None:
        command = [sys.executable, "-m", "app.cli", "demo", "--workspace", str(workspace)]
        subprocess.run(command, check=True, cwd=HOUSE, stdout=subprocess.DEVNULL)
    with sync_playwright() as driver:
        path = os.environ.get("WORKBENCH_BROWSER") or shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        taken = 0
        for place, views in ((workspace, VIEWS), (fresh / "empty", EMPTY)):
            wanted = [view for view in views if not arguments.only or view.name in arguments.only]
            with RunningPage(place) as page:
                if arguments.docs and views is VIEWS:
                    take_for_docs(browser, page.url)
                elif not arguments.docs and wanted:
                    taken += take(browser, page.url, wanted, arguments.out)
        browser.close()
    shutil.rmtree(fresh, ignore_errors=True)
    print(f"{taken} pictures in {arguments.out}" if not arguments.docs else f"pictures of {_DOCS} renewed")


if __name__ == "__main__":
    main()
