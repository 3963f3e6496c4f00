"""One training step on fake tensors, cut at the layers: every local maximum of live bytes, segment by segment.

Imports torch: for the tracing child only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from app.planner.request import PlanRequest
from app.planner.tracing import cuda_stubs
from app.planner.tracing.cuda_stubs import MemoryMeter, cuda_behaviour
from app.planner.tracing.models import layers_of
from app.planner.tracing.worker import forward_and_backward, masks, materialise


@dataclass
class Segment:
    """Hold the live bytes at the start of one part of a step, at its local maxima, and at its end.

    `operations` names, for each maximum, the operation that reached it.
    """

    name: str
    start: int
    heights: list[int] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    end: int = 0


class Timeline(MemoryMeter):
    """Count live bytes as the meter does, and keep every local maximum between two marks."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[Segment] = []
        self._rising = False

    def mark(self, name: str) -> None:
        """End a segment here and begin another."""
        self._close()
        self.segments.append(Segment(name, self.live))
        self._rising = True

    def _close(self) -> None:
        if self.segments:
            self._keep(self.live)
            self.segments[-1].end = self.live

    def _keep(self, height: int) -> None:
        self.segments[-1].heights.append(height)
        self.segments[-1].operations.append(self.operation)

    def finish(self) -> list[Segment]:
        """Return the segments."""
        self._close()
        return self.segments

    def touch(self, size_bytes: int) -> None:
        """Count bytes that are free again at once."""
        super().touch(size_bytes)
        if self.segments:
            self._keep(self.live + size_bytes)

    def register(self, tensor: Tensor) -> None:
        """Count a tensor's storage unless it is known."""
        before = self.live
        super().register(tensor)
        self._rising = self._rising or self.live > before

    def _forget(self, key: int, size: int) -> None:
        if self._rising and self.segments:
            self._keep(self.live)
            self._rising = False
        super()._forget(key, size)


def record(request: PlanRequest, model: Any, layers: Sequence[str], steps: int = 1) -> list[Segment]:
    """Return the segments of one step of a model on the meta device: `in`, `f0`, `f1`, ..., `loss`, `b1`, `b0`.

    The forward pass of layer i is the segment f<i>, its backward pass b<i>. What comes before the first layer is `in`.
    After the last layer come `loss` (the final norm, and the loss where it is not fused), `head` (the fused head),
    `back` (its backward pass) and `tail` (that of the final norm). `steps` is how often gradients accumulate.
    """
    timeline = Timeline()
    with (
        masks(packed=request.packed, classic=request.profile == "peft-classic"),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        materialise(model)
        for tensor in (*model.parameters(), *model.buffers()):
            timeline.register(tensor)
        _watch(model, layers, timeline)
        with timeline:
            timeline.mark("in")
            for _ in range(steps):
                with cuda_behaviour():
                    forward_and_backward(request, model, batch_of(request), timeline.mark)
            return timeline.finish()


def batch_of(request: PlanRequest) -> dict[str, Tensor]:
    """Return a micro-batch as the trainer's collator makes it: rows are padded, packed ones carry their positions."""
    rows, length = (1, request.tokens) if request.packed else (request.sequences, request.seq_len)
    batch = {"input_ids": torch.zeros(rows, length, dtype=torch.int64)}
    if request.profile == "workbench" and request.packed:
        batch["position_ids"] = torch.zeros(rows, length, dtype=torch.int64)
    elif request.profile == "workbench" and rows > 1 and request.attn != "flash":
        batch["attention_mask"] = torch.ones(rows, length, dtype=torch.int64)
    if request.model.encodes:
        # What is read and what is written may each be as long as a row may be.
        batch["attention_mask"] = torch.ones(rows, length, dtype=torch.int64)
        batch["decoder_input_ids"] = torch.zeros(rows, length, dtype=torch.int64)
    return batch


def _watch(model: Any, layers: Sequence[str], timeline: Timeline) -> None:
    """Let every layer mark where it begins, where it ends, and where its backward pass begins."""
    parts = layers_of(model, layers)
    for index, layer in enumerate(parts):
        layer.register_forward_pre_hook(lambda *_, index=index: timeline.mark(f"f{index}"))
        layer.register_forward_hook(_ended(index, len(parts), timeline))
    cuda_stubs.FusedHead.mark = timeline.mark


def _ended(index: int, count: int, timeline: Timeline) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        timeline.mark("loss" if index == count - 1 else f"after{index}")
        hidden = output if isinstance(output, Tensor) else output[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: timeline.mark(f"b{index}"))

    return hook
