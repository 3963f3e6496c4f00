"""Scopes around the parts of a trainer's step, and the sorting of their seconds into the parts that people read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import bitsandbytes.functional
from torch import nn
from transformers import PreTrainedModel, Trainer

from app.models.moe import experts
from app.planner.step_profile import PARTS, Scope
from app.training.fast_paths import fused_lora
from app.training.profile.products import Products, linear_shape
from app.training.profile.stopwatch import Stopwatch

STEP, FORWARD, BACKWARD = "step", "forward", "backward"
DATA, DEQUANTISE, OPTIMISER, INSTRUMENTS = "data", "dequantise", "optimiser", "instruments"
_DIRECT = {DATA: "data", DEQUANTISE: "dequantisation", OPTIMISER: "optimiser", INSTRUMENTS: "instruments"}
# Who looks up the dequantisation where.
_DEQUANTISERS = (bitsandbytes.functional, fused_lora, experts)
# What the parts of a decoder layer are called in transformers, by a piece of their name.
_KINDS = (
    ("norm", "forward: norms"),
    ("ln_", "forward: norms"),
    ("attn", "forward: attention"),
    ("attention", "forward: attention"),
    ("mixer", "forward: attention"),
    ("mlp", "forward: mlp"),
    ("ffn", "forward: mlp"),
    ("feed_forward", "forward: mlp"),
    ("dense", "forward: mlp"),
    ("moe", "forward: mlp"),
    ("experts", "forward: mlp"),
    ("fc", "forward: mlp"),
    ("embed", "forward: embedding"),
    ("wte", "forward: embedding"),
    ("wpe", "forward: embedding"),
)


@contextmanager
def instrumented(trainer: Trainer, stopwatch: Stopwatch, products: Products) -> Iterator[None]:
    """Put scopes around the parts of a trainer's steps, and count the products of its linear layers."""
    try:
        for owner, method, name in (
            (trainer, "get_batch_samples", DATA),
            (trainer, "_prepare_inputs", DATA),
            (trainer.accelerator, "backward", BACKWARD),
            (trainer, "_clip_grad_norm", OPTIMISER),
            (trainer.model, "zero_grad", OPTIMISER),
            (trainer.callback_handler, "call_event", INSTRUMENTS),
        ):
            stopwatch.around(owner, method, name)
        for module in _DEQUANTISERS:
            stopwatch.around(module, "dequantize_4bit", DEQUANTISE)
        _around_forward(trainer, stopwatch, products)
        _around_modules(_base_of(trainer.model), stopwatch, products)
        yield
    finally:
        stopwatch.restore()


def around_optimiser(trainer: Trainer, stopwatch: Stopwatch) -> None:
    """Put a scope around the optimiser's step, which exists once training has begun."""
    stopwatch.around(trainer.optimizer, "step", OPTIMISER)


def seconds_of_parts(step: Scope, model: nn.Module) -> dict[str, float]:
    """Return the seconds of every part of a step, in their order; they add up to the step's."""
    backbone = _base_of(model).base_model_prefix
    found = dict.fromkeys(PARTS, 0.0)
    for path, scope in step.walk():
        found[_part_of(path[1:], backbone)] += scope.own
    return found


def _part_of(path: tuple[str, ...], backbone: str) -> str:
    """Return the part that a place within a step belongs to."""
    for name, part in _DIRECT.items():
        if name in path:
            return part
    if path[:1] == (BACKWARD,):
        return "backward" if len(path) == 1 else "recomputation"
    if path[:1] != (FORWARD,):
        return "other"
    if len(path) == 1 or path[1] != backbone:
        return "forward: head and loss"
    for name in path[2:]:
        for piece, part in _KINDS:
            if piece in name.lower():
                return part
    return "forward: other"


def _base_of(model: nn.Module) -> PreTrainedModel:
    """Return the model of transformers, without the adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _around_forward(trainer: Trainer, stopwatch: Stopwatch, products: Products) -> None:
    """Put a scope around a micro-batch's forward pass, and count the head's product where no module shows it."""
    inner, head = trainer.compute_loss, _base_of(trainer.model).get_output_embeddings()

    @wraps(inner)
    def timed(model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        labels, before = inputs.get("labels"), products.calls_of(head)
        with stopwatch.scope(FORWARD):
            loss = inner(model, inputs, *args, **kwargs)
        if stopwatch.running and labels is not None and products.calls_of(head) == before:
            products.count(head, int((labels[:, 1:] != -100).sum()))
        return loss

    stopwatch.replace(trainer, "compute_loss", timed)


def _around_modules(base: PreTrainedModel, stopwatch: Stopwatch, products: Products) -> None:
    """Put a scope around every module, down to the linear layers with their adapters, each as one."""
    adapted: list[str] = []
    for name, module in base.named_modules():
        if not name or isinstance(module, nn.ModuleList) or any(name.startswith(one) for one in adapted):
            continue
        if hasattr(module, "get_base_layer"):
            adapted.append(f"{name}.")
        last = name.rpartition(".")[2]
        _around_module(module, "layer" if last.isdigit() else last, stopwatch, products)


def _around_module(module: nn.Module, name: str, stopwatch: Stopwatch, products: Products) -> None:
    inner, is_linear = module.forward, linear_shape(module) is not None

    @wraps(inner)
    def timed(*args: Any, **kwargs: Any) -> Any:
        if is_linear and stopwatch.running and not stopwatch.within(BACKWARD) and args:
            states = args[0]
            products.count(module, states.numel() // max(1, states.shape[-1]))
        with stopwatch.scope(name):
            return inner(*args, **kwargs)

    stopwatch.replace(module, "forward", timed)
