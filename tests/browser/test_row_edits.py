"""A row of data is changed in its place, dropped, and both are taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

_ROWS = "#wb-rows tbody tr"


def test_a_row_is_changed_dropped_and_put_back(
    served: RunningPage, open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("question,answer\nWhere is the rope?,In box 7.\nWhere is the saw?,In box 6.\n", encoding="utf-8")
    opened = open_page(served)
    page = opened.page
    opened.tab("data")
    page.set_input_files("#wb-drop input[type=file]", file)
    page.wait_for_selector(f"{_ROWS} >> nth=1")
    page.click("#wb-rows [aria-label='Write on row 2']")
    assert page.input_value(".wb-row-form [data-column=question]") == "Where is the saw?"
    page.fill(".wb-row-form [data-column=answer]", "In box 9.")
    page.click(".wb-row-form [data-edit-save]")
    page.wait_for_selector(f"{_ROWS}:has-text('In box 9.')")
    page.click("#wb-rows [aria-label='Drop row 1']")
    page.wait_for_function("document.querySelectorAll('#wb-rows tbody tr').length === 1")
    assert "rope" not in page.inner_text("#wb-rows")
    for text in ("Where is the rope?", "In box 6."):
        page.click("#wb-rows button:has-text('Undo')")
        page.wait_for_selector(f"{_ROWS}:has-text('{text}')")
    page.wait_for_selector("#wb-rows button:has-text('Undo')", state="detached")
    assert "boxes.csv" in page.inner_text("#wb-data-sentence")
    page.screenshot(path=str(tmp_path / "rows.png"))
    opened.watch.check()
