"""Which maker turns rows into examples: conversations one way, preferences another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.config.objectives import row_kind
from app.data.chat_template.render import Renderer
from app.data.dataset.examples import ExampleMaker, refuse_empty
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import Maker, Outcome, format_name
from app.data.dataset.preference_rows import PreferenceMaker, read_sides
from app.data.dataset.repairs import repair
from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow, Row, RowProblem


def maker_of(renderer: Renderer, options: DataOptions) -> Maker:
    """Return what makes examples of rows for the options' objective."""
    if options.objective == "sft":
        return ExampleMaker(renderer, options)
    return PreferenceMaker(renderer, options)


def outcomes(records: Iterable[Row | RowProblem], options: DataOptions, renderer: Renderer | None) -> Iterator[Outcome]:
    """Yield an outcome for every record; without a renderer rows are converted and get no tokens."""
    if renderer is not None:
        yield from maker_of(renderer, options).make(records)
        return
    for record in records:
        yield _converted(record, options) if isinstance(record, Row) else Outcome(None, "unknown", problem=record)


def _converted(row: Row, options: DataOptions) -> Outcome:
    name = format_name(row, options)
    try:
        if options.objective != "sft":
            pair, _, sides = read_sides(row, name, options, pairs=row_kind(options.objective) == "pairs")
            return Outcome(row, name, sides[0], pair=pair)
        conversation = conversation_of(row.fields, name, options.mapping)
        conversation = repair(conversation, options.repair, frozenset())
        refuse_empty(conversation)
        return Outcome(row, name, conversation)
    except BadRow as bad:
        return Outcome(row, name, problem=bad.at(row.line, row.number, row.file))
