"""What a run buys with memory that would lie idle: the seconds that each step saves, and the bytes that they cost.

Two things are for sale, and neither changes a number of the run. A layer that is not recomputed keeps its activations
and saves one forward pass and one dequantisation. A layer whose 4-bit weights are kept dequantised beside them costs
their bytes in the compute dtype and saves two dequantisations a micro-batch, three where it is recomputed. Every mode
of recomputation is planned with as many kept layers as then fit, and the one that saves the most seconds is taken; of
equal ones the smallest. A larger micro-batch is not for sale: it would add up gradients in another order, and equal
settings would no longer give equal adapters (docs/decisions/spend-what-fits.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from app.catalog.modules import layer_modules
from app.catalog.spec import ModelSpec
from app.errors import PlanError
from app.planner.estimate import estimate
from app.planner.parts.overhead import free_bytes
from app.planner.parts.weights import convertible_parameters
from app.planner.phrases import Phrase
from app.planner.request import GIB, Device, PlanRequest
from app.planner.simulation.step import is_recomputed

# Share of the free memory that is spent at most. The plan's own error is below 5 % on a card; a processor's memory is
# everybody's, and a machine that begins to swap loses far more than is won.
_SHARE: dict[Device, float] = {"cuda": 0.95, "cpu": 0.7}
# Typical rates, to weigh one purchase against another: products of matrices in operations a second, and 4-bit weights
# dequantised a second (a mid-range card; two cores).
_FLOPS: dict[Device, float] = {"cuda": 60e12, "cpu": 60e9}
_DEQUANTISED: dict[Device, float] = {"cuda": 300e9, "cpu": 0.5e9}
_MODES = ("full", "every-2", "every-3", "every-4", "every-6", "every-8", "none")


@dataclass(frozen=True)
class Spending:
    """What is bought: the mode of recomputation and how many layers keep dequantised weights.

    `saved_s` is by estimate, for one micro-batch; `spent_bytes` is what the peak grows by; `why` says it in a sentence.
    """

    checkpointing: str
    dequantized_layers: int
    saved_s: float
    spent_bytes: int
    device_peak: int
    why: Phrase

    def to_json(self) -> dict[str, str | int]:
        """Return it as `plan --json` prints it; sizes in bytes."""
        return {
            "checkpointing": self.checkpointing,
            "dequantized_layers": self.dequantized_layers,
            "spent_bytes": self.spent_bytes,
            "device_peak": self.device_peak,
            "why": str(self.why),
        }


@lru_cache(maxsize=256)
def spending(request: PlanRequest) -> Spending | None:
    """Return what a run buys with the request's free memory; None where nothing is left open or nothing is known.

    A setting that is given (`checkpointing`, `dequantized_layers`) is kept; None leaves it open.
    """
    free = free_bytes(request)
    if free is None or not request.is_training or (request.checkpointing, request.dequantized_layers).count(None) == 0:
        return None
    plain = request.changed(checkpointing=request.recompute, dequantized_layers=request.dequantized_layers or 0)
    try:
        floor = estimate(plain).device_peak
    except PlanError:
        return None
    found = [*_affordable(request, int(free * _SHARE[request.device]))]
    if not found:
        return _bought(plain, floor, free, 0.0, plain)
    best_s, best = max(found, key=lambda one: (round(one[0], 9), -estimate(one[1]).device_peak))
    return _bought(best, floor, free, best_s, plain)


def _affordable(request: PlanRequest, budget: int) -> Iterator[tuple[float, PlanRequest]]:
    """Yield seconds saved and request of every mode that fits, each with as many kept layers as fit beside it."""
    modes = _MODES if request.checkpointing is None else (request.checkpointing,)
    most = _most_layers(request)
    for mode in modes:
        low, high = (0, most) if request.dequantized_layers is None else (request.dequantized_layers,) * 2
        if not _fits(request, mode, low, budget):
            continue
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _fits(request, mode, middle, budget) else (low, middle - 1)
        yield _saved_s(request, mode, low), request.changed(checkpointing=mode, dequantized_layers=low)


def _most_layers(request: PlanRequest) -> int:
    """Return how many layers have weights that can be kept: none but those that bitsandbytes stores in 4 bits."""
    in_4_bits = request.storage in ("nf4", "nf4-dq") and request.profile == "workbench"
    counted = in_4_bits and not request.model.simulated and convertible_parameters(request.model) > 0
    return request.model.layers if counted else 0


def _fits(request: PlanRequest, mode: str, layers: int, budget: int) -> bool:
    try:
        return estimate(request.changed(checkpointing=mode, dequantized_layers=layers)).device_peak <= budget
    except PlanError:  # a class whose layers were not traced in this mode
        return False


def _saved_s(request: PlanRequest, mode: str, kept_layers: int) -> float:
    """Return the seconds of a micro-batch that are saved against recomputing all and keeping none."""
    saved = 0.0
    for index in range(request.model.layers):
        weights = _linear_weights(request.model, index)
        dequantised_s = weights / _DEQUANTISED[request.device] if request.storage in ("nf4", "nf4-dq") else 0.0
        recomputed = is_recomputed(mode, index)
        if not recomputed:
            saved += 2 * weights * request.tokens / _FLOPS[request.device] + dequantised_s
        if index < kept_layers:
            saved += (3 if recomputed else 2) * dequantised_s
    return saved


@lru_cache(maxsize=4096)
def _linear_weights(spec: ModelSpec, index: int) -> int:
    own = sum(module.weights for module in layer_modules(spec, index))
    # A class that is traced has no table of modules; what counts is that all its layers weigh alike.
    return own or spec.hidden * (4 * spec.hidden + 3 * spec.intermediate)


def _bought(chosen: PlanRequest, floor: int, free: int, saved_s: float, plain: PlanRequest) -> Spending:
    peak, layers = estimate(chosen).device_peak, chosen.dequantized_layers or 0
    mode, spent = chosen.recompute, max(0, peak - floor)
    if (mode, layers) == (plain.recompute, plain.dequantized_layers or 0):
        # A class without a formula is measured with every layer recomputed; what less takes is then not known.
        unknown = chosen.model.simulated and mode == "full"
        why = Phrase("planner.spend.unmeasured" if unknown else "planner.spend.nothing", free=free / GIB)
    else:
        what = Phrase("planner.spend.mode.every", count=int(mode[6:])) if mode.startswith("every-") else None
        why = Phrase(
            "planner.spend.bought" if layers else "planner.spend.no_layers",
            size=spent / GIB,
            free=free / GIB,
            mode=what or Phrase(f"planner.spend.mode.{mode}"),
            layers=layers,
            of=chosen.model.layers,
            dtype=chosen.dtype,
        )
    return Spending(mode, layers, saved_s, spent, peak, why)
