"""The rows of a run: the very tokens and labels that the data tab shows, read from Arrow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from app import catalog
from app.catalog.families import FAMILIES
from app.config.schema import RunConfig
from app.data.dataset.build import BuiltDataset, Manifest, build, recorded
from app.data.dataset.options import DataOptions
from app.errors import DataError, ModelError, UsageError
from app.files import replace_file
from app.jobs.child import JobChild
from app.models.loading import load_config, tokenizer_folder
from app.models.packed_rows import shown_by
from app.planner import packing
from app.workspace import source_sha256

_RECORD = "dataset.json"


@dataclass(frozen=True)
class TrainingRows:
    """Datasets with `input_ids`, `labels` and, when packed, `seq_lengths`; of preferences, of prompts and answers.

    `count` is the rows used, `folder` is where the datasets lie. `chat_template` is the one that the rows were written
    with, empty where none was needed.
    """

    training: Dataset
    validation: Dataset | None
    count: int
    content_hash: str
    folder: Path
    chat_template: str = ""


def settle_packing(child: JobChild, config: RunConfig, folder: str) -> RunConfig:
    """Return the config with rows apart where this model has not shown that packed rows do not see each other.

    The test runs on a small model of the same configuration, takes about a second, and is kept in the workspace.
    """
    if not config.data.packing:
        return config
    attn, workspace = config.model.attn_implementation, child.directory.path.parents[1]
    values, family = _configuration(config, folder)
    found = packing.kept(values, attn, workspace)
    if found is None:
        child.progress(0, 0, phase="testing packed rows on a small model")
        found = packing.Packing(*shown_by(values, attn))
        if found.outcome == "untested" and family in FAMILIES:
            # Flash attention runs on no processor; what holds for these families was measured with it left to masks.
            found = packing.of_family(family)
        else:
            packing.keep(found, values, attn, workspace)
    if found.allowed:
        return config
    if not (child.directory.path / _RECORD).is_file():
        child.event("note", str(found.note))
    return config.changed(packing.SEPARATE_ROWS)


def _configuration(config: RunConfig, folder: str) -> tuple[Mapping[str, Any], str]:
    """Return the configuration of the language model, and its family in the catalogue, if it has one."""
    try:
        spec = catalog.find(config.model.name, config.model.revision)
    except (ModelError, UsageError):
        text = load_config(folder, revision=config.model.revision).get_text_config(decoder=True)
        return text.to_dict(), ""
    return spec.config, spec.family


def prepare_rows(child: JobChild, config: RunConfig, folder: str) -> TrainingRows | None:
    """Build the run's tokens, or find them built; None when a stop was asked for.

    A resumed run reads what it was started on, whatever became of the file since.
    """
    record = child.directory.path / _RECORD
    root = child.directory.path.parents[1] / "datasets"
    built = recorded(record, root)
    if built is None:
        built = _build(child, config, tokenizer_folder(folder, config.model.revision), root)
        if built is not None:
            child.progress(0, 0, phase="reading the data")  # what an event says is of the beginning
            for note in notes_of(built.manifest):
                child.event("note", note)
    if built is None:
        return None
    replace_file(record, json.dumps({"hash": built.path.name, "packed": config.data.packing}))
    return _read(built, config.data.packing)


def notes_of(manifest: Manifest) -> list[str]:
    """Return what is not trained of a file, as lines: how many of its rows and why, and what was warned of."""
    left_out = manifest.get("left_out") or {}
    if not left_out:
        return list(manifest.get("warnings") or [])
    why = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items(), key=lambda one: -one[1]))
    count = sum(left_out.values())
    said = f"{count:,} of {manifest['rows_read']:,} rows are left out ({why}); the data check lists each with its line"
    return [said, *(manifest.get("warnings") or [])]


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
        DataOptions.of(config),
        root,
        progress=lambda done, total: child.progress(done, total, phase="tokenising"),
        should_stop=child.stop_requested,
    )


def _read(built: BuiltDataset, packing: bool) -> TrainingRows:
    validation = built.validation_packed if packing else built.validation_rows
    training = Dataset.from_file(str(built.packed if packing else built.rows))
    return TrainingRows(
        training=training,
        validation=Dataset.from_file(str(validation)) if validation else None,
        count=int(built.manifest["rows"]),
        content_hash=built.path.name,
        folder=built.path,
        chat_template=str(built.manifest.get("chat_template") or ""),
    )
