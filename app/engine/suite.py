"""The suite's job: a list of prompts, answered greedily by the base and every adapter, many in one batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.data.templates import PLAIN_TEMPLATES, render_limit
from app.engine.columns import BASE, Columns
from app.engine.lane import Lane
from app.engine.rows import Delta, Done, Event, Failed, Row
from app.engine.sampling import Sampling
from app.engine.suite_requests import RESULT_FILE
from app.engine.text import TextStream
from app.jobs.child import JobChild, Outcome
from app.jobs.directory import replace_file
from app.models.identity import fingerprint
from app.models.loading import load_base, load_tokenizer
from app.models.prompts import PromptError, Prompts

# Rows of one batch; more make no token cheaper on the machines this is for.
_ROWS = 32


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Answer all prompts; what is answered is in the result at once, so that a stop loses nothing."""
    config = child.config
    child.progress(0, len(config["items"]), "loading the base model")
    model = str(config["model"])
    load = partial(load_base, quant=config.get("quant", "nf4"), dtype=config.get("dtype", "auto"))
    columns = Columns(load(model), load_tokenizer(model), fingerprint(model), load)
    prompts = Prompts(columns.model, columns.tokenizer, PLAIN_TEMPLATES, render_limit)
    for name, folder in dict(config["adapters"]).items():
        columns.add(name, Path(folder))
        prompts.learn(name, Path(folder))
    names = [name for name in columns.columns if name != BASE or config.get("base", True)]
    rows: list[dict[str, Any]] = []
    size = max(1, _ROWS // len(names))
    for start in range(0, len(config["items"]), size):
        if child.stop_requested():
            return "stopped", _summary(rows, names)
        items = config["items"][start : start + size]
        rows += answer(columns, prompts, names, items, int(config.get("max_tokens") or 96))
        _keep(child, columns, names, rows)
        child.progress(len(rows), len(config["items"]), "answering")
    return "finished", _summary(rows, names)


def answer(
    columns: Columns, prompts: Prompts, names: Sequence[str], items: Sequence[Mapping[str, str]], max_tokens: int
) -> list[dict[str, Any]]:
    """Return a row for every item: the prompt and, by column, text, tokens, and whether it holds what was expected."""
    found: list[dict[str, Any]] = [
        {"prompt": item["prompt"], "expect": item.get("expect", ""), "answers": {}} for item in items
    ]
    for group in _groups(columns, names):
        collected = []
        for place in range(len(items)):
            for name in group:
                collected.append((place, name, _Collected(prompts, name, items[place]["prompt"], max_tokens)))
        _run(columns, [one.row for _, _, one in collected if one.row is not None])
        for place, name, one in collected:
            found[place]["answers"][name] = {**one.facts, "passed": passed(one.facts["text"], found[place]["expect"])}
    return found


def passed(text: str, expect: str) -> bool | None:
    """Tell whether an answer holds the expected words, in any case; None when nothing was expected."""
    return None if not expect else " ".join(expect.split()).casefold() in " ".join(text.split()).casefold()


class _Collected:
    """One answer while it comes in."""

    def __init__(self, prompts: Prompts, column: str, prompt: str, max_tokens: int) -> None:
        self.facts: dict[str, Any] = {"text": "", "tokens": 0, "error": ""}
        self.row: Row | None = None
        try:
            ids = prompts.encode(column, [{"role": "user", "content": prompt}], {})
        except PromptError as error:
            self.facts["error"] = str(error)
            return
        room = prompts.context - len(ids)
        if room < 1:
            self.facts["error"] = f"the prompt has {len(ids)} tokens, the context {prompts.context}"
            return
        sampling = Sampling(temperature=0.0, max_tokens=min(max_tokens, room))
        text = TextStream(prompts.decode)
        self.row = Row(column, ids, sampling, text, prompts.end_tokens, self._take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.facts["text"] += event.text
        elif isinstance(event, Done):
            self.facts["tokens"] = event.tokens
        elif isinstance(event, Failed):
            self.facts["error"] = event.message


def _groups(columns: Columns, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the columns that share a batch, then each one that runs beside it."""
    shared = [name for name in names if columns.columns[name].shared]
    if shared:
        yield shared
    yield from ([name] for name in names if not columns.columns[name].shared)


def _run(columns: Columns, rows: Sequence[Row]) -> None:
    if not rows:
        return
    lane = Lane(columns)
    lane.join(rows)
    while lane.rows:
        lane.step()


def _keep(child: JobChild, columns: Columns, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    titles = child.config.get("titles") or {}
    found = {
        "suite": child.config["suite"],
        "columns": [
            {"name": name, "title": str(titles.get(name, name)), "hash": columns.columns[name].hash} for name in names
        ],
        "rows": list(rows),
    }
    child.directory.result.mkdir(exist_ok=True)
    replace_file(child.directory.result / RESULT_FILE, json.dumps(found, ensure_ascii=False))


def _summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    judged = {name: [row["answers"][name]["passed"] for row in rows] for name in names}
    return {"prompts": len(rows), "passed": {name: sum(one is True for one in found) for name, found in judged.items()}}
