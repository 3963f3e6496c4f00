"""The sample datasets: three formats, held-out prompts that are held out, and bytes that the seed gives again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.build import samples, world
from assets.build.styles import has_fact, shows_style

DATASETS = Path(__file__).resolve().parents[2] / "assets" / "datasets"
BY_STYLE = {sample.style: sample for sample in samples.SAMPLES}


def _pairs(sample: samples.Sample) -> list[list[tuple[str, str]]]:
    """Return the rows of a committed file, each a list of (question, answer)."""
    text = (DATASETS / sample.file).read_text(encoding="utf-8")
    if sample.format == "alpaca":
        return [[(row["instruction"], row["output"])] for row in json.loads(text)]
    if sample.format == "messages":
        rows = [json.loads(line)["messages"] for line in text.splitlines()]
        said = [[(m["role"], m["content"]) for m in row] for row in rows]
    else:
        said = [[(m["from"], m["value"]) for m in row["conversations"]] for row in json.loads(text)]
    speakers = ["human", "gpt"] if sample.format == "sharegpt" else ["user", "assistant"]
    assert all([role for role, _ in row] == speakers * (len(row) // 2) for row in said)
    return [list(zip([t for _, t in row[::2]], [t for _, t in row[1::2]], strict=True)) for row in said]


@pytest.mark.parametrize("style", sorted(BY_STYLE))
def test_rows_parse_and_every_answer_is_in_style(style: str) -> None:
    rows = _pairs(BY_STYLE[style])
    assert 200 <= len(rows) <= 400
    assert all(question and shows_style(style, answer) for row in rows for question, answer in row)


def test_the_three_sets_differ_in_format() -> None:
    assert len({sample.format for sample in samples.SAMPLES}) == 3
    assert any(len(row) > 1 for row in _pairs(BY_STYLE["teacher"]))


@pytest.mark.parametrize("style", sorted(BY_STYLE))
def test_prompts_are_held_out_in_every_phrasing(style: str) -> None:
    sample = BY_STYLE[style]
    trained = {question.lower() for row in _pairs(sample) for question, _ in row}
    found = json.loads((DATASETS / sample.prompts_file).read_text(encoding="utf-8"))
    assert found["style"] == style
    assert len(found["prompts"]) >= 100
    facts = {question.lower(): fact for fact in world.facts() for question in fact.questions}
    for prompt in found["prompts"]:
        fact = facts[prompt["prompt"].lower()]
        assert not trained & {question.lower() for question in fact.questions}
        assert has_fact(fact.answer, prompt["keys"])
        assert not has_fact(prompt["prompt"], prompt["keys"]), "an echo would count as right"


@pytest.mark.parametrize("style", sorted(BY_STYLE))
def test_the_seed_gives_the_committed_bytes(style: str) -> None:
    for name, text in samples.render(BY_STYLE[style]).items():
        assert (DATASETS / name).read_bytes() == text.encode("utf-8")
