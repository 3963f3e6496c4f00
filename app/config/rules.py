"""Settings that are right alone and wrong together, and settings that this machine cannot run.

Each rule says what a library would refuse, or would do silently wrong, before a process is started. The first group
needs the settings alone and is checked whenever a RunConfig is made; the second needs the machine and is checked when
a run is handed in. tests/config/test_rules.py shows each refused pair failing in the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from app.config.accelerators import Kind, has_optimizer
from app.config.objectives import WITH_REFERENCE
from app.config.sections import Sections
from app.errors import Problem, keyed

# PEFT's starts that are not offered. The first four change the base weights: the adapter would fit only that changed
# base, not the published one, and a 4-bit base would have to be quantised anew.
_CHANGES_BASE = "this start changes the base weights, so the adapter would not fit the published model"
_REFUSED_STARTS = {
    "pissa": _CHANGES_BASE,
    "olora": _CHANGES_BASE,
    "corda": _CHANGES_BASE,
    "loftq": _CHANGES_BASE,
    "eva": "this start needs a pass over the data before training, which is not offered",
}
_TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}


def refused_starts() -> dict[str, str]:
    """List PEFT's starts of an adapter that are not offered, each with the reason."""
    return _REFUSED_STARTS


def refused_together(config: Sections) -> Iterator[Problem]:
    """Yield settings that are right alone and wrong together."""
    yield from _method_problems(config)
    yield from _target_problems(config)
    yield from _optimizer_problems(config)
    yield from _validation_problems(config)
    yield from _objective_problems(config)
    yield from _process_problems(config)
    if config.training.max_steps == 0:
        yield Problem(
            "training.max_steps",
            keyed("zero_steps", "0 steps train nothing"),
            keyed("use_minus_one", "use -1 to follow the epochs, or 1 and more"),
        )


def _method_problems(config: Sections) -> Iterator[Problem]:
    quantization, adapter = config.quantization, config.adapter
    if quantization.load_in_4bit and quantization.load_in_8bit:
        yield Problem(
            "quantization.load_in_8bit",
            keyed("both_bits", "4-bit and 8-bit cannot both be on"),
            keyed("switch_one_of_them_off", "switch one of them off"),
        )
    if adapter.method == "full" and (quantization.load_in_4bit or quantization.load_in_8bit):
        yield Problem(
            "adapter.method",
            keyed("full_fine_tuning_needs_unquantised_weights", "full fine-tuning needs unquantised weights"),
            keyed(
                "set_quantization_load_in_4bit_and",
                "set quantization.load_in_4bit and load_in_8bit to false, or adapter.method to lora",
            ),
        )
    if adapter.method == "lora" and adapter.init_lora_weights == "orthogonal":
        yield from _orthogonal_problems(config)


def _orthogonal_problems(config: Sections) -> Iterator[Problem]:
    if config.adapter.r % 2:
        yield Problem(
            "adapter.init_lora_weights",
            keyed("even_rank", "an orthogonal start needs an even rank"),
            keyed("use_even", "use an even adapter.r"),
        )
    if config.quantization.load_in_4bit or config.quantization.load_in_8bit:
        yield Problem(
            "adapter.init_lora_weights",
            keyed("orthogonal_plain", "PEFT's orthogonal start works on an unquantised base only"),
            keyed("other_start", "use true or gaussian, or method lora"),
        )


def _target_problems(config: Sections) -> Iterator[Problem]:
    adapter = config.adapter
    if adapter.target_modules == []:
        yield Problem(
            "adapter.target_modules",
            keyed("no_targets", "the list is empty, so nothing would be trained"),
            keyed("name_targets", "use all-linear or name at least one module"),
        )
    targets = adapter.target_modules if isinstance(adapter.target_modules, list) else []
    if any(name.rsplit(".", 1)[-1] in ("lm_head", "embed_out") for name in targets):
        yield Problem(
            "adapter.target_modules",
            keyed("lm_head", "the fused loss refuses an adapter on lm_head"),
            keyed("save_lm_head", "name lm_head in adapter.modules_to_save instead"),
        )
    for name in sorted(set(targets) & set(adapter.modules_to_save)):
        yield Problem(
            "adapter.modules_to_save",
            keyed("twice", "{name} would get an adapter and be trained as a whole", name=name),
            keyed("out_of_one", "take {name} out of one of the two lists", name=name),
        )


def _optimizer_problems(config: Sections) -> Iterator[Problem]:
    adapter, optimizer = config.adapter, config.training.optim
    if adapter.loraplus_lr_ratio is not None and adapter.method == "full":
        yield Problem(
            "adapter.loraplus_lr_ratio",
            keyed("loraplus_full", "LoRA+ needs an adapter, full fine-tuning has none"),
            keyed("leave_out", "leave it out"),
        )
    if optimizer != "lora_fa":
        return
    if adapter.method == "full":
        yield Problem(
            "training.optim",
            keyed("lora_fa_full", "lora_fa needs an adapter, full fine-tuning has none"),
            keyed("use_adamw", "use adamw_torch_fused"),
        )
    if adapter.use_dora:
        yield Problem(
            "training.optim",
            keyed("lora_fa_dora", "lora_fa takes the parameters of an adapter in pairs, and DoRA has three a layer"),
            keyed("dora_off", "switch adapter.use_dora off, or use adamw_torch_fused"),
        )
    if adapter.loraplus_lr_ratio is not None:
        yield Problem(
            "adapter.loraplus_lr_ratio",
            keyed("loraplus_fa", "LoRA+ sets two learning rates, and lora_fa trains one of the two matrices only"),
            keyed("one_of_two", "leave one of the two out"),
        )


def _objective_problems(config: Sections) -> Iterator[Problem]:
    adapter, objective = config.adapter, config.training.objective
    if adapter.start_from and adapter.method == "full":
        yield Problem(
            "adapter.start_from",
            keyed("start_full", "full fine-tuning has no adapter to go on from"),
            keyed("start_lora", "set adapter.method to lora, or leave adapter.start_from empty"),
        )
    if objective not in WITH_REFERENCE:
        return
    if adapter.bias != "none":
        yield Problem(
            "adapter.bias",
            keyed("bias_reference", "trained biases belong to the base, which {name} needs as it was", name=objective),
            keyed("bias_none", "use bias none, or objective orpo"),
        )
    if adapter.modules_to_save:
        yield Problem(
            "adapter.modules_to_save",
            keyed("saved_reference", "{name} computes with the base's own output head", name=objective),
            keyed("leave_out", "leave it out"),
        )


def _validation_problems(config: Sections) -> Iterator[Problem]:
    training = config.training
    if config.data.validation_split:
        return
    if training.early_stopping_patience is not None:
        yield Problem("training.early_stopping_patience", *_NOTHING_KEPT_BACK)
    if training.load_best_model_at_end:
        yield Problem("training.load_best_model_at_end", *_NOTHING_KEPT_BACK)


_NOTHING_KEPT_BACK = ("no rows are kept back to validate on", "set data.validation_split, 0.1 for instance")


def refused_here(config: Sections, *, kind: Kind | None) -> Iterator[Problem]:
    """Yield settings that this machine cannot run. `kind` is the one of its GPU, None for the processor."""
    if not has_optimizer(kind, config.training.optim):
        yield Problem(
            "training.optim",
            keyed(
                "no_such_optimizer_here",
                "bitsandbytes has no {name} for this GPU ({kind})",
                name=config.training.optim,
                kind=kind,
            ),
            keyed("use_adamw", "use adamw_torch_fused"),
        )
    if kind is None and config.adapter.use_dora and config.quantization.load_in_8bit:
        yield Problem(
            "adapter.use_dora",
            keyed(
                "on_a_processor_an_8_bit",
                "on a processor an 8-bit layer cannot tell DoRA its weights after the first step",
            ),
            keyed("use_a_4_bit_base_or", "use a 4-bit base, or switch DoRA off"),
        )
    card = kind in ("cuda", "rocm")
    if config.model.attn_implementation == "flash_attention_2" and not (card and find_spec("flash_attn")):
        lacks = "it needs a GPU, there is none here" if kind is None else "the package flash-attn is not installed"
        if kind in ("xpu", "mps"):
            lacks = keyed("flash_elsewhere", "flash-attn has kernels for GPUs of NVIDIA and AMD only")
        yield Problem("model.attn_implementation", lacks, keyed("use_sdpa", "use sdpa"))
    for tracker in config.training.report_to:
        if not any(find_spec(package) for package in _TRACKERS[tracker]):
            remedy = f"run `python -m pip install {tracker}` in the environment of the workbench, or leave it out"
            yield Problem("training.report_to", keyed("not_installed", "{name} is not installed", name=tracker), remedy)


def _process_problems(config: Sections) -> Iterator[Problem]:
    training = config.training
    count, batches = training.num_processes, training.gradient_accumulation_steps
    if batches % count:
        yield Problem(
            "training.num_processes",
            keyed(
                "uneven_processes",
                "{count} processes cannot share {batches} micro-batches of gradient accumulation evenly",
                count=count,
                batches=batches,
            ),
            keyed("even_processes", "set training.gradient_accumulation_steps to a multiple of {count}", count=count),
        )
    if count > 1 and training.objective != "sft":
        yield Problem(
            "training.num_processes",
            keyed("sft_processes", "several processes share a run with objective sft only"),
            keyed("one_process", "set training.num_processes to 1"),
        )
