"""An evaluation on the page: the table with its intervals, who beats whom in words, the pictures, what to save."""

from __future__ import annotations

from collections.abc import Sequence

from app.evaluation.held_out import results
from app.evaluation.held_out.results import (
    ColumnResult,
    Contamination,
    EvaluatedRow,
    EvaluationResult,
    GainCurve,
    MetricValue,
    PairedResult,
    RowAnswer,
)
from app.evaluation.metrics.catalogue import METRICS
from app.ui.components import messages, number_format
from app.ui.components.charts import Dot, Line, chart
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Translator
from app.ui.tabs.playground import view

_MOST_ROWS = 100
# Below this a sign test is called a difference.
_SURE = 0.05


def shown(result: EvaluationResult, t: Translator, names: dict[str, str]) -> Html:
    """Return a whole result. `names` are what people call the columns."""
    parts: list[Html] = [messages.sentence(sentence(result, t, names)), _trained(result.contamination, t, names)]
    parts += [table(result, t, names), _against_base(result, t, names)]
    parts += [curve_picture(curve, t, names.get(curve.column, curve.column)) for curve in result.curves]
    parts += [messages.note(note) for note in (*_left_out(result, t), *result.notes)]
    return element("div", *parts, rows_table(result, t, names), _files(result, t))


def sentence(result: EvaluationResult, t: Translator, names: dict[str, str]) -> str:
    """Return the answer in one sentence: which column is best on the first metric, and whether that is sure."""
    metric = next((name for name in result.metrics if name != "loss"), next(iter(result.metrics), ""))
    rated = [column for column in result.columns if metric in column.metrics]
    if len(rated) < 2:
        return t("evaluate.measured", rows=number_format.count(result.n), data=result.data)
    sign = -1 if METRICS[metric].better == "lower" else 1
    best = max(rated, key=lambda column: sign * column.metrics[metric].value)
    against = next(
        (one for one in result.paired if one.metric == metric and one.a == best.name and one.b == "base"), None
    )
    if best.name == "base" or against is None:
        return t("evaluate.base_best", metric=metric_name(metric, t), data=result.data)
    said = words(against, t)
    key = "evaluate.best" if against.p < _SURE else "evaluate.best_unsure"
    return t(key, name=names.get(best.name, best.title), metric=metric_name(metric, t), words=said)


def words(pair: PairedResult, t: Translator) -> str:
    """Return a comparison as a person says it, with its p-value."""
    rows = pair.better + pair.worse + pair.same
    return t("evaluate.words", better=pair.better, worse=pair.worse, of=rows, p=f"{pair.p:.2g}")


def metric_name(metric: str, t: Translator) -> str:
    """Return what a metric is called on the page."""
    return t.known(f"evaluate.metric.{metric}", metric)


def table(result: EvaluationResult, t: Translator, names: dict[str, str]) -> Html:
    """Return the figures of all columns."""
    metrics = result.metrics
    forgets = any(column.forgetting for column in result.columns)
    heads = [t("evaluate.column"), *(metric_name(name, t) for name in metrics), t("evaluate.perplexity")]
    heads += [t("evaluate.kl"), t("evaluate.loss_change"), t("evaluate.flipped")] if forgets else []
    rows = [element("tr", *_cells(column, metrics, forgets, t, names)) for column in result.columns]
    drawn = element(
        "table", element("thead", element("tr", *(element("th", head) for head in heads))), element("tbody", *rows)
    )
    return element("div", drawn, class_="wb-table wb-evaluation")


def _cells(
    column: ColumnResult, metrics: Sequence[str], forgets: bool, t: Translator, names: dict[str, str]
) -> list[Html]:
    cells = [element("td", element("b", names.get(column.name, column.title)))]
    cells += [_figure(column.metrics.get(name), t) for name in metrics]
    cells.append(element("td", "-" if column.perplexity is None else f"{column.perplexity:,.2f}"))
    lost = column.forgetting
    if forgets and lost is None:  # the base, which has nothing to forget
        cells += [element("td", "-")] * 3
    elif lost is not None:
        cells += [element("td", f"{lost.kl:.3f}"), element("td", f"{lost.loss_change:+.3f}")]
        cells.append(element("td", t("evaluate.flipped_of", flipped=lost.flipped, known=lost.known)))
    return cells


def _figure(found: MetricValue | None, t: Translator) -> Html:
    if found is None:
        return element("td", "-")
    interval = t("evaluate.interval", low=number_format.loss(found.low), high=number_format.loss(found.high))
    return element("td", number_format.loss(found.value), element("span", interval, class_="wb-muted"))


def _trained(found: Sequence[Contamination], t: Translator, names: dict[str, str]) -> Html:
    """Say what was trained of these rows, in a warning, and where nobody can tell."""
    parts = []
    for one in found:
        name = names.get(one.column, one.column)
        if one.equal or one.near:
            parts.append(
                element("p", t("evaluate.trained", name=name, equal=one.equal, near=one.near), class_="wb-warn")
            )
        elif one.unknown:
            parts.append(messages.note(t("evaluate.untold", name=name)))
    return joined(parts)


def _left_out(result: EvaluationResult, t: Translator) -> list[str]:
    """Say how many rows were left out since a column was trained on them, and how many since they cannot be used."""
    trained = result.left_out.get("trained", 0)
    unusable = sum(result.left_out.values()) - trained
    lines = [t("evaluate.left_trained", rows=number_format.count(trained))] if trained else []
    return lines + ([t("evaluate.left_unusable", rows=number_format.count(unusable))] if unusable else [])


def _against_base(result: EvaluationResult, t: Translator, names: dict[str, str]) -> Html:
    lines = [
        element(
            "li",
            t(
                "evaluate.pair",
                a=names.get(pair.a, pair.a),
                b=names.get(pair.b, pair.b),
                metric=metric_name(pair.metric, t),
                words=words(pair, t),
            ),
        )
        for pair in result.paired
    ]
    return element("ul", *lines, class_="wb-note") if lines else Html("")


def curve_picture(curve: GainCurve, t: Translator, name: str) -> Html:
    """Return gain against forgetting with the best point marked; at a weight, with the button that keeps it."""
    points = [(one.kl, one.gain) for one in curve.points]
    over = t(f"evaluate.over.{curve.over}")
    title = t("evaluate.curve", name=name, metric=metric_name(curve.metric, t), over=over)
    dots = [
        Dot(
            one.kl,
            one.gain,
            f"{one.at:g}",
            t("evaluate.point", over=over, at=f"{one.at:g}", gain=f"{one.gain:+.3f}", kl=f"{one.kl:.3f}"),
            colour="good" if one.at == curve.best else "accent",
            strong=one.at == curve.best,
        )
        for one in curve.points
    ]
    drawn = chart(
        [Line(points)], title, dots=dots, x_title=t("evaluate.kl_axis"), height_px=260, empty=t("evaluate.no_points")
    )
    return element("div", drawn, _best(curve, t))


def _best(curve: GainCurve, t: Translator) -> Html:
    point = curve.best_point
    if point is None:
        return messages.note(t("evaluate.no_gain"))
    said = t("evaluate.best_point", over=t(f"evaluate.over.{curve.over}"), at=f"{point.at:g}", kl=f"{point.kl:.3f}")
    if curve.over != "weight" or point.at == 0:
        return messages.note(said)
    keep = element(
        "button", t("evaluate.keep", at=f"{point.at:g}"), type="button", class_="wb-small wb-keep-weight",
        data_pick=f"keep:{curve.column}",
    )  # fmt: skip
    return element("p", said, " ", keep, class_="wb-note")


def rows_table(result: EvaluationResult, t: Translator, names: dict[str, str]) -> Html:
    """Return the first rows with their answers, folded."""
    answered = [row for row in result.rows if any(one.text or one.error for one in row.answers.values())]
    if not answered:
        return Html("")
    heads = [t("play.prompt"), t("play.expected"), *(names.get(one.name, one.title) for one in result.columns)]
    body = [_row(row, result, t) for row in answered[:_MOST_ROWS]]
    drawn = element(
        "table", element("thead", element("tr", *(element("th", head) for head in heads))), element("tbody", *body)
    )
    summary = element("summary", t("evaluate.rows", shown=len(body), rows=number_format.count(result.n)))
    return element("details", summary, element("div", drawn, class_="wb-table wb-suite"))


def _row(row: EvaluatedRow, result: EvaluationResult, t: Translator) -> Html:
    cells = [element("td", row.prompt, class_="wb-cell"), element("td", row.expected, class_="wb-cell wb-muted")]
    for column in result.columns:
        answer = row.answers.get(column.name, RowAnswer())
        scores = ", ".join(f"{metric_name(name, t)} {score:.3g}" for name, score in answer.scores.items())
        text = element("span", t.heard(answer.error), class_="wb-bad") if answer.error else answer.text
        cells.append(element("td", element("div", text), element("span", scores, class_="wb-muted"), class_="wb-cell"))
    return element("tr", *cells)


def _files(result: EvaluationResult, t: Translator) -> Html:
    stem = f"evaluation-{result.data.rsplit('.', 1)[0]}"
    return view.saving(
        t,
        (f"{stem}.csv", "CSV", results.as_csv(result)),
        (f"{stem}-rows.csv", t("evaluate.rows_csv"), results.rows_as_csv(result)),
        (f"{stem}.json", "JSON", results.as_json(result)),
    )
