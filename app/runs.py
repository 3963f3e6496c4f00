"""Hand in a training run: everything that can be refused before a process starts is refused here, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import catalog
from app.catalog.modules import SEES_PACKED, module_names, unknown_names
from app.catalog.spec import ModelSpec
from app.combinations import refused_here
from app.config import RunConfig, parse
from app.errors import (
    ConfigError,
    DataError,
    DiskError,
    JobError,
    ModelError,
    NetworkError,
    PlanError,
    Problem,
    UsageError,
)
from app.hardware import disk_free_bytes, readings
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.names import is_local, resolve
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.workspace import Workspace, existing_source, source_sha256

# Below this a run cannot even keep its log, metrics and one small checkpoint.
LEAST_FREE_BYTES = 500 << 20
# One of these is in every folder that a tokenizer was saved in.
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model", "*.tiktoken")


def start(
    workspace: Workspace, config: RunConfig, *, queue: bool = False, name: str = "", kind: str = "train", **facts: Any
) -> JobDirectory:
    """Submit a training job, or a `kind` measure one of the same settings, and return its directory at once.

    `facts`, such as a sweep's name, go into job.yaml.

    Raises what `check` raises, and BusyError when the accelerator has an owner and `queue` is off.
    """
    file = check(workspace, config)
    config = config.changed({"data.file": str(file)})
    return requests.submit(
        workspace,
        kind,
        config.as_dict(),
        queue=queue,
        name=name,
        data_sha256=source_sha256(file),
        seed=config.training.seed,
        **facts,
    )


def check(workspace: Workspace, config: RunConfig) -> Path:
    """Refuse what can be refused before a process starts, and return the data file.

    Raises UsageError without a data file, WorkspaceError when it cannot be read, ModelError for a model that is not
    there, ConfigError for settings that this model or machine cannot run, DiskError when the disk has too little room.
    """
    if not config.data.file:
        raise UsageError("No training data is named", "", "add --data FILE", on_page="choose it on the Data tab")
    file = existing_source(config.data.file)
    _check_model(resolve(config.model.name), config.model.revision)
    refuse(config)
    check_disk(workspace.root, LEAST_FREE_BYTES + saved_bytes(config))
    return file


def _check_model(model: str, revision: str | None) -> None:
    """Raise for a model that cannot be trained.

    NetworkError for one on the hub of which not even the configuration can be had, ModelError for a folder with which
    one can plan but not train: without weights or without a tokenizer.
    """
    folder = Path(model)
    if not is_local(model):
        catalog.hub_config(model, revision)
        return
    if not any(folder.glob("*.safetensors")):
        why = "its weights are in another format" if any(folder.glob("*.bin")) else "there are no weights in it"
        raise ModelError(f"{folder} cannot be trained", why, "the folder needs *.safetensors files")
    if not any(any(folder.glob(name)) for name in _TOKENIZERS):
        raise ModelError(f"{folder} cannot be trained", "it has no tokenizer", "put the model's tokenizer files there")


def again(workspace: Workspace, job: JobDirectory, *, queue: bool = False) -> JobDirectory:
    """Start a run with exactly the settings of an earlier one.

    Raises DataError when its data file is no longer what it was: the same settings would then be another run.
    """
    config = config_of(job)
    file = check(workspace, config)
    if source_sha256(file) != job.job.get("data_sha256"):
        raise DataError(
            f"{file.name} has changed since {job.name or job.id} was trained",
            "its content has another SHA-256, so this would be another run",
            "put the old file back, or clone the run to train on the new one",
        )
    return start(workspace, config, queue=queue, name=job.name, again=job.id)


def refuse(config: RunConfig) -> None:
    """Raise ConfigError with every setting that this machine cannot run or that names nothing in the model."""
    found = list(refused_here(config, card=bool(readings().gpus)))
    spec = _spec_of(config)
    if spec is not None:
        found += _model_problems(config, spec)
    if found:
        raise ConfigError(found, "the run")


def _spec_of(config: RunConfig) -> ModelSpec | None:
    """Return the model's architecture, or None for one that the catalogue cannot read; the child then has the word."""
    try:
        return catalog.find(config.model.name, config.model.revision)
    except (ModelError, NetworkError, UsageError):
        return None


def _model_problems(config: RunConfig, spec: ModelSpec) -> Iterator[Problem]:
    if config.data.packing and spec.family in SEES_PACKED:
        yield Problem(
            "data.packing",
            f"the documents of a packed row would see each other in a model of the kind {spec.family}",
            "set data.packing to false",
        )
    if config.adapter.method == "lora":
        yield from _name_problems(config, spec)


def _name_problems(config: RunConfig, spec: ModelSpec) -> Iterator[Problem]:
    adapter = config.adapter
    targets = adapter.target_modules if isinstance(adapter.target_modules, list) else []
    for name, near in unknown_names(spec, targets).items():
        remedy = f"did you mean {near}?" if near else f"it has {', '.join(module_names(spec))}"
        yield Problem("adapter.target_modules", f"{spec.name} has no module {name:.80}", remedy)
    quantized = config.quantization.load_in_4bit or config.quantization.load_in_8bit
    for name in set(adapter.modules_to_save) & set(module_names(spec)) if quantized else ():
        yield Problem(
            "adapter.modules_to_save",
            f"{name} is quantised, and quantised weights cannot be trained",
            "name it in adapter.target_modules instead, or use method lora",
        )


def saved_bytes(config: RunConfig) -> int:
    """Return what a run's checkpoints and result take on the disk, 0 where the planner cannot tell."""
    try:
        plan = estimate(request_from_config(config))
    except (ModelError, NetworkError, PlanError):
        return 0
    weights = plan.parts["base_weights" if config.adapter.method == "full" else "adapter_weights"]
    # A new checkpoint is complete before the oldest one goes.
    return weights + (config.training.save_total_limit + 1) * (weights + plan.parts["optimizer"])


def config_of(job: JobDirectory) -> RunConfig:
    """Return the settings of a training run. Raises JobError for another job."""
    if job.job["kind"] != "train":
        raise JobError(f"{job.id} is no training run", f"it is a job of kind {job.job['kind']}", "choose a run")
    return parse(job.config, job.id)


def check_disk(folder: Path, needed_bytes: int = LEAST_FREE_BYTES) -> None:
    """Raise DiskError when the disk of `folder` has less than `needed_bytes` free."""
    free = disk_free_bytes(folder)
    if free < needed_bytes:
        raise DiskError(
            f"The disk of {folder} is nearly full",
            f"{free / 1e9:.1f} GB are free, a run needs at least {needed_bytes / 1e9:.1f} GB",
            "free some room, or choose another folder with --workspace",
            on_page="free some room",
        )
