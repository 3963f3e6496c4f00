"""What a reader should know about an estimate: assumptions that matter, and choices that do less than they seem."""

from __future__ import annotations

from collections.abc import Iterator

from app.planner.optimizer import is_paged
from app.planner.request import PlanRequest
from app.planner.walk import kernel_of
from app.planner.weights import convertible_parameters


def warnings_for(request: PlanRequest) -> Iterator[str]:
    """Yield one plain sentence for each."""
    spec = request.model
    if request.correction is not None:
        yield request.correction.line()
    if spec.uncounted:
        yield f"{spec.name}: only its language part is counted; what {spec.uncounted} describes comes on top"
    if spec.unplanned:
        yield f"{spec.name}: its vision part ({spec.unplanned:,} parameters) is counted as resident; images are not"
    if request.storage != "none" and convertible_parameters(spec) == 0:
        yield f"{spec.name}: its own linear class is not quantised by bitsandbytes; the weights stay 16-bit"
    if spec.experts is not None and request.storage != "none":
        yield f"{spec.name}: routed experts are no linear modules and stay 16-bit"
    if spec.experts is not None:
        yield "Mixture-of-experts activations assume tokens spread evenly over the experts; unmeasured"
    eager = kernel_of(request) == "eager"
    if eager and request.attn != "eager":
        yield f"{spec.name} has eager attention only: it holds full score matrices whatever kernel is chosen"
    if eager and request.tokens >= 4096:
        yield "Eager attention grows with the square of the length; sdpa needs far less"
    if request.is_training and is_paged(request.optimizer):
        yield "Paged optimiser states may leave the card between steps; they are counted as on it"
    if request.storage == "int8":
        yield "int8 estimates are unmeasured"
    if spec.max_positions and request.seq_len > spec.max_positions:
        yield f"{spec.name} was made for at most {spec.max_positions:,} tokens"
    if request.packed and request.tokens >= 8192 and request.attn != "flash":
        yield "Packed rows pass a full mask of length squared; shorter rows or flash attention avoid it"
