"""What is asked of the planner: one typed, checked request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from app.catalog.modules import EXPERTS
from app.catalog.spec import ModelSpec
from app.config import sections
from app.config.accelerators import Kind
from app.config.objectives import row_kind
from app.errors import PlanError, keyed
from app.planner.correction import Correction, Corrections, chosen
from app.planner.phrases import Phrase
from app.planner.simulation.adapter import ALL_LINEAR, adapts_experts, unknown_targets

if TYPE_CHECKING:
    from app.planner.tracing.store import Traces

Method = Literal["qlora", "lora", "full", "inference"]
Quant = Literal["nf4", "nf4-dq", "int8", "none"]
Attention = Literal["sdpa", "eager", "flash"]
Dtype = Literal["bf16", "fp16", "fp32"]
Profile = Literal["workbench", "peft-classic"]
Device = Literal["cuda", "cpu"]
# torch's SGD with momentum has no name of its own in transformers.
Optimizer = Literal[sections.Optimizer, "sgd_momentum"]
Objective = sections.Objective

GIB = 1 << 30
_CHOICES: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "quant": get_args(Quant),
    "attn": get_args(Attention),
    "dtype": get_args(Dtype),
    "profile": get_args(Profile),
    "optimizer": get_args(Optimizer),
    "device": get_args(Device),
    "objective": get_args(Objective),
}
# (lowest, highest) of each whole number; the highest are far beyond any card and keep every product finite.
_RANGES: dict[str, tuple[int, int]] = {
    "rank": (1, 65_536),
    "micro_batch": (1, 65_536),
    "seq_len": (1, 16_777_216),
    "gradient_accumulation": (1, 1_048_576),
    "columns": (1, 4096),
}
_MOST_TOKENS = 1 << 28
_MOST_VRAM_GB = 16_384.0


@dataclass(frozen=True)
class PlanRequest:
    """Describe the run whose memory is asked for.

    `targets` is `("all-linear",)` or module names. `checkpointing` is `full`, `none` or `every-N` (every N-th layer is
    recomputed). `dequantized_layers` counts the layers that keep their 4-bit weights in the compute dtype as well; None
    leaves it open and counts as none. `adapter_dtype` and `checkpointing` default by method and profile when None.
    `packed` rows are joined into one padding-free row. `columns` counts the conversations that inference holds at once.
    `vram_gb` is the card's marketing size; `free_bytes` overrides what of it is free. `outputs_held` says that the
    caller keeps the model's outputs during the backward pass; by default it follows the profile. `device` cpu plans for
    the memory of a process instead of a card's; `kind` is the one of this machine's GPU: no size depends on it, only
    what is said beside them. `objective` decides how many sequences a row of a micro-batch brings and what the loss
    holds; `reference_adapter` says that a frozen copy of the adapter is the reference. `corrections` are what was
    measured on this machine, `traces` what was traced of a model that has no formula.
    """

    model: ModelSpec
    method: Method = "qlora"
    quant: Quant | None = None
    rank: int = 16
    targets: tuple[str, ...] = ("all-linear",)
    dora: bool = False
    lora_dropout: float = 0.0
    micro_batch: int = 1
    seq_len: int = 1024
    gradient_accumulation: int = 1
    optimizer: Optimizer = "adamw_torch_fused"
    checkpointing: str | None = None
    dequantized_layers: int | None = None
    attn: Attention = "sdpa"
    dtype: Dtype = "bf16"
    adapter_dtype: Dtype | None = None
    profile: Profile = "workbench"
    packed: bool = False
    packing_note: Phrase | None = None
    dtype_note: Phrase | None = None
    fused_loss: bool | None = None
    outputs_held: bool | None = None
    modules_to_save: tuple[str, ...] = ()
    columns: int = 1
    vram_gb: float | None = None
    free_bytes: int | None = None
    reserve_bytes: int | None = None
    device: Device = "cuda"
    kind: Kind | None = None
    objective: Objective = "sft"
    reference_adapter: bool = False
    corrections: Corrections = ()
    traces: Traces | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def sequences(self) -> int:
        """Return the sequences of one micro-batch: a pair brings both of its sides."""
        return self.micro_batch * (2 if row_kind(self.objective) == "pairs" else 1)

    @property
    def tokens(self) -> int:
        """Return the tokens of one micro-batch."""
        return self.sequences * self.seq_len

    @property
    def storage(self) -> Quant:
        """Return how the frozen linear weights are stored."""
        if self.quant is not None:
            return self.quant
        return (
            "nf4-dq"
            if self.method == "qlora" and self.profile == "workbench"
            else ("nf4" if self.method == "qlora" else "none")
        )

    @property
    def kbit_prepared(self) -> bool:
        """Tell whether PEFT's k-bit preparation has turned the remaining weights into fp32."""
        return self.profile == "peft-classic" and self.storage != "none" and self.is_training

    @property
    def is_training(self) -> bool:
        """Tell whether anything is trained."""
        return self.method != "inference"

    @property
    def has_adapter(self) -> bool:
        """Tell whether an adapter is trained."""
        return self.method in ("lora", "qlora")

    @property
    def recompute(self) -> str:
        """Return the checkpointing in force; the classic path turns it on with k-bit preparation only."""
        if self.checkpointing is not None:
            return self.checkpointing
        if self.profile == "peft-classic" and not self.kbit_prepared:
            return "none"
        return "full"

    @property
    def fused(self) -> bool:
        """Tell whether the loss works on tiles and never holds all logits; not ORPO's, nor an encoder's."""
        if self.objective == "orpo" or self.model.encodes:
            return False
        return self.profile == "workbench" if self.fused_loss is None else self.fused_loss

    @property
    def holds_outputs(self) -> bool:
        """Tell whether the logits stay alive during the backward pass."""
        return self.profile == "peft-classic" if self.outputs_held is None else self.outputs_held

    @property
    def trained_dtype(self) -> Dtype:
        """Return the number format of what is trained: adapters in fp32 unless asked otherwise."""
        if self.adapter_dtype is not None:
            return self.adapter_dtype
        return "fp32" if self.has_adapter else self.dtype

    @property
    def correction(self) -> Correction | None:
        """Return what was measured for this method and storage."""
        return chosen(self.corrections, self.method, self.storage)

    def changed(self, **changes: Any) -> PlanRequest:
        """Return a copy with fields changed; raises PlanError for a wrong value."""
        for name in changes:
            if name not in self.__dataclass_fields__:
                known = ", ".join(sorted(self.__dataclass_fields__))
                raise PlanError(f"A plan has no setting {name}", "", f"Known are {known}")
        return replace(self, **changes)


def wrong_setting(field: str, why: str, remedy: str = "") -> PlanError:
    """Return the error of a field of a request that cannot be planned for."""
    return PlanError(f"The setting {field} cannot be planned for", why, remedy, field=field)


def _check(request: PlanRequest) -> None:
    """Raise PlanError that names the first field that cannot be planned for."""
    for name, choices in _CHOICES.items():
        value = getattr(request, name)
        if value not in choices and not (name == "quant" and value is None):
            raise wrong_setting(name, f"'{str(value)[:40]}' is not a choice", f"Choose {', '.join(choices)}")
    if request.adapter_dtype is not None and request.adapter_dtype not in _CHOICES["dtype"]:
        raise wrong_setting(
            "adapter_dtype", f"'{str(request.adapter_dtype)[:40]}' is not a choice", "Choose bf16 or fp32"
        )
    for name, (low, high) in _RANGES.items():
        _check_whole(name, getattr(request, name), low, high)
    _check_whole("dequantized_layers", request.dequantized_layers or 0, 0, 4096)
    if request.tokens > _MOST_TOKENS:
        raise wrong_setting("seq_len", f"{request.tokens:,} tokens in one micro-batch are more than {_MOST_TOKENS:,}")
    _check_checkpointing(request)
    _check_targets(request)
    _check_card(request)
    if not 0 <= request.lora_dropout < 1:
        raise wrong_setting("lora_dropout", "must be at least 0 and below 1")
    if request.objective != "sft" and not request.is_training:
        raise wrong_setting("objective", f"{request.objective} is an objective of training", "Plan a training method")
    if request.objective != "sft" and request.packed:
        raise wrong_setting("objective", f"{request.objective} trains on rows apart", "Plan without packing")
    if request.method == "full" and request.storage != "none":
        raise wrong_setting("quant", "full fine-tuning needs unquantised weights", "Choose quant none, or method qlora")
    if request.method == "qlora" and request.storage == "none":
        raise wrong_setting("quant", "QLoRA needs a quantised base", "Choose nf4, nf4-dq or int8, or method lora")


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_setting(name, f"expected a whole number, found {str(value)[:40]}")
    if not low <= value <= high:
        raise wrong_setting(name, f"{str(value)[:40]} is not between {low:,} and {high:,}")


def _check_checkpointing(request: PlanRequest) -> None:
    value = request.checkpointing
    if value is None or value in ("full", "none"):
        return
    number = value.removeprefix("every-") if isinstance(value, str) else ""
    if number == value or not number.isascii() or not number.isdigit() or not 1 <= int(number[:5]) <= 1024:
        raise wrong_setting("checkpointing", f"'{str(value)[:40]}' is not a choice", "Choose full, none or every-N")


def _check_targets(request: PlanRequest) -> None:
    if not isinstance(request.targets, tuple) or not request.targets:
        raise wrong_setting("targets", "no module is named", "Use all-linear, or names such as q_proj,v_proj")
    if request.has_adapter:
        unknown = unknown_targets(request.model, request.targets)
        if unknown:
            near = ", ".join(sorted({name for name in unknown.values() if name}))
            remedy = f"Did you mean {near}?" if near else "Use all-linear"
            raise wrong_setting("targets", f"{request.model.name} has no module {', '.join(unknown)[:120]}", remedy)
        _check_experts(request)


def _check_experts(request: PlanRequest) -> None:
    """Raise PlanError for what PEFT does not do for adapters on experts, which are parameters and no modules."""
    if not adapts_experts(request.model, request.targets):
        return
    named, model = ALL_LINEAR if ALL_LINEAR in request.targets else EXPERTS, request.model.name
    remedy = keyed("experts_off", "switch it off, or name the attention's modules as targets")
    if request.lora_dropout:
        why = keyed(
            "experts_no_dropout",
            "{targets} adapts the experts of {model}, where PEFT has no dropout",
            targets=named,
            model=model,
        )
        raise wrong_setting("lora_dropout", why, remedy)
    if request.dora:
        why = keyed(
            "experts_no_dora",
            "{targets} adapts the experts of {model}, where PEFT has no DoRA",
            targets=named,
            model=model,
        )
        raise wrong_setting("dora", why, remedy)


def _check_card(request: PlanRequest) -> None:
    card = request.vram_gb
    if card is not None:
        if isinstance(card, bool) or not isinstance(card, (int, float)) or not math.isfinite(card):
            raise wrong_setting("vram_gb", f"expected a number, found {str(card)[:40]}")
        if not 0 < card <= _MOST_VRAM_GB:
            raise wrong_setting("vram_gb", f"{card} is not above 0 and at most {_MOST_VRAM_GB:,.0f}")
    for name in ("free_bytes", "reserve_bytes"):
        value = getattr(request, name)
        if value is not None:
            _check_whole(name, value, 0, int(_MOST_VRAM_GB) * GIB)
