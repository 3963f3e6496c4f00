"""A run assembled from its settings: base, adapter, trainer, and what watches the training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)

from app import devices
from app.config.objectives import WITH_REFERENCE
from app.config.schema import RunConfig
from app.config.sections import Objective
from app.errors import ConfigError, ModelError, Problem
from app.jobs.child import JobChild
from app.jobs.directory import JobDirectory
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from app.models.adapters import AdapterFolder
from app.models.encoder_decoder import PairCollator, has_encoder, start_token
from app.models.identity import NOTE_FILE, base_warning, fingerprint
from app.models.loading import device, load_base, load_config, resolve_dtype
from app.models.names import resolve
from app.models.peft_keys import refuse_ignored
from app.models.stored_weights import StoredWeights
from app.models.targets import not_adapted, not_read_back
from app.models.text_tower import inside_tower, place_of
from app.training import processes
from app.training.fast_paths import document_attention, fused_lora, token_head
from app.training.fast_paths.kept_weights import keep_dequantized
from app.training.monitoring import trackers
from app.training.monitoring.reporting import JobReporter, SampleReporter
from app.training.monitoring.samples import Sampler
from app.training.rows import TrainingRows
from app.training.save_checks import saving
from app.training.trainers.arguments import lora_config, trl_arguments
from app.training.trainers.optimizers import peft_optimizer
from app.training.trainers.preference import DpoTrainer, KtoTrainer, OrpoTrainer, Reference
from app.training.trainers.trainer import PairTrainer, SftTrainer, WorkbenchTrainer
from app.workspace import file_sha256

_ADAPTER_DTYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16}
_TRAINERS: Mapping[Objective, type[WorkbenchTrainer]] = {
    "sft": SftTrainer,
    "dpo": DpoTrainer,
    "kto": KtoTrainer,
    "orpo": OrpoTrainer,
}


def build_model(
    config: RunConfig, folder: str, start: Path | None = None, store: StoredWeights | None = None
) -> PreTrainedModel:
    """Load the base and put the adapter on it: a fresh one, or that of the folder `start` to go on from.

    `store` is where 4-bit weights are kept, unless the run's settings say otherwise.
    """
    model = load_model(config, folder, store)
    keep_dequantized(model, config.memory.dequantized_layers or 0)
    return add_adapter(config, model) if start is None else starting_adapter(config, model, start)


def starting_adapter(config: RunConfig, model: PreTrainedModel, start: Path) -> PeftModel:
    """Load an adapter to go on from, with the run's own dropout. Raises ModelError for one of another base."""
    resolved = resolve(config.model.name)
    warning = base_warning(start, fingerprint(resolved, revision=config.model.revision))
    if warning:
        raise ModelError(
            f"The run cannot go on from {start.name}", f"it was {warning}", "choose an adapter of this base"
        )
    refuse_ignored(AdapterFolder(start), load_config(resolved, revision=config.model.revision))
    settings = LoraConfig.from_pretrained(str(start))
    settings.inference_mode = False
    settings.lora_dropout = config.adapter.lora_dropout
    set_seed(config.training.seed)
    return PeftModel.from_pretrained(model, str(start), config=settings, is_trainable=True)


def load_model(config: RunConfig, folder: str, store: StoredWeights | None = None) -> PreTrainedModel:
    """Load the base as the run stores it."""
    quantization = config.quantization
    quant = quantization.bnb_4bit_quant_type if quantization.load_in_4bit else "none"
    return load_base(
        folder,
        quant="int8" if quantization.load_in_8bit else quant,
        double_quant=quantization.bnb_4bit_use_double_quant,
        compute_dtype=quantization.bnb_4bit_compute_dtype,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        revision=config.model.revision,
        store=store if quantization.keep_on_disk else None,
    )


def store_of(job: JobDirectory) -> StoredWeights:
    """Return where the 4-bit weights of a job's workspace are kept."""
    return StoredWeights(job.path.parents[1] / "quantized")


def add_adapter(config: RunConfig, model: PreTrainedModel) -> PreTrainedModel:
    """Put the adapter on a base, or open the whole of it to training."""
    if config.adapter.method == "full":
        _refuse_tower(model)
        return model.requires_grad_(True).train()
    _refuse_unknown(config, model)
    # The seed is set just before the adapter's random start, so that nothing done earlier can move it.
    set_seed(config.training.seed)
    wanted = lora_config(config, encodes=has_encoder(model))
    everywhere = config.adapter.target_modules == "all-linear"
    wanted.exclude_modules = (not_adapted if everywhere else not_read_back)(model) or None
    adapted = get_peft_model(model, wanted)
    # PEFT has turned all-linear into names; where the base has a vision tower, that has modules of the same names.
    settings = adapted.peft_config["default"]
    settings.target_modules = inside_tower(model, settings.target_modules)
    return adapted


def _refuse_tower(model: PreTrainedModel) -> None:
    """Raise ConfigError where the whole of a base is to be trained of which only the language model is loaded."""
    if place_of(model):
        why = "only the language model of this base is loaded, and its vision tower would be lost"
        raise ConfigError([Problem("adapter.method", why, "train an adapter: lora or qlora")], "the run")


def _refuse_unknown(config: RunConfig, model: PreTrainedModel) -> None:
    """Raise ConfigError for modules to save that the model lacks: PEFT passes over them in silence."""
    parts = dict(model.named_modules())
    lacking = [wanted for wanted in config.adapter.modules_to_save if not any(name.endswith(wanted) for name in parts)]
    if lacking:
        weighty = [name for name, part in parts.items() if next(part.parameters(recurse=False), None) is not None]
        there = "it has " + ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in weighty))
        wrong = [Problem("adapter.modules_to_save", f"the model has no module {name}", there) for name in lacking]
        raise ConfigError(wrong, "the run")


def build_trainer(
    child: JobChild,
    config: RunConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: TrainingRows,
    callbacks: Sequence[TrainerCallback],
) -> WorkbenchTrainer:
    """Assemble the trainer of the run's objective. Where the reference reads beforehand, it does so here.

    Raises StoppedBeforehandError where a stop is asked for meanwhile.
    """
    work_folder = child.directory.path / "work"
    dtype = resolve_dtype(config.model.dtype)
    arguments = trl_arguments(config, work_folder, dtype, devices.here(), validate=rows.validation is not None)
    full = config.adapter.method == "full"
    trackers.settle(child.directory, config)
    _settle_router_loss(model)
    make: type[WorkbenchTrainer] | partial[WorkbenchTrainer] = _TRAINERS[config.training.objective]
    if config.training.objective in WITH_REFERENCE:
        make = partial(make, reference=_reference(child, config, rows))
    if has_encoder(model):
        make = partial(PairTrainer, data_collator=PairCollator(tokenizer.pad_token_id, start_token(model)))
    trainer = make(
        model=model,
        args=arguments,
        train_dataset=rows.training,
        eval_dataset=rows.validation,
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(None if full else peft_optimizer(config, model, arguments), None),
        adapter_dtype=None if full else _ADAPTER_DTYPES[config.adapter.dtype],
        saving=lambda: saving(child, model),
        **({} if config.training.objective in WITH_REFERENCE else {"keep_weights": bool(config.adapter.start_from)}),
    )
    if isinstance(trainer, SftTrainer) and _takes_fast_paths(config, model):
        _take_fast_paths(trainer.model)
    return trainer


def _takes_fast_paths(config: RunConfig, model: PreTrainedModel) -> bool:
    """Tell whether a run takes them: they were measured on processors, with adapters on decoders.

    Full training saves the configuration, which would name the attention.
    """
    fitting = config.adapter.method != "full" and not has_encoder(model)
    return config.training.fast_paths and device().type == "cpu" and fitting


def _take_fast_paths(model: PeftModel) -> None:
    """Let an adapted model attend by document, score trained tokens alone and run each LoRA with its base."""
    base = model.get_base_model()
    document_attention.install(base)
    token_head.install(base)
    fused_lora.install(model)


def _reference(child: JobChild, config: RunConfig, rows: TrainingRows) -> Reference:
    start = starting_folder(child.directory)
    adapter = file_sha256(start / WEIGHTS_FILE) if start else ""
    base = fingerprint(resolve(config.model.name), revision=config.model.revision)
    formats = json.dumps([config.quantization.model_dump(), config.model.model_dump()], sort_keys=True)

    def progress(done: int, total: int) -> bool:
        child.progress(done, total, phase="the reference reads the rows")
        return not child.stop_requested()

    identity = f"{base} {adapter} {formats}"
    return Reference(identity, rows.folder, is_adapter=start is not None, progress=progress)


def starting_folder(job: JobDirectory) -> Path | None:
    """Return the run's own copy of the adapter that it goes on from, None where it begins with a fresh one."""
    folder = job.path / "start"
    return folder if folder.is_dir() else None


def keep_start(job: JobDirectory, config: RunConfig) -> None:
    """Copy the adapter that the run goes on from into its directory: a resume needs it, whatever becomes of the other.

    Raises ModelError where it is gone or is not the one that the run was handed in with.
    """
    if not config.adapter.start_from or starting_folder(job):
        return
    source, fresh = Path(config.adapter.start_from), job.path / "start.part"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        for name in (CONFIG_FILE, WEIGHTS_FILE, NOTE_FILE):
            if (source / name).is_file():
                shutil.copyfile(source / name, fresh / name)
        found = file_sha256(fresh / WEIGHTS_FILE)
    except OSError as error:
        raise ModelError(f"The adapter {source} cannot be read", str(error), "put it back") from None
    if found != job.job.get("start_sha256", found):
        raise ModelError(
            f"The adapter {source} has changed", "it is another than the run was handed in with", "start anew"
        )
    fresh.rename(job.path / "start")


def _settle_router_loss(model: PreTrainedModel) -> None:
    """Leave the loss that balances experts out where TRL 1.16 cannot find their number, as in Granite 4."""
    text = model.config.get_text_config()
    dense = getattr(text, "is_moe", True) is False  # Doge says so, and returns no router's choices
    if hasattr(text, "router_aux_loss_coef") and (dense or not hasattr(text, "num_experts")):
        text.router_aux_loss_coef = 0.0


def watchers(
    child: JobChild,
    config: RunConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: TrainingRows,
) -> list[TrainerCallback]:
    """Return what watches the training: the reporter, the fixed prompts, early stopping."""
    training = config.training
    full = config.adapter.method == "full"
    base_hash = "" if full else fingerprint(resolve(config.model.name), revision=config.model.revision)
    watching: list[TrainerCallback] = [JobReporter(child, config, base_hash)]
    if training.sample_prompts and processes.is_first():
        sampler = Sampler(model, tokenizer, training.sample_prompts, training.sample_tokens)
        watching.append(SampleReporter(child, sampler, every=training.eval_steps))
    if training.early_stopping_patience is not None and rows.validation is not None:
        watching.append(EarlyStoppingCallback(training.early_stopping_patience, training.early_stopping_threshold))
    return watching
