"""The suite's job: a list of prompts, answered greedily by the base and every adapter, many in one batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.engine.variants import BASE, VariantSet
from app.evaluation.answers import Question, answer_all
from app.evaluation.suites import (
    RESULT_FILE,
    Item,
    SuiteAnswer,
    SuiteColumn,
    SuiteRequest,
    SuiteResult,
    SuiteRow,
    passed,
)
from app.files import replace_file
from app.jobs.child import JobChild, Outcome, Result
from app.models.identity import fingerprint
from app.models.loading import Quant, load_base, load_tokenizer
from app.models.prompts import Prompts

# Answers after which what there is so far is kept.
_ANSWERS = 64


def work(child: JobChild) -> tuple[Outcome, Result]:
    """Answer all prompts; what is answered is in the result at once, so that a stop loses nothing."""
    request = child.request(SuiteRequest)
    child.progress(0, len(request.items), "loading the base model")
    load = partial(load_base, quant=cast(Quant, request.quant), dtype=request.dtype)
    columns = VariantSet(load(request.model), load_tokenizer(request.model), fingerprint(request.model), load)
    prompts = Prompts(columns.model, columns.tokenizer, PLAIN_TEMPLATES, render_limit)
    for name, folder in request.adapters.items():
        columns.add(name, Path(folder))
        prompts.learn(name, Path(folder))
    names = [name for name in columns.columns if name != BASE or request.base]
    rows: list[SuiteRow] = []
    size = max(1, _ANSWERS // len(names))
    for start in range(0, len(request.items), size):
        if child.stop_requested():
            return "stopped", _summary(rows, names)
        rows += answer(columns, prompts, names, request.items[start : start + size], request.max_tokens)
        titled = tuple(SuiteColumn(name, request.titles.get(name, name), columns.columns[name].hash) for name in names)
        found = SuiteResult(request.suite, titled, tuple(rows))
        child.directory.result.mkdir(exist_ok=True)
        replace_file(child.directory.result / RESULT_FILE, json.dumps(asdict(found), ensure_ascii=False))
        child.progress(len(rows), len(request.items), "answering")
    return "finished", _summary(rows, names)


def answer(
    columns: VariantSet, prompts: Prompts, names: Sequence[str], items: Sequence[Item], max_tokens: int
) -> list[SuiteRow]:
    """Return a row for every item, with the answer of each named column."""
    questions = [Question(({"role": "user", "content": item.prompt},)) for item in items]
    found = answer_all(columns, prompts, questions, names, max_tokens) or []
    rows = []
    for item, answers in zip(items, found, strict=True):
        by_name = {
            name: SuiteAnswer(one.text, one.tokens, one.error, passed(one.text, item.expect))
            for name, one in zip(names, answers, strict=True)
        }
        rows.append(SuiteRow(item.prompt, item.expect, by_name))
    return rows


def _summary(rows: Sequence[SuiteRow], names: Sequence[str]) -> Result:
    return {
        "prompts": len(rows),
        "passed": {name: sum(row.answers[name].passed is True for row in rows) for name in names},
    }
