"""Trace a training step of the real code on fake tensors and write the peak: `python -m ... REQUEST.json OUT.json`.

transformers' model, PEFT's adapters and torch's autograd run as in training, without data: every tensor has a shape and
no numbers. Two shallow depths are traced and extrapolated to all layers, which repeat. Runs in a child process only.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import masking_utils
from transformers.integrations import sdpa_attention

from app.errors import PlanError
from app.planner.optimizer import state_bytes, step_scratch_bytes
from app.planner.request import PlanRequest
from app.planner.step import CUBLAS_WORKSPACE_BYTES, trained_sizes
from app.planner.trace_request import request_from_json
from app.planner.trace_shims import FusedHead, MemoryMeter, cuda_behaviour, quantise
from app.planner.walk import kernel_of
from app.planner.weights import ITEMSIZE

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LEAST_DEPTH = 3


def trace(request: PlanRequest) -> dict[str, int]:
    """Return the traced peak and what is resident, extrapolated from two depths."""
    if not request.is_training:
        raise PlanError("method: inference is not traced", "", "Trace a training method")
    layers, period = request.model.layers, _period(request)
    first = -(-_LEAST_DEPTH // period) * period
    second = first + period * (2 if period == 1 else 1)
    if layers <= second:
        return trace_depth(request, layers)
    low, high = trace_depth(request, first), trace_depth(request, second)
    more = layers - second
    return {key: high[key] + more * (high[key] - low[key]) // (second - first) for key in high}


def _period(request: PlanRequest) -> int:
    """Return after how many layers attention kinds and recomputation repeat."""
    kinds = request.model.layer_kinds
    of_kinds = 1
    while of_kinds < len(kinds) and kinds[of_kinds:] != kinds[: len(kinds) - of_kinds]:
        of_kinds += 1
    mode = request.recompute
    return math.lcm(of_kinds, 1 if mode in ("full", "none") else int(mode.removeprefix("every-")))


def trace_depth(request: PlanRequest, layers: int) -> dict[str, int]:
    """Return the peak of one training step of the model with `layers` layers."""
    transformers.utils.logging.set_verbosity_error()
    # Whether rows are packed is read from numbers, which fake tensors do not have; masks are passed outright here.
    masking_utils.find_packed_sequence_indices = lambda *_, **__: None
    if request.profile == "peft-classic":
        # The published measurements pin the memory-efficient kernel, which wants keys and values for every head.
        sdpa_attention.use_gqa_in_sdpa = lambda *_: False
    meter = MemoryMeter()
    shallow = request.changed(model=request.model.with_layers(layers))
    with torch.device("meta"):
        model = _model(shallow, layers)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _materialise(model)
        constants = [*model.parameters(), *model.buffers(), _optimizer_states(shallow)]
        for tensor in constants:
            meter.register(tensor)
        with meter:
            return _measure(shallow, model, meter)


def _measure(request: PlanRequest, model: nn.Module, meter: MemoryMeter) -> dict[str, int]:
    """Run the step under the meter."""
    resident = meter.live
    meter.peak = meter.live
    _step(request, model)
    peak = max(meter.peak, meter.live + step_scratch_bytes(request.optimizer, _trained_bytes(model)))
    return {"allocated_peak": peak + CUBLAS_WORKSPACE_BYTES, "resident": resident}


def _materialise(model: nn.Module) -> None:
    """Give every meta tensor a fake CPU one; tied tensors stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fresh = made.get(id(parameter))
                if fresh is None:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                    fresh = made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module._parameters[name] = fresh
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _model(request: PlanRequest, layers: int) -> nn.Module:
    """Build the model as the profile's trainer does: stored, prepared, with its adapter."""
    model = _base(request, layers)
    if request.storage in ("nf4", "nf4-dq"):
        quantise(model, _DTYPES[request.dtype], request.storage == "nf4-dq")
    model.requires_grad_(request.method == "full")
    if request.kbit_prepared:
        for parameter in model.parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()
    if request.has_adapter:
        model = _with_adapter(request, model)
    _checkpointing(request, model)
    return model.train()


def _base(request: PlanRequest, layers: int) -> Any:
    """Return the transformers model of the request's configuration at another depth."""
    values = {key: value for key, value in request.model.config.items() if key not in ("layer_types", "dtype")}
    family = values.pop("model_type")
    for name in ("num_hidden_layers", "n_layer"):
        if name in values:
            values[name] = layers
    config = transformers.AutoConfig.for_model(family, **values)
    attention = "eager" if kernel_of(request) == "eager" else "sdpa"
    dtype = request.trained_dtype if request.method == "full" else request.dtype
    return transformers.AutoModelForCausalLM.from_config(config, dtype=_DTYPES[dtype], attn_implementation=attention)


def _with_adapter(request: PlanRequest, model: Any) -> nn.Module:
    """Put the request's adapter on the model, in its dtype."""
    targets: Any = "all-linear" if "all-linear" in request.targets else list(request.targets)
    model.is_loaded_in_4bit = request.storage in ("nf4", "nf4-dq")
    config = LoraConfig(
        r=request.rank,
        target_modules=targets,
        use_dora=request.dora,
        lora_dropout=request.lora_dropout,
        modules_to_save=list(request.modules_to_save) or None,
        task_type="CAUSAL_LM",
    )
    wrapped: nn.Module = get_peft_model(model, config)
    dtype = torch.float32 if request.profile == "peft-classic" else _DTYPES[request.trained_dtype]
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return wrapped


def _checkpointing(request: PlanRequest, model: Any) -> None:
    """Turn recomputation on as asked."""
    mode = request.recompute
    if mode == "none":
        return
    every = 1 if mode == "full" else int(mode.removeprefix("every-"))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.activation_checkpointing_enable(every_n_layers=every)


def _trained_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def _optimizer_states(request: PlanRequest) -> Tensor:
    """Allocate the optimiser's states by their size."""
    itemsize = 4 if request.profile == "peft-classic" and request.has_adapter else ITEMSIZE[request.trained_dtype]
    return torch.empty(state_bytes(request.optimizer, trained_sizes(request), itemsize), dtype=torch.uint8)


def _step(request: PlanRequest, model: nn.Module) -> None:
    """Run forward and backward, twice when gradients accumulate."""
    for _ in range(2 if request.gradient_accumulation > 1 else 1):
        with cuda_behaviour():
            _forward_and_backward(request, model)


def _forward_and_backward(request: PlanRequest, model: nn.Module) -> None:
    rows, length = (1, request.tokens) if request.packed else (request.micro_batch, request.seq_len)
    inputs: dict[str, Any] = {"input_ids": torch.zeros(rows, length, dtype=torch.int64), "use_cache": False}
    labels = torch.zeros(rows, length, dtype=torch.int64)
    padded = request.profile == "workbench" and (request.packed or request.micro_batch > 1)
    if padded and kernel_of(request) != "eager" and not request.model.alibi:
        inputs["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
    autocast = request.profile == "workbench" and request.dtype != "fp32"
    with torch.autocast("cpu", dtype=_DTYPES[request.dtype], enabled=autocast):
        if request.fused:
            loss = _fused_loss(model, inputs)
            outputs = None
        else:
            outputs = model(**inputs, labels=labels)
            loss = outputs.loss
            if not request.holds_outputs:
                outputs = None
    loss.backward()
    del outputs


def _fused_loss(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Run the backbone and the fused head over every token."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.base_model(**inputs).last_hidden_state
    head = inner.get_output_embeddings()
    compact = hidden.reshape(-1, hidden.shape[-1]).clone()
    del hidden
    return FusedHead.apply(compact, head.weight).sum()


def main(arguments: list[str]) -> int:
    """Read the request, trace it, write the answer."""
    torch.set_num_threads(1)
    source, target = Path(arguments[0]), Path(arguments[1])
    answer = trace(request_from_json(source.read_text(encoding="utf-8")))
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
