"""Trace a training step of the real code on fake tensors and write the peak: `python -m ... REQUEST.json OUT.json`.

transformers' model, PEFT's adapters and torch's autograd run as in training, without data: every tensor has a shape and
no numbers. Two shallow depths are traced and extrapolated to all layers, which repeat. Runs in a child process only.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import masking_utils
from transformers.integrations import sdpa_attention
from trl.experimental.orpo.orpo_trainer import ORPOTrainer, log1mexp

from app.catalog.modules import peft_targets
from app.errors import PlanError
from app.files import replace_file
from app.models.encoder_decoder import loss_of
from app.models.targets import not_adapted
from app.planner.parts.optimizer import state_bytes, step_scratch_bytes
from app.planner.parts.weights import ITEMSIZE, experts_in_4_bits
from app.planner.request import PlanRequest
from app.planner.simulation.layer_cost import kernel_of
from app.planner.simulation.step import CUBLAS_WORKSPACE_BYTES, trained_sizes
from app.planner.tracing.cuda_stubs import FusedHead, MemoryMeter, cuda_behaviour, quantise
from app.planner.tracing.experts import quantise_experts
from app.planner.tracing.models import four_bit_names
from app.planner.tracing.request import request_from_json

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
    with masks(packed=False, classic=request.profile == "peft-classic"):
        return _traced(request, layers)


@contextmanager
def masks(*, packed: bool, classic: bool) -> Iterator[None]:
    """Let transformers look for packed rows or not, for a while: later models of this process need its own way."""
    before = masking_utils.find_packed_sequence_indices, sdpa_attention.use_gqa_in_sdpa
    if not packed:
        masking_utils.find_packed_sequence_indices = lambda *_, **__: None
    if classic:
        # The published measurements pin the memory-efficient kernel, which wants keys and values for every head.
        sdpa_attention.use_gqa_in_sdpa = lambda *_: False
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices, sdpa_attention.use_gqa_in_sdpa = before


def _traced(request: PlanRequest, layers: int) -> dict[str, int]:
    meter = MemoryMeter()
    shallow = request.changed(model=request.model.with_layers(layers))
    with torch.device("meta"):
        model = _model(shallow, layers)
    with FakeTensorMode(allow_non_fake_inputs=True):
        materialise(model)
        constants = [*model.parameters(), *model.buffers(), _optimizer_states(shallow)]
        for tensor in constants:
            meter.register(tensor)
        with meter:
            resident = meter.live
            meter.peak = meter.live
            _step(shallow, model)
            trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
            peak = max(meter.peak, meter.live + step_scratch_bytes(shallow.optimizer, trained))
            return {"allocated_peak": peak + CUBLAS_WORKSPACE_BYTES, "resident": resident}


def materialise(model: nn.Module) -> None:
    """Give every meta tensor a fake CPU one; tied tensors stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fresh = made.get(id(parameter))
                if fresh is None:
                    # Strides as well: the stand-in of experts in 4 bits is one number in the shape of many.
                    empty = torch.empty_strided(
                        parameter.shape, parameter.stride(), dtype=parameter.dtype, device="cpu"
                    )
                    fresh = made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module._parameters[name] = fresh
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _model(request: PlanRequest, layers: int) -> nn.Module:
    """Build the model as the profile's trainer does: stored, prepared, with its adapter."""
    model = _base(request, layers)
    store_weights(request, model)
    if request.has_adapter:
        model = with_adapter(request, model)
    recompute_layers(request, model)
    return model.train()


def store_weights(request: PlanRequest, model: Any) -> None:
    """Store a model's weights as loading does: in 4 bits where that is asked for, frozen, and prepared."""
    if request.storage in ("nf4", "nf4-dq"):
        quantise(model, four_bit_names(model), _DTYPES[request.dtype], request.storage == "nf4-dq")
    if experts_in_4_bits(request):
        quantise_experts(model, _DTYPES[request.dtype], request.storage == "nf4-dq")
    model.requires_grad_(request.method == "full")
    if request.kbit_prepared:
        for parameter in model.parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()


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


def with_adapter(request: PlanRequest, model: Any) -> nn.Module:
    """Put the request's adapter on the model, in its dtype."""
    targets, parameters = peft_targets("all-linear" if "all-linear" in request.targets else request.targets)
    model.is_loaded_in_4bit = request.storage in ("nf4", "nf4-dq")
    config = LoraConfig(
        r=request.rank,
        target_modules=targets,
        exclude_modules=(not_adapted(model) or None) if targets == "all-linear" else None,
        target_parameters=parameters or None,
        use_dora=request.dora,
        lora_dropout=request.lora_dropout,
        modules_to_save=list(request.modules_to_save) or None,
        task_type="SEQ_2_SEQ_LM" if request.model.encodes else "CAUSAL_LM",
    )
    wrapped: nn.Module = get_peft_model(model, config)
    dtype = torch.float32 if request.profile == "peft-classic" else _DTYPES[request.trained_dtype]
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    if request.reference_adapter:
        wrapped.add_adapter("ref", config)  # type: ignore[operator]
    return wrapped


def recompute_layers(request: PlanRequest, model: Any) -> None:
    """Turn recomputation on as asked."""
    mode = request.recompute
    if mode == "none":
        return
    every = 1 if mode == "full" else int(mode.removeprefix("every-"))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.activation_checkpointing_enable(every_n_layers=every)


def _optimizer_states(request: PlanRequest) -> Tensor:
    """Allocate the optimiser's states by their size."""
    itemsize = 4 if request.profile == "peft-classic" and request.has_adapter else ITEMSIZE[request.trained_dtype]
    return torch.empty(state_bytes(request.optimizer, trained_sizes(request), itemsize), dtype=torch.uint8)


def _step(request: PlanRequest, model: nn.Module) -> None:
    """Run forward and backward, twice when gradients accumulate."""
    for _ in range(2 if request.gradient_accumulation > 1 else 1):
        with cuda_behaviour():
            forward_and_backward(request, model, _batch(request))


def _batch(request: PlanRequest) -> dict[str, Tensor]:
    """Return one micro-batch, with a whole mask where a trainer's batch needs one."""
    rows, length = (1, request.tokens) if request.packed else (request.sequences, request.seq_len)
    inputs = {"input_ids": torch.zeros(rows, length, dtype=torch.int64)}
    padded = request.profile == "workbench" and (request.packed or request.sequences > 1)
    if padded and kernel_of(request) != "eager" and not request.model.alibi:
        inputs["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
    return inputs


def forward_and_backward(
    request: PlanRequest, model: nn.Module, batch: Mapping[str, Tensor], mark: Callable[[str], None] = lambda _: None
) -> None:
    """Run one micro-batch as the profile's trainer does; `mark` is told where the backward pass begins."""
    inputs = {**batch, "use_cache": False}
    labels = torch.zeros(batch["input_ids"].shape, dtype=torch.int64)
    autocast = request.profile == "workbench" and request.dtype != "fp32"
    with torch.autocast("cpu", dtype=_DTYPES[request.dtype], enabled=autocast):
        if request.objective in ("dpo", "kto"):
            loss = _preference_loss(request, model, inputs)
            outputs = None
        elif request.objective == "orpo":
            loss = _odds_ratio_loss(model, inputs, request.dtype != "fp32")
            outputs = None
        elif request.fused:
            loss = _fused_loss(model, inputs).sum()
            outputs = None
        else:
            outputs = model(**inputs) if request.model.encodes else model(**inputs, labels=labels)
            loss = loss_of(outputs.logits, labels, None) if request.model.encodes else outputs.loss
            if not request.holds_outputs:
                outputs = None
    mark("back")
    loss.backward()
    del outputs


def _fused_loss(model: Any, inputs: Mapping[str, object]) -> Tensor:
    """Run the backbone and the fused head over every token."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.base_model(**inputs).last_hidden_state
    head = inner.get_output_embeddings()
    compact = hidden.reshape(-1, hidden.shape[-1]).clone()
    del hidden
    scores: Tensor = FusedHead.apply(compact, head.weight)
    return scores


def _preference_loss(request: PlanRequest, model: Any, inputs: dict[str, Any]) -> Tensor:
    """Run the policy and, beside what it keeps, the reference: TRL 1.16's order in `_compute_loss` of DPO and KTO."""
    kto = request.objective == "kto"
    if kto:
        with torch.no_grad():
            _fused_loss(model, inputs)  # the answers to other rows
    policy = _fused_loss(model, inputs)
    if request.has_adapter:
        with torch.no_grad(), unrecomputed(model), reference_of(model):
            if kto:
                _fused_loss(model, inputs)
            reference = _fused_loss(model, inputs)
    else:
        reference = torch.zeros(policy.shape)  # read beforehand
    return -functional.logsigmoid((policy - reference).sum())


@contextmanager
def reference_of(model: Any) -> Iterator[None]:
    """Let the reference answer: the frozen copy of the adapter if there is one, else the bare base."""
    if "ref" in model.peft_config:
        model.set_adapter("ref", inference_mode=True)
        try:
            yield
        finally:
            model.set_adapter("default")
    else:
        with model.disable_adapter():
            yield


@contextmanager
def unrecomputed(model: Any) -> Iterator[None]:
    """Switch recomputation off, as TRL does for the reference's pass."""
    parts = [part for part in model.modules() if getattr(part, "gradient_checkpointing", False)]
    for part in parts:
        part.gradient_checkpointing = False
    try:
        yield
    finally:
        for part in parts:
            part.gradient_checkpointing = True


def _odds_ratio_loss(model: Any, inputs: dict[str, Any], widened: bool) -> Tensor:
    """Run TRL 1.16's loss of ORPO: the chosen half's cross-entropy, and the odds of both halves.

    `widened`: accelerate turns the outputs of a model under autocast into fp32.
    """
    logits = model(**inputs).logits
    logits = logits.float() if widened else logits
    half, labels = len(logits) // 2, torch.zeros(logits.shape[:2], dtype=torch.int64)
    chosen = logits[:half, :-1].contiguous()
    nll = functional.cross_entropy(chosen.view(-1, chosen.shape[-1]), labels[:half, 1:].reshape(-1))
    del chosen
    scores = ORPOTrainer.get_batch_logps(logits, labels, average_log_prob=True).float()
    chosen_logps, rejected_logps = scores[:half], scores[half:]
    odds = (chosen_logps - rejected_logps) - (log1mexp(chosen_logps) - log1mexp(rejected_logps))
    return nll - functional.logsigmoid(odds).mean()


def main(arguments: list[str]) -> int:
    """Read the request, trace it, write the answer."""
    torch.set_num_threads(1)
    source, target = Path(arguments[0]), Path(arguments[1])
    answer = trace(request_from_json(source.read_text(encoding="utf-8")))
    replace_file(target, json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
