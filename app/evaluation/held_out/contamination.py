"""Which rows of an evaluation a column was trained on: equal ones, and such that say nearly the same.

The rows that a run trained are numbered in its built dataset; their texts are read from its data file again, as long as
that is still the file that the run was handed in with. So the share that a run kept back for validation is not among
them, and evaluating on it is honest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.config.schema import RunConfig, parse
from app.data.dataset.auditing.duplicates import Sketches, content_hash, normalised
from app.data.dataset.build import BuiltDataset, recorded
from app.data.dataset.options import DataOptions
from app.data.formats.conversation import Conversation
from app.data.formats.conversions import conversation_of
from app.data.reading.readers import read_rows
from app.data.reading.rows import BadRow, Row
from app.errors import WorkbenchError
from app.evaluation.held_out.cases import Case
from app.evaluation.held_out.results import Contamination
from app.jobs.directory import JobDirectory, holding
from app.workspace import source_sha256

# A question that so many rows ask, or more, tells no row from another.
_COMMON_QUESTION = 4


def contamination(column: str, folder: Path, cases: Sequence[Case]) -> Contamination:
    """Say which cases are among the training rows of the run that a column's folder lies in."""
    job = holding(folder)
    if job is None or job.job["kind"] != "train":
        return Contamination(column, unknown="it lies in no run of this workspace, so its training rows are not known")
    try:
        trained = list(_trained(job))
    except (WorkbenchError, OSError, ValueError, KeyError) as error:
        why = error.what if isinstance(error, WorkbenchError) else str(error)
        return Contamination(column, job.id, unknown=why)
    equal, near = _repeats(trained, [case.conversation for case in cases])
    rows = tuple(cases[place].row for place in sorted(equal | near))
    return Contamination(column, job.id, len(equal), len(near), rows)


def _trained(job: JobDirectory) -> Iterator[Conversation]:
    """Yield the conversations that a run trained. Raises WorkbenchError or ValueError where they cannot be known."""
    config: RunConfig = parse(job.config, job.id)
    source = Path(config.data.file)
    built = recorded(job.path / "dataset.json", job.path.parents[1] / "datasets")
    if built is None:
        raise ValueError("the tokens that its run trained are no longer here")
    if not source.exists() or source_sha256(source) != job.job.get("data_sha256"):
        raise ValueError("the data file of its run is gone or has changed")
    numbers, options = _numbers(built), DataOptions.of(config)
    for record in read_rows(source):
        if isinstance(record, Row) and record.number in numbers:
            try:
                yield conversation_of(record.fields, options.format, options.mapping)
            except BadRow:
                continue


def _numbers(built: BuiltDataset) -> set[int]:
    """Return the numbers of the rows on the training side."""
    import pyarrow as pa

    with pa.OSFile(str(built.rows)) as file:
        batches = pa.ipc.open_stream(file)
        return {number for batch in batches for number in batch.column("row").to_pylist()}


def _repeats(trained: Sequence[Conversation], held: Sequence[Conversation]) -> tuple[set[int], set[int]]:
    """Return the places of held-out conversations that repeat a trained one: equal ones, and near ones.

    Near is nearly the same text, or the same question with another answer, unless many rows ask that question.
    """
    known = {content_hash(normalised(one.plain_text())) for one in trained}
    equal = {place for place, one in enumerate(held) if content_hash(normalised(one.plain_text())) in known}
    asked = Counter(normalised(_question(one)) for one in trained)
    near = {place for place, one in enumerate(held) if 0 < asked[normalised(_question(one))] < _COMMON_QUESTION}
    sketches = Sketches()
    for number, one in enumerate([*trained, *held]):
        sketches.add(number, one.plain_text())
    near |= _near_across(sketches.near_repeats(), len(trained))
    return equal, near - equal


def _near_across(repeats: dict[int, int], border: int) -> set[int]:
    """Return the places of held-out rows that repeat, directly or through one another, a row before the border."""

    def reaches(number: int) -> bool:
        seen = set()
        while number >= border and number in repeats and number not in seen:
            seen.add(number)
            number = repeats[number]
        return number < border

    return {later - border for later in repeats if later >= border and reaches(later)}


def _question(conversation: Conversation) -> str:
    if conversation.text is not None:
        return conversation.text
    return "\n".join(turn.content for turn in conversation.turns if turn.role == "user")
