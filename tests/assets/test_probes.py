"""The general probes: made again from their script, and none of their facts in a sample set."""

from __future__ import annotations

import json
from pathlib import Path

from app.evaluation.held_out.forgetting import PROBES
from assets.build import probes, samples


def test_the_script_writes_the_very_file(tmp_path: Path) -> None:
    probes.write(tmp_path)
    assert (tmp_path / probes.FILE).read_bytes() == PROBES.read_bytes()


def test_every_probe_has_an_answer_that_is_right_and_that_no_sample_set_trains() -> None:
    made = probes.build()
    assert {one.language for one in made} == {"en", "zh"} and len({one.prompt for one in made}) == len(made)
    assert all(one.contains.casefold() in one.answer.casefold() for one in made)
    trained = "\n".join(answer for sample in samples.SAMPLES for _, answer in samples.build(sample)[0])
    assert not [one.answer for one in made if one.kind == "facts" and one.answer in trained]
    assert json.loads(made[0].line())["contains"] == [made[0].contains]
