"""Every keyed text of an error is the one that the page knows by its key, in every language."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from app.errors import DataError, UsageError, keyed
from app.ui.shell.language import NAMES, Translator, texts

SOURCES = sorted((Path(__file__).resolve().parents[1] / "app").rglob("*.py"))


def keyed_texts() -> list[tuple[str, str, set[str]]]:
    """Return key, English text and the names of the values of every text in the code."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "keyed":
                key, english = (ast.literal_eval(argument) for argument in node.args)
                found.append((key, english, {str(keyword.arg) for keyword in node.keywords}))
    return found


@pytest.mark.parametrize("language", NAMES)
def test_the_page_knows_every_text_by_its_key(language: str) -> None:
    found = keyed_texts()
    assert len(found) > 150
    for key, english, values in found:
        own = texts(language).get(f"said.{key}")
        assert own, (key, "is missing")
        assert set(re.findall(r"\{([a-z_]+)\}", english)) == values == set(re.findall(r"\{([a-z_]+)\}", own)), key
        assert language != "en" or own == english, key
        assert language == "en" or own != english, key


def test_an_error_is_said_in_the_language_of_the_page() -> None:
    error = UsageError(keyed("no_row", "No row of {name} can be trained", name="a.json"), "", "see the log of 5")
    assert error.line() == "No row of a.json can be trained. See the log of 5."
    zh = Translator("zh")
    assert "a.json" in zh.heard(error.what)
    assert zh.heard(error.what) != error.what
    assert Translator("en").heard(error.what) == error.what


def test_a_line_s_number_goes_around_what_is_wrong_with_it() -> None:
    error = DataError(keyed("this_is_not_json", "This is not JSON"), line=7)
    assert error.what == "Line 7: This is not JSON" and error.line_number == 7
    assert Translator("zh").heard(error.what) == "第 7 行：这不是 JSON"


def test_what_has_lost_its_key_is_known_by_its_form_and_nothing_is_taken_for_another() -> None:
    zh = Translator("zh")
    assert zh.heard("There is no job 5 in the trash") == "回收站里没有任务 5"
    for own in ("The sky is blue", "Out of memory. RuntimeError", "it is warm"):
        assert zh.heard(own) == own


def test_the_reason_of_a_failed_job_is_said_sentence_by_sentence() -> None:
    line = "Out of memory. CUDA error 2. Choose a smaller micro-batch or sequence length."
    said = Translator("zh").heard_line(line)
    assert said == "内存不足。CUDA error 2. 请选择更小的微批次或序列长度。"
    assert Translator("en").heard_line(line) == line and Translator("zh").heard_line("Odd thing.") == "Odd thing."
    # A text that begins small where it is raised stands with a capital in the line.
    assert Translator("zh").heard_line("Stopped before it began.") == "开始之前已被停止。"
