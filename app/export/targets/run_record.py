"""What is known of the run that an adapter comes from: settings, data hash, losses. Nothing of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelError
from app.evaluation.held_out import records
from app.evaluation.held_out.records import Evaluated
from app.export.merge.base_model import public_name
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
_CHECKPOINT = re.compile(r"step-([0-9]+)")
_OF_ADAPTERS = ("adapter.", "quantization.")
_MOST_POINTS = 300


@dataclass(frozen=True)
class RunRecord:
    """A run in figures. `losses` and `eval_losses` are (step, value); `evaluations` are of these very weights.

    base: the public name of the model that it started from. checkpoint: the step of a checkpoint, None for a result.
    """

    settings: dict[str, object]
    data_sha256: str
    rows: int | None
    steps: int | None
    losses: list[tuple[int, float]]
    eval_losses: list[tuple[int, float]]
    versions: dict[str, str]
    evaluations: tuple[Evaluated, ...] = ()
    base: str = ""
    checkpoint: int | None = None

    @property
    def is_full(self) -> bool:
        """Tell whether the run trained the model as a whole, without an adapter."""
        return self.settings.get("adapter.method") == "full"


def run_of(folder: Path) -> RunRecord | None:
    """Return the record of the run whose result or checkpoint this folder is, or None when it lies in none."""
    job = holding(folder)
    if job is None or job.job["kind"] != "train":
        return None
    report = job.recorded_status().result
    named = _CHECKPOINT.fullmatch(folder.name)
    step = int(named[1]) if named else None
    rows = steps_of(read_rows(job.metrics_file))
    rows = thin([row for row in rows if step is None or int(row["step"]) <= step], _MOST_POINTS)
    return RunRecord(
        _settings(job.config),
        str(job.job.get("data_sha256") or ""),
        report.get("rows"),
        report.get("steps"),
        _curve(rows, "loss"),
        _curve(rows, "eval_loss"),
        dict(job.job.get("versions") or {}),
        _evaluations(job, folder),
        public_name(str(_setting(job.config, "model.name") or "")),
        step,
    )


def _settings(config: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that had a part in a run: without an adapter those of adapters had none."""
    is_full = _setting(config, "adapter.method") == "full"
    names = [name for name in _SETTINGS if not is_full or not name.startswith(_OF_ADAPTERS) or name == "adapter.method"]
    return {name: value for name in names if (value := _setting(config, name)) is not None}


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
