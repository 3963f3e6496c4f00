"""Hand in a training run: everything that can be refused before a process starts is refused here, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import catalog
from app.catalog.modules import EXPERTS, attention_names, module_names, unknown_names
from app.catalog.spec import ModelSpec
from app.config.rules import refused_here
from app.config.schema import RunConfig, parse
from app.data.chat_template.tokenizer import refuse_sentencepiece
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
    keyed,
)
from app.files import disk_free_bytes
from app.hardware import readings
from app.hub.ids import is_local
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.adapter_files import WEIGHTS_FILE, AdapterHeader
from app.models.names import resolve
from app.planner import estimate
from app.planner.machine import request_on, this_machine
from app.planner.parts.positions import longest_row, too_long
from app.planner.simulation.adapter import ALL_LINEAR, adapts_experts
from app.runs.submission.starting_adapter import refuse_misfit, with_start
from app.workspace import Workspace, existing_source, file_sha256, source_sha256

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
    config = with_start(workspace, config).changed({"data.file": str(file)})
    start_from = config.adapter.start_from
    if start_from:
        facts["start_sha256"] = file_sha256(Path(start_from) / WEIGHTS_FILE)
    if kind == "train" and config.training.num_processes > 1:
        facts["processes"] = config.training.num_processes
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
        raise UsageError(
            keyed("no_training_data", "No training data is named"),
            "",
            "add --data FILE",
            on_page=keyed("choose_on_data", "choose it on the Data tab"),
        )
    file = existing_source(config.data.file)
    _check_model(resolve(config.model.name), config.model.revision)
    _check_objective(config)
    config = with_start(workspace, config)
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    if config.adapter.start_from:
        AdapterHeader(Path(config.adapter.start_from)).refuse_damaged()
        if spec is not None:
            refuse_misfit(spec, Path(config.adapter.start_from))
    refuse(config)
    check_disk(workspace.root, LEAST_FREE_BYTES + saved_bytes(config))
    return file


def _check_objective(config: RunConfig) -> None:
    """Raise ConfigError for an objective that is for decoders alone, where the base is an encoder with a decoder."""
    if config.training.objective == "sft":
        return
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    if spec is not None and spec.encodes:
        why = f"{config.training.objective} is for decoders, and this base is an encoder with a decoder"
        raise ConfigError([Problem("training.objective", why, "set it to sft")], "the run")


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
        raise ModelError(
            keyed("cannot_train", "{folder} cannot be trained", folder=folder),
            why,
            keyed("needs_safetensors", "the folder needs *.safetensors files"),
        )
    if not any(any(folder.glob(name)) for name in _TOKENIZERS):
        raise ModelError(
            keyed("cannot_train", "{folder} cannot be trained", folder=folder),
            keyed("no_tokenizer", "it has no tokenizer"),
            keyed("put_tokenizer", "put the model's tokenizer files there"),
        )
    refuse_sentencepiece(folder)


def again(workspace: Workspace, job: JobDirectory, *, queue: bool = False) -> JobDirectory:
    """Start a run with exactly the settings of an earlier one.

    Raises DataError when its data file is no longer what it was: the same settings would then be another run.
    """
    config = config_of(job)
    file = check(workspace, config)
    if source_sha256(file) != job.job.get("data_sha256"):
        raise DataError(
            keyed(
                "has_changed_since_was_trained",
                "{name} has changed since {name_b} was trained",
                name=file.name,
                name_b=job.name or job.id,
            ),
            keyed("its_content_has_another_sha_256", "its content has another SHA-256, so this would be another run"),
            keyed("put_the_old_file_back_or", "put the old file back, or clone the run to train on the new one"),
        )
    return start(workspace, config, queue=queue, name=job.name, again=job.id)


def refuse(config: RunConfig) -> None:
    """Raise ConfigError with every setting that this machine cannot run or that names nothing in the model."""
    here = readings()
    found = list(refused_here(config, kind=here.gpu.kind if here.gpu else None))
    found += _process_problems(config, len(here.alike))
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    if spec is not None:
        found += _model_problems(config, spec)
    if found:
        raise ConfigError(found, "the run")


def _process_problems(config: RunConfig, cards: int) -> list[Problem]:
    """Return what is wrong with the number of processes, on a machine with this many cards."""
    asked, most = config.training.num_processes, cards or os.cpu_count() or 1
    if asked <= most:
        return []
    why = keyed("fewer_cards", "this machine has {count} cards", count=cards)
    if not cards:
        why = keyed("fewer_cores", "this machine has no card and {count} processor cores", count=most)
    return [Problem("training.num_processes", why, keyed("at_most", "use at most {count}", count=most))]


def _model_problems(config: RunConfig, spec: ModelSpec) -> Iterator[Problem]:
    if config.adapter.method == "full" and spec.sees:
        yield Problem(
            "adapter.method",
            keyed(
                "only_the_language_model",
                "of {name} only the language model is loaded, and its vision tower would be lost",
                name=spec.name,
            ),
            keyed("train_an_adapter", "train an adapter: lora or qlora"),
        )
    why = too_long(spec, config.data.max_length)
    if why:
        yield Problem(
            "data.max_length",
            why,
            keyed("set_data_max_length_to_at", "set data.max_length to at most {spec}", spec=longest_row(spec)),
        )
    if config.adapter.method == "lora":
        yield from _name_problems(config, spec)


def _name_problems(config: RunConfig, spec: ModelSpec) -> Iterator[Problem]:
    adapter = config.adapter
    targets = adapter.target_modules if isinstance(adapter.target_modules, list) else []
    for name, near in unknown_names(spec, targets).items():
        remedy = f"did you mean {near}?" if near else f"it has {', '.join(module_names(spec))}"
        yield Problem(
            "adapter.target_modules",
            keyed("no_module", "{model} has no module {names}", model=spec.name, names=f"{name:.80}"),
            remedy,
        )
    yield from _expert_problems(config, spec)
    quantized = config.quantization.load_in_4bit or config.quantization.load_in_8bit
    for name in set(adapter.modules_to_save) & set(module_names(spec)) if quantized else ():
        yield Problem(
            "adapter.modules_to_save",
            f"{name} is quantised, and quantised weights cannot be trained",
            keyed("name_it_in_adapter_target_modules", "name it in adapter.target_modules instead, or use method lora"),
        )


def _expert_problems(config: RunConfig, spec: ModelSpec) -> Iterator[Problem]:
    """Yield what PEFT does not do for adapters on experts, which are parameters and no modules (ParamWrapper)."""
    adapter, targets = config.adapter, config.adapter.target_modules
    if not adapts_experts(spec, (targets,) if isinstance(targets, str) else tuple(targets)):
        return
    named = ALL_LINEAR if targets == ALL_LINEAR else EXPERTS
    names = ", ".join(attention_names(spec))
    if adapter.lora_dropout:
        yield Problem(
            "adapter.lora_dropout",
            keyed(
                "experts_no_dropout",
                "{targets} adapts the experts of {model}, where PEFT has no dropout",
                targets=named,
                model=spec.name,
            ),
            keyed(
                "experts_dropout_off",
                "set adapter.lora_dropout to 0, or name the attention's modules in adapter.target_modules: {names}",
                names=names,
            ),
        )
    if adapter.use_dora:
        yield Problem(
            "adapter.use_dora",
            keyed(
                "experts_no_dora",
                "{targets} adapts the experts of {model}, where PEFT has no DoRA",
                targets=named,
                model=spec.name,
            ),
            keyed(
                "experts_dora_off",
                "set adapter.use_dora to false, or name the attention's modules in adapter.target_modules: {names}",
                names=names,
            ),
        )


def saved_bytes(config: RunConfig) -> int:
    """Return what a run's checkpoints and result take on the disk, 0 where the planner cannot tell."""
    try:
        plan = estimate(request_on(this_machine().device, config))
    except (ModelError, NetworkError, PlanError):
        return 0
    weights = plan.parts["base_weights" if config.adapter.method == "full" else "adapter_weights"]
    # A new checkpoint is complete before the oldest one goes.
    return weights + (config.training.save_total_limit + 1) * (weights + plan.parts["optimizer"])


def config_of(job: JobDirectory) -> RunConfig:
    """Return the settings of a training run. Raises JobError for another job."""
    if job.job["kind"] != "train":
        raise JobError(
            keyed("is_no_training_run", "{id} is no training run", id=job.id),
            keyed("it_is_a_job_of_kind", "it is a job of kind {job}", job=job.job["kind"]),
            keyed("choose_a_run", "choose a run"),
        )
    return parse(job.config, job.id)


def check_disk(folder: Path, needed_bytes: int = LEAST_FREE_BYTES) -> None:
    """Raise DiskError when the disk of `folder` has less than `needed_bytes` free."""
    free = disk_free_bytes(folder)
    if free < needed_bytes:
        raise DiskError(
            keyed("disk", "The disk of {folder} is nearly full", folder=folder),
            keyed(
                "disk_free",
                "{free} GB are free, a run needs at least {needed} GB",
                free=f"{free / 1e9:.1f}",
                needed=f"{needed_bytes / 1e9:.1f}",
            ),
            "free some room, or choose another folder with --workspace",
            on_page=keyed("free_room", "free some room"),
        )
