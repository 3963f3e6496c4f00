"""The metrics by name: what each needs of a row, in which direction it is better, and its range. Free of libraries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import UsageError, keyed

# Where a metric's score of a row comes from: the likelihood of its trained tokens, the answer that the model writes, or
# the likelihoods of the row's choices.
Source = Literal["tokens", "answer", "choices"]


@dataclass(frozen=True)
class Metric:
    """One metric. `highest` is the best score of a row, None where scores have no bound; `better` says which way."""

    name: str
    source: Source
    needs: str
    highest: float | None = 1.0
    better: Literal["higher", "lower"] = "higher"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("loss", "tokens", "an answer", highest=None, better="lower"),
        Metric("exact_match", "answer", "an answer, or the field `expected`"),
        Metric("contains", "answer", "an answer, or the field `contains`"),
        Metric("regex", "answer", "the field `pattern`, or --pattern"),
        Metric("json_schema", "answer", "the field `schema`, or --schema"),
        Metric("choice", "choices", "the field `choices`, or --choices"),
        Metric("choice_norm", "choices", "the field `choices`, or --choices"),
        Metric("numeric", "answer", "an answer with a number in it, or the field `expected`"),
        Metric("f1", "answer", "an answer, or the field `expected`"),
        Metric("chrf", "answer", "an answer, or the field `expected`", highest=100.0),
        Metric("tool_call", "answer", "an answer that calls a tool"),
    )
}
# What is measured where no metric is named, besides what the rows carry fields for.
DEFAULT = ("loss", "exact_match", "f1")
# Other names under which people look for one.
_ALIASES = {
    "perplexity": "loss",
    "exact": "exact_match",
    "em": "exact_match",
    "token_f1": "f1",
    "tool_calls": "tool_call",
}


def chosen(text: str) -> tuple[str, ...]:
    """Return the metrics that a list with commas names, `loss` first; none where it is empty. Raises UsageError."""
    found = ["loss"]
    for word in text.split(","):
        name = word.strip().lower().replace("-", "_")
        name = _ALIASES.get(name, name)
        if name and name not in METRICS:
            raise UsageError(
                keyed("there_is_no_metric", "There is no metric {name}", name=f"{word.strip()!r:.60}"),
                "",
                keyed("choose_metrics", "choose of {names}", names=", ".join(METRICS)),
            )
        if name and name not in found:
            found.append(name)
    return tuple(found) if text.strip(" ,") else ()


def answered(names: Sequence[str]) -> bool:
    """Tell whether any of the metrics needs the model to write an answer."""
    return any(METRICS[name].source == "answer" for name in names)
