"""The list of shortcuts and the framework's own labels are in the language of the page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage


@pytest.mark.parametrize(
    ("locale", "title", "close", "upload"),
    [
        ("en-US", "Keyboard", "Close", "Click to upload or drop files"),
        ("zh-CN", "键盘", "关闭", "点击上传或拖入文件"),
    ],
)
def test_shortcuts_and_the_frameworks_labels_follow_the_language(
    served: RunningPage, open_page: Callable[..., Opened], locale: str, title: str, close: str, upload: str
) -> None:
    opened = open_page(served, locale=locale)
    page = opened.page
    page.wait_for_selector(f"html[lang={locale[:2]}]", state="attached")
    opened.tab("data")
    page.wait_for_selector(f"[aria-label='{upload}']", state="attached")
    page.locator("body").press("?")
    page.wait_for_selector("#wb-help[open]")
    assert page.inner_text("#wb-help h2") == title and page.inner_text("#wb-help button") == close
    opened.watch.check()
