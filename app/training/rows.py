"""The rows of a run: the very tokens and labels that the data tab shows, read from Arrow."""

from __future__ import annotations

from dataclasses import dataclass

from datasets import Dataset

from app.config import RunConfig
from app.jobs.child import JobChild


@dataclass(frozen=True)
class TrainingRows:
    """Datasets with `input_ids`, `labels` and, when packed, `seq_lengths`; `count` is the rows of the file used."""

    training: Dataset
    validation: Dataset | None
    count: int
    content_hash: str


def prepare_rows(child: JobChild, config: RunConfig, folder: str) -> TrainingRows:
    raise NotImplementedError
