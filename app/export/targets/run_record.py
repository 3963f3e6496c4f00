"""What is known of the run that an adapter comes from: settings, data hash, losses. Nothing of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelError
from app.evaluation.held_out import records
from app.evaluation.held_out.records import Evaluated
from app.jobs.directory import JobDirectory, holding
from app.jobs.metrics import Row, read_rows, steps_of, thin
from app.models.adapters import AdapterFolder

# Settings that tell how an adapter was made; names of files and folders are not among them.
_SETTINGS = (
    "adapter.method",
    "adapter.r",
    "adapter.lora_alpha",
    "adapter.lora_dropout",
    "adapter.target_modules",
    "adapter.use_rslora",
    "adapter.use_dora",
    "quantization.load_in_4bit",
    "quantization.bnb_4bit_quant_type",
    "data.max_length",
    "data.packing",
    "training.max_steps",
    "training.num_train_epochs",
    "training.learning_rate",
    "training.lr_scheduler_type",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
    "training.optim",
    "training.seed",
)
_MOST_POINTS = 300


@dataclass(frozen=True)
class RunRecord:
    """A run in figures. `losses` and `eval_losses` are (step, value); `evaluations` are of these very weights."""

    settings: dict[str, object]
    data_sha256: str
    rows: int | None
    steps: int | None
    losses: list[tuple[int, float]]
    eval_losses: list[tuple[int, float]]
    versions: dict[str, str]
    evaluations: tuple[Evaluated, ...] = ()


def run_of(folder: Path) -> RunRecord | None:
    """Return the record of the run whose result or checkpoint this folder is, or None when it lies in none."""
    job = holding(folder)
    if job is None or job.job["kind"] != "train":
        return None
    report = job.recorded_status().result
    rows = thin(steps_of(read_rows(job.metrics_file)), _MOST_POINTS)
    return RunRecord(
        {name: value for name in _SETTINGS if (value := _setting(job.config, name)) is not None},
        str(job.job.get("data_sha256") or ""),
        report.get("rows"),
        report.get("steps"),
        _curve(rows, "loss"),
        _curve(rows, "eval_loss"),
        dict(job.job.get("versions") or {}),
        _evaluations(job, folder),
    )


def _evaluations(job: JobDirectory, folder: Path) -> tuple[Evaluated, ...]:
    """Return the newest evaluation on each file of the very weights in this folder."""
    try:
        own = AdapterFolder(folder).hash
    except ModelError:  # a model that was trained as a whole
        return ()
    by_data: dict[str, Evaluated] = {}
    for one in records.of_run(job):
        if one.column.hash == own:
            by_data.setdefault(one.data, one)
    return tuple(by_data.values())


def _setting(config: Mapping[str, object], name: str) -> object:
    section, key = name.split(".")
    held = config.get(section)
    return held.get(key) if isinstance(held, dict) else None


def _curve(rows: Sequence[Row], name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name) is not None]
