"""How to make it fit: the smallest sets of changes, least painful first, with what each saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from app.errors import PlanError
from app.planner.estimate import Plan, estimate
from app.planner.request import PlanRequest
from app.planner.solve import largest

_MOST_SUGGESTIONS = 6
_MOST_TOGETHER = 3
# Values below these teach little; they are not suggested.
_SHORTEST = 256
_LOWEST_RANK = 4


@dataclass(frozen=True)
class Suggestion:
    """Hold one set of changes: PlanRequest fields with their new values, and the peak that results."""

    changes: Mapping[str, Any]
    text: str
    saves_bytes: int
    device_peak: int
    fits: bool | None


def suggestions(request: PlanRequest) -> list[Suggestion]:
    """Return sets of changes that make the request fit, fewest changes first; empty when it fits already.

    A set is listed only when no part of it would do alone. When nothing fits, the one answer holds every change
    together and says so by `fits`. Without a card each single change is listed with what it saves.
    """
    now = estimate(request)
    if now.fits:
        return []
    moves = list(_moves(request))
    if now.fits is None:
        return [made for move in moves if (made := _try(request, now, [move])) and made.saves_bytes > 0]
    found = _smallest_sets(request, now, moves)
    if not found:
        everything = _try(request, now, moves)
        return [everything] if everything else []
    return found[:_MOST_SUGGESTIONS]


def _smallest_sets(request: PlanRequest, now: Plan, moves: list[dict[str, Any]]) -> list[Suggestion]:
    """Return all fitting sets of which no part fits alone."""
    found: list[Suggestion] = []
    taken: list[frozenset[int]] = []
    for count in range(1, _MOST_TOGETHER + 1):
        for chosen in combinations(range(len(moves)), count):
            if any(known <= set(chosen) for known in taken):
                continue
            made = _fitting(request, now, [moves[index] for index in chosen])
            if made is not None:
                taken.append(frozenset(chosen))
                found.append(made)
        if len(found) >= _MOST_SUGGESTIONS:
            break
    return found


def _fitting(request: PlanRequest, now: Plan, moves: list[dict[str, Any]]) -> Suggestion | None:
    """Return the mildest form of these changes that fits: the last number is relaxed as far as the card allows."""
    made = _try(request, now, moves)
    if made is None or not made.fits:
        return None
    for field in ("seq_len", "rank"):
        if field in made.changes:
            best = largest(request.changed(**made.changes), field)
            before = getattr(request, field)
            if best is not None and made.changes[field] <= best < before:
                relaxed = _try(request, now, [{**made.changes, field: best}])
                made = relaxed if relaxed is not None and relaxed.fits else made
    return made


def _try(request: PlanRequest, now: Plan, moves: list[dict[str, Any]]) -> Suggestion | None:
    """Return the suggestion of these changes together; None when they contradict each other."""
    changes: dict[str, Any] = {}
    for move in moves:
        changes.update(move)
    try:
        plan = estimate(request.changed(**changes))
    except PlanError:
        return None
    saved = now.device_peak - plan.device_peak
    return Suggestion(changes, _text(request, changes), saved, plan.device_peak, plan.fits)


def _moves(request: PlanRequest) -> Iterator[dict[str, Any]]:
    """Yield the single changes that this request leaves open, least painful first."""
    if request.is_training:
        yield from _training_moves(request)
    elif request.storage != "nf4-dq":
        yield {"quant": "nf4-dq"}
    if request.seq_len > _SHORTEST:
        yield {"seq_len": max(_SHORTEST, request.seq_len // 4 // 64 * 64)}
    if request.has_adapter and request.rank > _LOWEST_RANK:
        yield {"rank": max(_LOWEST_RANK, request.rank // 4)}
    if request.columns > 1:
        yield {"columns": max(1, request.columns // 2)}


def _training_moves(request: PlanRequest) -> Iterator[dict[str, Any]]:
    if request.attn == "eager":
        yield {"attn": "sdpa"}
    if request.recompute != "full":
        yield {"checkpointing": "full"}
    if request.micro_batch > 1:
        yield {"micro_batch": 1, "gradient_accumulation": request.gradient_accumulation * request.micro_batch}
    if request.method == "lora":
        yield {"method": "qlora", "quant": "nf4-dq"}
    elif request.method == "full":
        yield {"method": "lora", "quant": "none", "adapter_dtype": None}
    elif request.storage in ("nf4", "int8"):
        yield {"quant": "nf4-dq"}
    if "adamw" in request.optimizer and "8bit" not in request.optimizer:
        yield {"optimizer": "adamw_8bit"}
    if request.has_adapter and request.trained_dtype == "fp32" and request.profile == "workbench":
        yield {"adapter_dtype": "bf16"}


_NAMES = {
    "seq_len": "sequence length {:,}",
    "rank": "rank {}",
    "micro_batch": "micro-batch {}",
    "gradient_accumulation": "gradient accumulation {}",
    "optimizer": "optimiser {}",
    "columns": "{} columns",
    "attn": "{} attention",
    "adapter_dtype": "adapter in {}",
}
_METHODS = {"qlora": "QLoRA", "lora": "LoRA", "full": "full fine-tuning"}
_STORAGES = {"nf4": "a 4-bit base", "nf4-dq": "a 4-bit base with double quantisation", "int8": "an 8-bit base"}


def _text(request: PlanRequest, changes: Mapping[str, Any]) -> str:
    """Return the changes in words, as in 'Sequence length 1,024 and rank 8'."""
    words = []
    for field, value in changes.items():
        if value == getattr(request, field) or value is None:
            continue
        if field == "method":
            words.append(f"{_METHODS[value]} instead of {_METHODS[request.method]}")
        elif field == "quant":
            if "method" not in changes:
                words.append(_STORAGES.get(value, "an unquantised base"))
        elif field == "checkpointing":
            words.append("recomputing all layers")
        else:
            words.append(_NAMES[field].format(value))
    said = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 2 else words)
    return said[:1].upper() + said[1:]
