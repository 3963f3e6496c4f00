"""An evaluation as the page shows it: the sentence, the table, what was trained, the marked point, the answers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from app.evaluation.held_out.results import (
    ColumnResult,
    Contamination,
    CurvePoint,
    EvaluatedRow,
    EvaluationResult,
    Forgetting,
    GainCurve,
    MetricValue,
    PairedResult,
    RowAnswer,
)
from app.ui.shell.language import Translator
from app.ui.tabs.playground import evaluate_view

T = Translator("en")
NAMES = {"one": "My <b>adapter</b>"}


def column(name: str, exact: float, loss: float, forgetting: Forgetting | None = None) -> ColumnResult:
    metrics = {"loss": MetricValue(loss, loss, loss, 20), "exact_match": MetricValue(exact, exact - 0.1, exact, 20)}
    return ColumnResult(name, name.title(), name * 3, 20, loss, 2.718, metrics, forgetting)


def result(p: float = 0.01, exact: float = 0.9) -> EvaluationResult:
    pair = PairedResult("one", "base", "exact_match", 8, 1, 11, p)
    return EvaluationResult("held.jsonl", "0" * 64, 20, (column("base", 0.5, 2.0), column("one", exact, 1.0)), (pair,))


def test_the_sentence_names_the_best_and_says_whether_that_is_sure() -> None:
    sure = evaluate_view.sentence(result(), T, NAMES)
    assert sure.startswith("My <b>adapter</b> beats the base") and "better on 8, worse on 1, of 20" in sure
    assert "not surely" in evaluate_view.sentence(result(p=0.3), T, NAMES)
    assert evaluate_view.sentence(result(exact=0.1), T, NAMES).startswith("No column beats the base")
    alone = replace(result(), columns=(column("one", 0.9, 1.0),))
    assert evaluate_view.sentence(alone, T, NAMES) == "Measured on 20 rows of held.jsonl."


def test_of_losses_the_lower_one_is_the_better() -> None:
    pair = PairedResult("one", "base", "loss", 18, 2, 0, 0.001)
    only_loss = [replace(one, metrics={"loss": one.metrics["loss"]}) for one in result().columns]
    found = replace(result(), columns=tuple(only_loss), paired=(pair,))
    assert evaluate_view.sentence(found, T, NAMES).startswith("My <b>adapter</b> beats the base")


@pytest.mark.parametrize("lost", [None, Forgetting(0.125, 0.5, 3, 40)])
def test_every_row_of_the_table_has_a_cell_under_every_head(lost: Forgetting | None) -> None:
    found = replace(result(), columns=(column("base", 0.5, 2.0), column("one", 0.9, 1.0, lost)))
    head, _, body = evaluate_view.table(found, T, NAMES).partition("<tbody>")
    heads = head.count("<th>")
    assert [row.count("<td") for row in body.split("<tr>")[1:]] == [heads, heads]
    assert ("3 of 40" in body) == (lost is not None) and "<b>adapter" not in body


def test_rows_that_were_trained_are_a_warning_and_unknown_ones_a_note() -> None:
    told = (Contamination("one", "run", equal=4, near=2), Contamination("base", unknown="no run"))
    shown = evaluate_view.shown(replace(result(), contamination=told), T, NAMES)
    (warning,) = re.findall(r'<p class="wb-warn">.*?</p>', shown)
    assert "trained on 4 of these rows" in warning and "2 that say nearly" in warning
    assert "is not known" in shown
    clean = evaluate_view.shown(replace(result(), contamination=(Contamination("one", "run"),)), T, NAMES)
    assert "wb-warn" not in clean and "is not known" not in clean


def curve(best: float | None, over: str = "weight") -> GainCurve:
    points = tuple(CurvePoint(at, 0.5 + at / 10, at / 10, at / 5, 0.0) for at in (0.0, 0.5, 1.0))
    return GainCurve("one", over, "exact_match", points, best)  # type: ignore[arg-type]


def test_a_marked_weight_can_be_kept_and_a_marked_step_or_the_base_cannot() -> None:
    assert 'data-pick="keep:one"' in evaluate_view.curve_picture(curve(0.5), T, "One")
    for other in (curve(0.0), curve(0.5, "step"), curve(None)):
        assert "data-pick" not in evaluate_view.curve_picture(other, T, "One")
    assert "No point gained" in evaluate_view.curve_picture(curve(None), T, "One")


def test_answers_are_text_and_an_error_stands_in_their_place() -> None:
    answers = {"base": RowAnswer("<i>no</i>", "", {"exact_match": 0.0}), "one": RowAnswer(error="too long")}
    row = EvaluatedRow(1, "q?", "yes", answers)
    shown = evaluate_view.rows_table(replace(result(), rows=(row,)), T, NAMES)
    assert "&lt;i&gt;no" in shown and '<span class="wb-bad">too long</span>' in shown
    silent = EvaluatedRow(1, "q?", "yes", {"base": RowAnswer(scores={"loss": 1.0})})
    assert evaluate_view.rows_table(replace(result(), rows=(silent,)), T, NAMES) == ""
