"""Settings that are right alone and wrong together, and settings that this machine cannot run.

Each rule says what a library would refuse, or would do silently wrong, before a process is started. The first group
needs the settings alone and is checked whenever a RunConfig is made; the second needs the machine and is checked when
a run is handed in. tests/test_combinations.py shows each refused pair failing in the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from app.errors import Problem

if TYPE_CHECKING:
    from app.config import RunConfig

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
    """Return PEFT's starts of an adapter that are not offered, each with the reason."""
    return _REFUSED_STARTS


def refused_together(config: RunConfig) -> Iterator[Problem]:
    """Yield settings that are right alone and wrong together."""
    yield from _method_problems(config)
    yield from _target_problems(config)
    yield from _optimizer_problems(config)
    yield from _validation_problems(config)
    if config.training.max_steps == 0:
        yield Problem("training.max_steps", "0 steps train nothing", "use -1 to follow the epochs, or 1 and more")


def _method_problems(config: RunConfig) -> Iterator[Problem]:
    quantization, adapter = config.quantization, config.adapter
    if quantization.load_in_4bit and quantization.load_in_8bit:
        yield Problem("quantization.load_in_8bit", "4-bit and 8-bit cannot both be on", "switch one of them off")
    if adapter.method == "full" and (quantization.load_in_4bit or quantization.load_in_8bit):
        yield Problem(
            "adapter.method",
            "full fine-tuning needs unquantised weights",
            "set quantization.load_in_4bit and load_in_8bit to false, or adapter.method to lora",
        )
    if adapter.method == "lora" and adapter.init_lora_weights == "orthogonal":
        yield from _orthogonal_problems(config)


def _orthogonal_problems(config: RunConfig) -> Iterator[Problem]:
    if config.adapter.r % 2:
        yield Problem("adapter.init_lora_weights", "an orthogonal start needs an even rank", "use an even adapter.r")
    if config.quantization.load_in_4bit or config.quantization.load_in_8bit:
        yield Problem(
            "adapter.init_lora_weights",
            "PEFT's orthogonal start works on an unquantised base only",
            "use true or gaussian, or method lora",
        )


def _target_problems(config: RunConfig) -> Iterator[Problem]:
    adapter = config.adapter
    if adapter.target_modules == []:
        yield Problem(
            "adapter.target_modules",
            "the list is empty, so nothing would be trained",
            "use all-linear or name at least one module",
        )
    targets = adapter.target_modules if isinstance(adapter.target_modules, list) else []
    if any(name.rsplit(".", 1)[-1] in ("lm_head", "embed_out") for name in targets):
        yield Problem(
            "adapter.target_modules",
            "the fused loss refuses an adapter on lm_head",
            "name lm_head in adapter.modules_to_save instead",
        )
    for name in sorted(set(targets) & set(adapter.modules_to_save)):
        yield Problem(
            "adapter.modules_to_save",
            f"{name} would get an adapter and be trained as a whole",
            f"take {name} out of one of the two lists",
        )


def _optimizer_problems(config: RunConfig) -> Iterator[Problem]:
    adapter, optimizer = config.adapter, config.training.optim
    if adapter.loraplus_lr_ratio is not None and adapter.method == "full":
        yield Problem("adapter.loraplus_lr_ratio", "LoRA+ needs an adapter, full fine-tuning has none", "leave it out")
    if optimizer != "lora_fa":
        return
    if adapter.method == "full":
        yield Problem("training.optim", "lora_fa needs an adapter, full fine-tuning has none", "use adamw_torch_fused")
    if adapter.use_dora:
        yield Problem(
            "training.optim",
            "lora_fa takes the parameters of an adapter in pairs, and DoRA has three a layer",
            "switch adapter.use_dora off, or use adamw_torch_fused",
        )
    if adapter.loraplus_lr_ratio is not None:
        yield Problem(
            "adapter.loraplus_lr_ratio",
            "LoRA+ sets two learning rates, and lora_fa trains one of the two matrices only",
            "leave one of the two out",
        )


def _validation_problems(config: RunConfig) -> Iterator[Problem]:
    training = config.training
    if config.data.validation_split:
        return
    if training.early_stopping_patience is not None:
        yield Problem("training.early_stopping_patience", *_NOTHING_KEPT_BACK)
    if training.load_best_model_at_end:
        yield Problem("training.load_best_model_at_end", *_NOTHING_KEPT_BACK)


_NOTHING_KEPT_BACK = ("no rows are kept back to validate on", "set data.validation_split, 0.1 for instance")


def refused_here(config: RunConfig, *, card: bool) -> Iterator[Problem]:
    """Yield settings that this machine cannot run. `card` tells whether it has an accelerator."""
    if not card and config.adapter.use_dora and config.quantization.load_in_8bit:
        yield Problem(
            "adapter.use_dora",
            "on a processor an 8-bit layer cannot tell DoRA its weights after the first step",
            "use a 4-bit base, or switch DoRA off",
        )
    if config.model.attn_implementation == "flash_attention_2" and not (card and find_spec("flash_attn")):
        lacks = "the package flash-attn is not installed" if card else "it needs a card, there is none here"
        yield Problem("model.attn_implementation", lacks, "use sdpa")
    for tracker in config.training.report_to:
        if not any(find_spec(package) for package in _TRACKERS[tracker]):
            remedy = f"run `python -m pip install {tracker}` in the environment of the workbench, or leave it out"
            yield Problem("training.report_to", f"{tracker} is not installed", remedy)
