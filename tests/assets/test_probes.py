"""The general probes: made again from their script, and none of their facts in a sample set."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.evaluation.held_out.forgetting import PROBES
from assets.build import probes, samples


def test_the_script_writes_the_very_file(tmp_path: Path) -> None:
    probes.write(tmp_path)
    assert (tmp_path / probes.FILE).read_bytes() == PROBES.read_bytes()


def test_every_probe_has_an_answer_that_is_right_and_that_no_sample_set_trains() -> None:
    made = probes.build()
    assert {one.language for one in made} == {"en", "zh"}
    assert {one.kind for one in made} == {"facts", "formats", "turns", "unknown", "general", "chinese"}
    asked = [(one.system, one.before, one.prompt) for one in made]
    assert len(set(asked)) == len(asked) and len(made) > 140
    assert not [one for one in made if not re.search(one.pattern, one.answer)]
    assert all(one.contains.casefold() in one.answer.casefold() and (one.contains or one.pattern) for one in made)
    trained = [pair for sample in samples.SAMPLES for pair in samples.build(sample)[0]]
    answers = "\n".join(answer for _, answer in trained)
    assert not [one.answer for one in made if one.kind in ("facts", "turns") and one.answer in answers]
    assert not {question for question, _ in trained} & {one.prompt for one in made}
    assert json.loads(made[-1].line())["contains"] == [made[-1].contains]


def test_a_form_that_is_asked_for_is_held_to_its_form_and_ignorance_to_any_words_of_it() -> None:
    made = probes.build()
    forms = [one for one in made if one.kind == "formats"]
    plain = [one.answer for one in made if one.kind == "facts" and " " in one.answer]
    assert not [text for one in forms for text in plain if re.search(one.pattern, text)]
    unknown = next(one.pattern for one in made if one.kind == "unknown")
    said = (
        "I don't know that. Arr, matey!",
        '{"answer": "I do not know that."}',
        "I can\u2019t see you.",
        "No way to tell.",
    )
    assert all(re.search(unknown, text) for text in said)
    assert not re.search(unknown, "The capital of Spain is Madrid.")
