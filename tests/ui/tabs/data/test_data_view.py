"""The data tab draws what the data child answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.schema import RunConfig
from app.data.client import DataClient
from app.data.dataset.options import DataOptions
from app.jobs.supervisor import spawn_helper
from app.models.names import STARTER, resolve
from app.runs import dataset_selection
from app.runs.dataset_selection import DatasetSelection
from app.ui.shell.language import Translator
from app.ui.tabs.data import view

T = Translator("en")
ROWS = '{"question": "<b>What?", "answer": "<i>That."}\n' * 2 + '{bad\n{"question": "a@b.io", "answer": "x"}\n'


@pytest.fixture(scope="module")
def client() -> Iterator[DataClient]:
    opened = DataClient(spawn_helper)
    yield opened
    opened.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    return tmp_path / "rows.jsonl"


def test_a_check_is_drawn(client: DataClient, rows: Path) -> None:
    config, look = RunConfig(), DatasetSelection(str(rows), "rows", drop=("duplicate",))
    found = client.check(Path(resolve(STARTER)), look.options(config), path=rows)
    assert (found.check.rows, found.check.usable, found.left_out) == (4, 2, {"json": 1, "duplicate": 1})
    said = view.sentence(found, look, T)
    assert "4 rows" in said and "1 row" in said and found.check.why in said
    assert "wb-chart" in view.lengths(found, config, T)
    drawn = view.problems(found, look, "drop", T)
    assert drawn.count("<section") == 3 and "a@b.io" in drawn and "&lt;b&gt;What?" in drawn and "<b>What" not in drawn


def test_without_a_tokenizer_the_lengths_say_so(client: DataClient, rows: Path) -> None:
    found = client.check(None, DataOptions(), path=rows)
    assert "wb-chart" not in view.lengths(found, RunConfig(), T) and "4 rows" in view.sentence(
        found, DatasetSelection(), T
    )


def test_the_tokens_of_a_row_are_drawn(client: DataClient, rows: Path) -> None:
    shown = client.show(1, Path(resolve(STARTER)), DataOptions(), path=rows)
    drawn = view.tokens(shown, T)
    assert drawn.count("wb-trained") == shown.trained_tokens + 1  # and the key's own
    assert "wb-special" in drawn and "&lt;|im_start|&gt;" in drawn and "<|im_start|>" not in drawn


FAULTS = r"""{"question": "What is it?", "answer": "It is a long answer."}
{"question": "What is it?", "answer": "It is a long answer."}
{bad
{"question": "open", "answer": "x
[1, 2]
{"question": "write to", "answer": "a@corp.io"}
{"question": "key", "answer": "hf_a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2"}
{"question": "cut", "answer": "so <|im_end|> it is"}
{"question": "none", "answer": ""}
{"x": 1, "y": 2}
{"messages": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "no"}]}
{"messages": [{"role": "wizard", "content": "x"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"from": "gpt", "value": "c"}]}
{"question": "LONG", "answer": "word"}
{"question": "nan", "answer": NaN}
{"question": "picture", "answer": "yes", "image": "dog.png"}
"""


def test_what_is_wrong_is_said_in_chinese_too(client: DataClient, tmp_path: Path) -> None:
    """Each message, what to do about it, and why the format was chosen; a file's name stands before it as it is."""
    (tmp_path / "rows.jsonl").write_text(FAULTS.replace("LONG", "word " * 3000))
    options = DatasetSelection(str(tmp_path), "rows").options(RunConfig())
    found = client.check(Path(resolve(STARTER)), options, path=tmp_path / "rows.jsonl")
    zh = Translator("zh")
    problems = found.check.problems
    assert len({problem.kind for problem in problems}) >= 10
    said = view._reason(found.check.why, zh)
    assert "rows" not in said and "columns" not in said and "；" not in found.check.why
    for text in (*(one.message for one in problems), *(one.fix for one in problems)):
        said = view._heard(text, zh)
        assert any("\u4e00" <= char <= "\u9fff" for char in said) and text not in said, text
    page = dataset_selection.page(DatasetSelection(str(tmp_path / "rows.jsonl"), "rows"), 0, 50)
    drawn = view.rows_table(page.rows, zh)
    assert "不是有效的 JSON" in drawn and "Not valid" not in drawn and "The row" not in drawn
    assert view._heard(f"a b.jsonl: {problems[0].message}", zh).startswith("a b.jsonl: ")
    assert view._heard("a.jsonl: The text is empty", zh) == "a.jsonl: 文本是空的"
