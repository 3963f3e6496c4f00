"""Which answers to probes are right: by words, by a pattern, or by both, and what counts as forgotten."""

from __future__ import annotations

import json
import re

import pytest

from app.data.formats.conversation import Conversation
from app.evaluation.answers import GreedyAnswer
from app.evaluation.held_out.cases import Case
from app.evaluation.held_out.forgetting import PROBES, forgetting, is_right
from app.evaluation.held_out.likelihood import Likelihood
from app.evaluation.metrics.answers import Reference


def _probe(**expected: object) -> Case:
    return Case(1, Conversation(()), None, Reference(**expected), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "right", "wrong"),
    [
        (_probe(contains=("Egypt",)), "In egypt, class!", "In Peru."),
        (_probe(answers=("<note>In Egypt.</note>",), pattern="^<note>.+</note>$"), "<note>Peru</note>", "In Egypt."),
        (_probe(pattern="^<note>", contains=("Egypt",)), "<note>Egypt", "<note>Peru"),
        (_probe(answers=("Egypt",)), "It is Egypt.", ""),
    ],
)
def test_a_probe_is_held_to_all_that_it_says(probe: Case, right: str, wrong: str) -> None:
    assert is_right(probe, GreedyAnswer(right)) and not is_right(probe, GreedyAnswer(wrong))
    assert not is_right(probe, GreedyAnswer(right, error="too long"))


def test_an_answer_that_left_the_form_has_flipped_though_its_fact_is_right() -> None:
    rows = [json.loads(line) for line in PROBES.read_text(encoding="utf-8").splitlines()]
    forms = [row for row in rows if row["kind"] == "formats"]
    probes = [_probe(pattern=row["pattern"]) for row in forms]
    before = [GreedyAnswer(row["messages"][-1]["content"]) for row in forms]
    after = [GreedyAnswer(f"{re.sub('^Well now, ', '', one.text)} Arr, matey!") for one in before]
    alike = [Likelihood(-1.0, 0.0, 1)] * len(probes)
    lost = forgetting(probes, alike, alike, before, after)
    assert (lost.known, lost.flipped, lost.gained) == (32, 32, 0) and lost.kl == 0
