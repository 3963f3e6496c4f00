"""Write out the rows that are not trained, each with its line and the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from app.data.chat_template.render import Renderer
from app.data.dataset.auditing.audit import Auditor, near_duplicates
from app.data.dataset.convert import write_jsonl
from app.data.dataset.makers import outcomes
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import Outcome
from app.data.messages import RejectedAnswer
from app.data.reading.rows import Fields, Row, RowProblem

Read = Callable[[], "Iterable[Row | RowProblem]"]


def write_rejected(read: Read, out: Path, options: DataOptions, renderer: Renderer | None = None) -> RejectedAnswer:
    """Write one JSON object a row that is left out: line, kind, message and fix, and the row as it came.

    `row` holds the fields, or the text of a row that could not be parsed. `read` is called twice where near duplicates
    are left out. Without a renderer the limit and the template are not asked.
    """
    near = near_duplicates(read(), options, renderer) if "near_duplicate" in options.drop else {}
    auditor = Auditor(options, renderer.tokenizer.added_tokens if renderer else frozenset())

    def left_out() -> Iterator[Fields]:
        for outcome in outcomes(read(), options, renderer):
            reason = _reason(outcome, auditor, near)
            if reason is not None:
                yield {**reason.as_dict(), "row": outcome.row.fields if outcome.row else reason.original}

    return RejectedAnswer(str(out), write_jsonl(left_out(), out))


def _reason(outcome: Outcome, auditor: Auditor, near: dict[int, int]) -> RowProblem | None:
    if outcome.row is None or outcome.conversation is None:
        return outcome.problem
    reason = auditor.left_out(outcome, auditor.judge(outcome.row, outcome.conversation, outcome.text))
    if reason is None and outcome.row.number in near:
        row, message = outcome.row, f"The row says nearly the same as row {near[outcome.row.number]}"
        return RowProblem(row.line, "near_duplicate", message, "Drop near duplicates", row.number, row.file)
    return reason
