"""What is said of a run at its end, and how many steps so many rows need."""

from __future__ import annotations

import math

import pytest

from app.config.presets import load
from app.runs.results import verdict
from app.runs.results.curves import Curves


def _run(losses: list[float], validation: dict[int, float] | None = None) -> Curves:
    found = Curves()
    for step, loss in enumerate(losses, 1):
        found.add({"step": step, "loss": loss, "time": float(step)})
    for step, loss in (validation or {}).items():
        found.add({"step": step, "event": "validation", "eval_loss": loss})
    return found


_FLAT_END = [0.2 + 3 * math.exp(-step / 8) for step in range(80)]
_FALLING = [3 - step / 40 for step in range(80)]


@pytest.mark.parametrize(
    ("losses", "validation", "word"),
    [
        (_FLAT_END, None, "learned"),
        (_FALLING, None, "falling"),
        ([2.0 + 0.01 * (-1) ** step for step in range(80)], None, "unmoved"),
        ([2.0 + step / 100 for step in range(80)], None, "unmoved"),
        (_FALLING, {20: 2.0, 40: 1.5, 60: 1.8, 80: 2.2}, "overfitted"),
        (_FALLING, {20: 2.0, 40: 1.5, 60: 1.4, 80: 1.41}, "falling"),
        ([0.04 - step / 4000 for step in range(80)], None, "learned"),
    ],
)
def test_the_word(losses: list[float], validation: dict[int, float] | None, word: str) -> None:
    found = verdict.of(_run(losses, validation), [20, 40, 60, 80])
    assert found is not None
    assert found.word == word


def test_overfitting_names_the_checkpoint_and_falling_the_steps() -> None:
    found = verdict.of(_run(_FALLING, {20: 2.0, 45: 1.5, 60: 1.8, 80: 2.2}), [20, 40, 60, 80])
    assert found == verdict.Verdict("overfitted", step=40)
    assert verdict.of(_run(_FALLING)) == verdict.Verdict("falling", steps=160)


def test_too_little_says_nothing() -> None:
    assert verdict.of(Curves()) is None
    assert verdict.of(_run([3.0, 2.0, 1.0])) is None


def test_forty_rows_of_the_starter_want_four_hundred_steps() -> None:
    config = load("cpu-starter").config
    assert verdict.suggested_steps(config, 40) == 400
    assert verdict.suggested_steps(config.changed({"training.max_steps": 400}), 40) is None
    assert verdict.suggested_steps(config, 0) is None
    by_epochs = config.changed({"training.max_steps": -1})
    assert verdict.suggested_steps(by_epochs, 40) is None
    assert verdict.suggested_steps(config, 300) is None
    assert verdict.suggested_steps(config, 4000) == 500
