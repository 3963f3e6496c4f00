"""Prompt suites: the list, the run over several adapters, and the table that comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.engine.variants import VariantSet
from app.errors import UsageError
from app.evaluation import suite_job
from app.evaluation.suites import (
    MOST_PROMPTS,
    Item,
    SuiteAnswer,
    SuiteColumn,
    SuiteResult,
    SuiteRow,
    as_csv,
    as_json,
    as_markdown,
    parse_suite,
    read_result,
    save,
    saved,
)
from app.jobs.child import JobChild
from app.jobs.directory import create
from app.models.prompts import Prompts
from app.workspace import open_workspace
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
NAMES = ["base", "plain", "rslora", "dora"]


def test_a_suite_is_one_prompt_a_line_and_comes_back(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    made = parse_suite("my/first suite", "What is 2 + 2? => 4\n\n a => b => c \nplain\n")
    assert made.items == (Item("What is 2 + 2?", "4"), Item("a => b", "c"), Item("plain"))
    save(workspace, made)
    assert saved(workspace) == [made] and parse_suite(made.name, made.text) == made
    (workspace.suites / "broken.json").write_text("[")
    assert saved(workspace) == [made]
    for name, text in (("", "a"), ("x", " \n "), ("x", "a\n" * (MOST_PROMPTS + 1)), ("x", "a" * 30_000)):
        with pytest.raises(UsageError):
            parse_suite(name, text)


def test_answers_are_those_of_each_column_alone(columns: VariantSet) -> None:
    prompts = Prompts(columns.model, columns.tokenizer, PLAIN_TEMPLATES, render_limit)
    items = [Item("the small house"), Item("the sea", "zzz")]
    together = suite_job.answer(columns, prompts, NAMES, items, 8)
    for place, item in enumerate(items):
        for name in NAMES:
            (alone,) = suite_job.answer(columns, prompts, [name], [item], 8)
            assert alone.answers[name] == together[place].answers[name]
    assert len({together[0].answers[name].text for name in NAMES}) == 4
    assert together[0].answers["base"].passed is None and together[1].answers["base"].passed is False
    (long,) = suite_job.answer(columns, prompts, ["base"], [Item("abc " * 2000)], 8)
    assert "context" in long.answers["base"].error


def test_expected_words_are_found_whatever_their_case() -> None:
    assert suite_job.passed("The Answer\n is  4.", "answer is 4") is True
    assert suite_job.passed("five", "4") is False and suite_job.passed("", "") is None


def test_the_job_keeps_a_table(tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path: Path) -> None:
    config = {
        "suite": "first",
        "items": [{"prompt": "the sea", "expect": ""}] * 3,
        "model": str(tiny_base),
        "adapters": {"plain": str(tiny_adapters["plain"])},
        "titles": {"plain": "My adapter"},
        "quant": "none",
        "dtype": "fp32",
        "max_tokens": 4,
    }
    job = create(open_workspace(tmp_path), "suite", config)
    outcome, figures = suite_job.work(JobChild(job))
    found = read_result(job)
    assert outcome == "finished" and figures["prompts"] == 3 and found is not None
    assert [column.title for column in found.columns] == ["base", "My adapter"] and len(found.rows) == 3
    assert found.columns[1].hash and found.passed("plain") == (0, 0)


def test_exports_hold_every_answer_and_no_formula() -> None:
    answers = {"one": SuiteAnswer("=1+1|x\ny", tokens=2, passed=True)}
    result = SuiteResult("s", (SuiteColumn("one", "One"),), (SuiteRow("@sum", "", answers),))
    assert "'@sum" in as_csv(result) and "'=1+1" in as_csv(result)
    assert "=1+1\\|x<br>y" in as_markdown(result)
    assert json.loads(as_json(result))["rows"][0]["answers"]["one"]["text"] == "=1+1|x\ny"
    assert result.passed("one") == (1, 1)
