"""A model of PyTorch's memory in miniature: storages without data, a simulated autograd, and a meter of live bytes.

The planner runs a layer's operations on `Autograd` and reads the peak. Storages live as long as something refers to
them, as in PyTorch: a Python variable, a tensor saved for the backward pass, or a gradient on its way. CPython's
reference counts do the bookkeeping, so the operations read like the modelling code that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a storage is counted as in the answer."""

    ACTIVATION = 0
    LOGITS = 1
    SCRATCH = 2
    GRADIENT = 3


BytesByKind = tuple[int, int, int, int]
"""Bytes by Kind."""

NOTHING: BytesByKind = (0, 0, 0, 0)


class Meter:
    """Count live bytes by kind and remember the composition of the highest moment."""

    __slots__ = ("by_kind", "live", "peak", "peak_by_kind")

    def __init__(self) -> None:
        self.live = 0
        self.by_kind = [0, 0, 0, 0]
        self.peak = 0
        self.peak_by_kind: BytesByKind = NOTHING

    def add(self, size_bytes: int, kind: int) -> None:
        """Count a new storage."""
        self.by_kind[kind] += size_bytes
        self.live += size_bytes
        if self.live > self.peak:
            self.peak = self.live
            self.peak_by_kind = (self.by_kind[0], self.by_kind[1], self.by_kind[2], self.by_kind[3])

    def drop(self, size_bytes: int, kind: int) -> None:
        """Forget a storage."""
        self.by_kind[kind] -= size_bytes
        self.live -= size_bytes

    def restart_peak(self) -> None:
        """Begin a new observation at the present level."""
        self.peak = self.live
        self.peak_by_kind = (self.by_kind[0], self.by_kind[1], self.by_kind[2], self.by_kind[3])


class Storage:
    """Some bytes on the device, counted while anything refers to them."""

    __slots__ = ("kind", "meter", "size_bytes")

    def __init__(self, meter: Meter, size_bytes: int, kind: int) -> None:
        self.meter = meter
        self.size_bytes = size_bytes
        self.kind = kind
        meter.add(size_bytes, kind)

    def __del__(self) -> None:
        self.meter.drop(self.size_bytes, self.kind)


class Node:
    """One recorded operation: what it saved, where its gradients go, and what its backward pass allocates.

    `edges` are the producers of the inputs (None: no gradient wanted). `grads` holds, for each edge, the bytes of the
    gradient, or PASS when the incoming gradient is handed on unchanged. `scratch_bytes` is live during the call only;
    `kept_bytes` is the gradient of a trained weight, which stays. An operation with several `outputs` holds all their
    gradients until it runs; one with a single output adds later gradients to the first.
    """

    __slots__ = ("edges", "grads", "kept_bytes", "kind", "outputs", "pending", "saved", "scratch_bytes")

    def __init__(
        self, edges: tuple[Node | None, ...], grads: tuple[int, ...], saved: tuple[Storage, ...], scratch_bytes: int
    ) -> None:
        self.edges = edges
        self.grads = grads
        self.saved: tuple[Storage, ...] | None = saved
        self.scratch_bytes = scratch_bytes
        self.kept_bytes = 0
        self.kind: int = Kind.ACTIVATION
        self.outputs = 1
        self.pending: list[Storage] = []

    def receive(self, gradient: Storage) -> None:
        """Take a gradient of an output. Autograd adds a second one in place: it owns the first by then."""
        if self.outputs > 1 or not self.pending:
            self.pending.append(gradient)


PASS = -1
"""The backward pass hands the incoming gradient on without a copy."""


@dataclass(slots=True)
class Tensor:
    """A storage seen as `elements` numbers of `itemsize` bytes; `node` is set when a gradient will flow to it."""

    storage: Storage
    elements: int
    itemsize: int
    node: Node | None = None

    @property
    def size_bytes(self) -> int:
        """Return the bytes of the elements."""
        return self.elements * self.itemsize


class Autograd:
    """Record operations and play them backwards. With `recording` off nothing is saved, as under torch.no_grad."""

    def __init__(self, meter: Meter, recording: bool = True, keep_gradients: bool = True) -> None:
        self.meter = meter
        self.keep_gradients = keep_gradients
        self.recording = recording
        self.nodes: list[Node] = []
        self.kept: list[Storage] = []

    def leaf(self, elements: int, itemsize: int, kind: Kind = Kind.ACTIVATION, grad: bool = False) -> Tensor:
        """Allocate a tensor that no recorded operation made; `grad` asks for its gradient."""
        tensor = Tensor(Storage(self.meter, elements * itemsize, kind), elements, itemsize)
        if grad and self.recording:
            tensor.node = self._record((None,), (0,), (), 0)
        return tensor

    def source(self, saved: tuple[Storage, ...], kept_bytes: int) -> Node | None:
        """Record an operation whose inputs want no gradient but whose weight does."""
        node = self._record((), (), saved, 0)
        node.kept_bytes = kept_bytes
        return node

    def scratch(self, size_bytes: int, kind: Kind = Kind.SCRATCH) -> None:
        """Touch some bytes that are free again when the operation ends."""
        if size_bytes:
            self.meter.add(size_bytes, kind)
            self.meter.drop(size_bytes, kind)

    def apply(
        self,
        inputs: Sequence[Tensor],
        elements: int,
        itemsize: int,
        *,
        grads: Sequence[int] | None = None,
        saved: Sequence[Tensor] = (),
        scratch_bytes: int = 0,
        backward_scratch_bytes: int = 0,
        kind: Kind = Kind.ACTIVATION,
    ) -> Tensor:
        """Run one operation: allocate its output and, when a gradient is wanted, record it.

        `grads` gives the gradient's bytes for each input, by default as large as the input. The output always counts
        beside `scratch_bytes`, which is free afterwards.
        """
        storage = Storage(self.meter, elements * itemsize, kind)
        if scratch_bytes:
            self.scratch(scratch_bytes)
        node = self._node(inputs, grads, saved, backward_scratch_bytes)
        if node is not None:
            node.kind = kind
        return Tensor(storage, elements, itemsize, node)

    def view(self, tensor: Tensor, elements: int | None = None) -> Tensor:
        """Return the same storage seen with another number of elements; the gradient passes through."""
        node = self._node((tensor,), (PASS,), (), 0)
        return Tensor(tensor.storage, tensor.elements if elements is None else elements, tensor.itemsize, node)

    def _node(
        self, inputs: Sequence[Tensor], grads: Sequence[int] | None, saved: Sequence[Tensor], scratch_bytes: int
    ) -> Node | None:
        edges = tuple([tensor.node for tensor in inputs])
        if not self.recording or not any(edges):
            return None
        sizes = [tensor.elements * tensor.itemsize for tensor in inputs] if grads is None else grads
        return self._record(edges, tuple(sizes), tuple([tensor.storage for tensor in saved]), scratch_bytes)

    def _record(
        self, edges: tuple[Node | None, ...], grads: tuple[int, ...], saved: tuple[Storage, ...], scratch_bytes: int
    ) -> Node:
        node = Node(edges, grads, saved, scratch_bytes)
        self.nodes.append(node)
        return node

    def backward(self, output: Tensor, gradient: Storage) -> None:
        """Run the recorded operations backwards from `output`; saved tensors go as soon as their operation is done."""
        if output.node is None:
            return
        output.node.receive(gradient)
        del gradient
        nodes = self.nodes
        while nodes:
            node = nodes.pop()
            if node.pending:
                self._step_back(node)
            node.saved = None

    def _step_back(self, node: Node) -> None:
        """Run one operation's backward pass as autograd does: gradients first, then release what was saved."""
        incoming = node.pending
        node.pending = []
        meter = self.meter
        outgoing: list[tuple[Node, Storage]] = []
        if node.scratch_bytes:
            meter.add(node.scratch_bytes, Kind.SCRATCH)
        for edge, size in zip(node.edges, node.grads, strict=True):
            if edge is not None:
                outgoing.append((edge, incoming[0] if size == PASS else Storage(meter, size, edge.kind)))
        if node.kept_bytes:
            self._keep(node.kept_bytes)
        if node.scratch_bytes:
            meter.drop(node.scratch_bytes, Kind.SCRATCH)
        del incoming
        node.saved = None
        for edge, storage in outgoing:
            edge.receive(storage)

    def _keep(self, size_bytes: int) -> None:
        """Make a trained weight's gradient: it stays, or is added to the one of the last micro-batch."""
        gradient = Storage(self.meter, size_bytes, Kind.GRADIENT)
        if self.keep_gradients:
            self.kept.append(gradient)
