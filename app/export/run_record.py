"""What is known of the run that an adapter comes from: settings, data hash, losses. Nothing of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import JobError
from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of, thin

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
    """A run in figures. `losses` and `eval_losses` are (step, value)."""

    settings: dict[str, Any]
    data_sha256: str
    rows: int | None
    steps: int | None
    losses: list[tuple[int, float]]
    eval_losses: list[tuple[int, float]]
    versions: dict[str, str]


def run_of(folder: Path) -> RunRecord | None:
    """Return the record of the run whose result or checkpoint this folder is, or None when it lies in none."""
    job = job_of(folder)
    if job is None or job.job["kind"] != "train":
        return None
    report: Mapping[str, Any] = job.recorded_status().result
    rows = thin(steps_of(read_rows(job.metrics_file)), _MOST_POINTS)
    return RunRecord(
        {name: value for name in _SETTINGS if (value := _setting(job.config, name)) is not None},
        str(job.job.get("data_sha256") or ""),
        report.get("rows"),
        report.get("steps"),
        _curve(rows, "loss"),
        _curve(rows, "eval_loss"),
        dict(job.job.get("versions") or {}),
    )


def job_of(folder: Path) -> JobDirectory | None:
    """Return the job whose result/adapter, result/model or checkpoint a folder is."""
    for parent in list(folder.absolute().parents)[:3]:
        if (parent / "job.yaml").is_file():
            job = JobDirectory(parent)
            try:
                return job if job.job else None
            except JobError:
                return None
    return None


def _setting(config: Mapping[str, Any], name: str) -> Any:
    section, key = name.split(".")
    return (config.get(section) or {}).get(key)


def _curve(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name) is not None]
