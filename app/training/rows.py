"""The rows of a run: the very tokens and labels that the data tab shows, read from Arrow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from app.catalog.hub import fetch_tokenizer
from app.config import RunConfig
from app.data.build import BuiltDataset, build, open_built
from app.data.options import DataOptions
from app.errors import DataError
from app.jobs.child import JobChild
from app.jobs.directory import replace_file
from app.models.loading import explained
from app.models.names import is_local
from app.workspace import source_sha256


@dataclass(frozen=True)
class TrainingRows:
    """Datasets with `input_ids`, `labels` and, when packed, `seq_lengths`; `count` is the rows of the file used.

    `chat_template` is the one that the rows were written with, empty where none was needed.
    """

    training: Dataset
    validation: Dataset | None
    count: int
    content_hash: str
    chat_template: str = ""


def data_options(config: RunConfig) -> DataOptions:
    """Return the formatter's options of a run."""
    data = config.data
    return DataOptions.checked(
        format="" if data.format == "auto" else data.format,
        mapping=data.mapping,
        max_length=data.max_length,
        packing=data.packing,
        train_on=data.train_on,
        over_length=data.over_length,
        validation_split=data.validation_split,
        seed=config.training.seed,
        chat_template=data.chat_template,
        drop=data.drop,
        repair=data.repair,
    )


def prepare_rows(child: JobChild, config: RunConfig, folder: str) -> TrainingRows | None:
    """Build the run's tokens, or find them built; None when a stop was asked for.

    A resumed run reads what it was started on, whatever became of the file since.
    """
    record = child.directory.path / "dataset.json"
    root = child.directory.path.parents[1] / "datasets"
    built = open_built(root / json.loads(record.read_text())["hash"]) if record.is_file() else None
    if built is None:
        built = _build(child, config, tokenizer_folder(folder, config.model.revision), root)
    if built is None:
        return None
    replace_file(record, json.dumps({"hash": built.path.name}))
    return _read(built, config.data.packing)


def _build(child: JobChild, config: RunConfig, tokenizer: Path, root: Path) -> BuiltDataset | None:
    source = Path(config.data.file)
    asked = child.directory.job.get("data_sha256")
    if not source.exists():
        raise DataError(f"The data file {source} is gone", "it was there when the run was handed in", "put it back")
    if asked and source_sha256(source) != asked:
        raise DataError(
            f"The data file {source} has changed",
            "it is not the one that the run was handed in with",
            "start a new run with the new file",
        )
    return build(
        source,
        tokenizer,
        data_options(config),
        root,
        progress=lambda done, total: child.progress(done, total, phase="tokenising"),
        should_stop=child.stop_requested,
    )


def tokenizer_folder(model: str, revision: str | None) -> Path:
    """Return the folder of a model's tokenizer files; for a hub id they are fetched."""
    if is_local(model):
        return Path(model)
    with explained(model):
        return fetch_tokenizer(model, revision)


def _read(built: BuiltDataset, packing: bool) -> TrainingRows:
    validation = built.validation_packed if packing else built.validation_rows
    training = Dataset.from_file(str(built.packed if packing else built.rows))
    return TrainingRows(
        training=training,
        validation=Dataset.from_file(str(validation)) if validation else None,
        count=int(built.manifest["rows"]),
        content_hash=built.path.name,
        chat_template=str(built.manifest.get("chat_template") or ""),
    )
