"""What files are read with beside the fixed prompts: the person's held-out rows, and the prompts of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.data.chat_template.render import IGNORED, Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.build import recorded
from app.data.dataset.makers import outcomes
from app.data.dataset.options import DataOptions
from app.data.reading.readers import read_rows
from app.errors import DataError
from app.evaluation.suites import Item, passed
from app.jobs.directory import holding

_LONGEST, MOST_PLACES = 512, 512
# A row is read at so many places on average at least, so that no more rows are opened than can be used.
_PLACES_A_ROW = 8


@dataclass(frozen=True)
class Text:
    """Token ids, and the places of those that are predicted from all before them."""

    ids: list[int]
    places: list[int]


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows: some of them as texts to read, and the token ids of all, which no importance is collected on."""

    texts: list[Text]
    ids: frozenset[tuple[int, ...]]


def rows_of_file(folder: Path, source: Path, most_places: int) -> HeldOut:
    """Return held-out rows as the model of `folder` is trained on them. Raises DataError where none can be used."""
    options = DataOptions.checked(max_length=_LONGEST, packing=False, over_length="cut")
    renderer = Renderer(load_tokenizer(folder, ""))
    made = outcomes(read_rows(source), options, renderer)
    found = _held_out(((one.input_ids, one.labels()) for outcome in made for one in outcome.examples), most_places)
    if not found.texts:
        raise DataError(f"No row of {source.name} can be read by this model", "", "see what `data check` says of it")
    return found


def rows_of_run(adapter: Path, most_places: int) -> HeldOut:
    """Return the rows that the run of an adapter kept back for validation; none where it kept none."""
    from datasets import Dataset

    job = holding(adapter)
    built = recorded(job.path / "dataset.json", job.path.parents[1] / "datasets") if job is not None else None
    if built is None or built.validation_rows is None:
        return HeldOut([], frozenset())
    rows = Dataset.from_file(str(built.validation_rows))
    return _held_out(((row["input_ids"], row["labels"]) for row in rows), most_places)


def _held_out(labelled: Iterable[tuple[list[int], list[int]]], most_places: int) -> HeldOut:
    every = [(tuple(ids[:_LONGEST]), labels[:_LONGEST]) for ids, labels in labelled]
    texts, left = [], most_places
    for ids, labels in every[: most_places // _PLACES_A_ROW]:
        places = [place for place, label in enumerate(labels) if label != IGNORED and place > 0][:left]
        left -= len(places)
        if places:
            texts.append(Text(list(ids), places))
    return HeldOut(texts, frozenset(ids for ids, _ in every))


def share_passed(items: Sequence[Item], answers: dict[str, str]) -> float | None:
    """Return the share of prompts whose answer holds all that is expected of it, None where nothing is."""
    judged: dict[str, bool] = {}
    for item in items:
        verdict = passed(answers[item.prompt], item.expect)
        if verdict is not None:
            judged[item.prompt] = judged.get(item.prompt, True) and verdict
    return sum(judged.values()) / len(judged) if judged else None
