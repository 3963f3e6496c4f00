"""What can be changed to need less memory, how much each change hurts, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

from app.planner.phrases import Phrase, Sentence
from app.planner.request import PlanRequest

# Values below these teach little; they are not suggested.
SHORTEST = 256
LOWEST_RANK = 4


@dataclass(frozen=True)
class Remedy:
    """Hold one change: PlanRequest fields with their new values.

    Of one `group` only one remedy is taken. `harm` orders them; the scale is ours: about 1 for what costs time only, 2
    for a coarser number format, 4 for a change of method, and 2 for every halving of the length or of the columns.
    """

    group: str
    changes: Mapping[str, Any]
    harm: float


def remedies(request: PlanRequest) -> list[Remedy]:
    """Return the single changes that this request leaves open, least harm first."""
    found = [*_training_remedies(request)] if request.is_training else [*_inference_remedies(request)]
    if request.dtype == "fp32" and request.device == "cuda" and request.method != "full":
        found.append(Remedy("dtype", {"dtype": "bf16"}, 1.0))
    found += _shorter(request, "seq_len", SHORTEST, 64, 2.0)
    return sorted(found, key=lambda remedy: remedy.harm)


def _inference_remedies(request: PlanRequest) -> Iterator[Remedy]:
    if request.attn == "eager":
        yield Remedy("attn", {"attn": "sdpa"}, 0.1)
    if request.storage != "nf4-dq":
        yield Remedy("quant", {"quant": "nf4-dq"}, 2.0)
    yield from _shorter(request, "columns", 1, 1, 2.0)
    if request.micro_batch > 1:
        yield Remedy("micro_batch", {"micro_batch": 1}, 2.0)


def _training_remedies(request: PlanRequest) -> Iterator[Remedy]:
    if request.attn == "eager":
        yield Remedy("attn", {"attn": "sdpa"}, 0.1)
    if request.recompute != "full":
        yield Remedy("checkpointing", {"checkpointing": "full"}, 1.0)
    if request.micro_batch > 1:
        effective = request.gradient_accumulation * request.micro_batch
        yield Remedy("micro_batch", {"micro_batch": 1, "gradient_accumulation": effective}, 1.1)
    if "8bit" not in request.optimizer and ("adamw" in request.optimizer or "lion" in request.optimizer):
        eight = "lion_8bit" if "lion" in request.optimizer else "adamw_8bit"
        yield Remedy("optimizer", {"optimizer": eight}, 1.5)
    yield from _method_remedies(request)
    if request.has_adapter and request.profile == "workbench" and request.trained_dtype == "fp32":
        yield Remedy("adapter_dtype", {"adapter_dtype": "bf16"}, 2.0)
    if request.dora:
        yield Remedy("dora", {"dora": False}, 3.0)
    yield from _shorter(request, "rank", LOWEST_RANK, 1, 1.5)


def _method_remedies(request: PlanRequest) -> Iterator[Remedy]:
    """Yield the leaner methods, and the smaller storage of the base."""
    if request.method == "full":
        lora, qlora = {"method": "lora", "quant": "none"}, {"method": "qlora", "quant": "nf4-dq"}
        yield Remedy("method", {**lora, "adapter_dtype": None}, 4.0)
        yield Remedy("method", {**lora, "adapter_dtype": "bf16"}, 6.0)
        yield Remedy("method", {**qlora, "adapter_dtype": None}, 6.5)
        yield Remedy("method", {**qlora, "adapter_dtype": "bf16"}, 8.5)
    elif request.storage == "none":
        yield Remedy("method", {"method": "qlora", "quant": "nf4-dq"}, 4.0)
    elif request.storage != "nf4-dq":
        yield Remedy("quant", {"quant": "nf4-dq"}, 0.5 if request.storage == "nf4" else 2.5)


def _shorter(request: PlanRequest, field: str, lowest: int, step: int, harm: float) -> Iterator[Remedy]:
    """Yield a quarter of a number, and the lowest value."""
    now = getattr(request, field)
    if now > lowest:
        quarter = max(lowest, now // 4 // step * step)
        for value in dict.fromkeys((quarter, lowest)):
            yield Remedy(field, {field: value}, harm_of(field, now, value, harm))


def harm_of(field: str, before: int, after: int, each_halving: float = 2.0) -> float:
    """Return what it costs to lower a number: so much for every halving."""
    return (1.5 if field == "rank" else each_halving) * log2(before / after)


def words(request: PlanRequest, changes: Mapping[str, Any]) -> Sentence:
    """Return the changes in words, as in 'Sequence length 1,024 and rank 8'."""
    return Sentence(
        _word(request, field, value)
        for field, value in changes.items()
        if value is not None and value != getattr(request, field) and not (field == "quant" and "method" in changes)
    )


def _word(request: PlanRequest, field: str, value: Any) -> Phrase:
    if field == "method":
        before = Phrase(f"planner.method.{request.method}")
        return Phrase("planner.method", value=Phrase(f"planner.method.{value}"), before=before)
    if field == "quant":
        return Phrase(f"planner.quant.{value}")
    if field == "columns" and value == 1:
        return Phrase("planner.one_column")
    if field == "attn":
        return Phrase("planner.attn", value=value.upper() if value == "sdpa" else value)
    if field == "model":
        return Phrase("planner.model", value=value.listing.hub_id if value.listing else value.name)
    return Phrase(f"planner.{field}", value=value)
