"""The list of shortcuts and the framework's own labels are in the language of the page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

# A control of the framework that comes long after the last click, and one that is named after it came: what each is
# called at the next frame, which is the first that a person could see.
LATE = """async () => {
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const [named, unnamed] = ["button", "button"].map((tag) => document.createElement(tag));
  named.setAttribute("aria-label", "Clear", "Nothing is called that");
  document.querySelector(".gradio-container").append(named, unnamed);
  unnamed.title = "Clear";
  await new Promise((resolve) => requestAnimationFrame(resolve));
  const found = [named.getAttribute("aria-label"), unnamed.title];
  named.remove();
  unnamed.remove();
  return found;
}"""


@pytest.mark.parametrize(
    ("locale", "title", "close", "upload", "say_clear", "nothing"),
    [
        ("en-US", "Keyboard", "Close", "Click to upload or drop files", "Clear", "Nothing is called that"),
        ("zh-CN", "键盘", "关闭", "点击上传或拖入文件", "清除", "没有这样的名称"),
    ],
)
def test_shortcuts_and_the_frameworks_labels_follow_the_language(
    served: RunningPage,
    open_page: Callable[..., Opened],
    locale: str,
    title: str,
    close: str,
    upload: str,
    say_clear: str,
    nothing: str,
) -> None:
    opened = open_page(served, locale=locale)
    page = opened.page
    page.wait_for_selector(f"html[lang={locale[:2]}]", state="attached")
    opened.tab("data")
    page.wait_for_selector(f"[aria-label='{upload}']", state="attached")
    page.locator("body").press("?")
    page.wait_for_selector("#wb-help[open]")
    assert page.inner_text("#wb-help h2") == title and page.inner_text("#wb-help button") == close
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.fill("#wb-palette input", "qqqq")
    page.keyboard.press("Enter")
    assert page.locator("#wb-found li").all_inner_texts() == [nothing]
    page.keyboard.press("Escape")
    page.evaluate("(locale) => (document.documentElement.lang = locale)", locale)  # as it stands while the page loads
    late = page.evaluate(LATE)
    assert late == [say_clear, say_clear], "a control that comes late was drawn in the framework's English"
    opened.watch.check()
