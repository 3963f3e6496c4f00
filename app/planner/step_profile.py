"""Where the time of a training step goes: what the profiling child writes, and the command line shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# The parts of a step, in the order in which they are shown. Every second of a step belongs to exactly one.
PARTS = (
    "data",
    "forward: attention",
    "forward: mlp",
    "forward: norms",
    "forward: embedding",
    "forward: head and loss",
    "forward: other",
    "recomputation",
    "backward",
    "dequantisation",
    "optimiser",
    "instruments",
    "other",
)


@dataclass(frozen=True)
class Part:
    """One part of a step: seconds a step, and its share of the step."""

    name: str
    seconds: float
    share: float


@dataclass
class Scope:
    """Seconds a step within a place of the run, its parts included, and those parts."""

    name: str
    seconds: float = 0.0
    parts: list[Scope] = field(default_factory=list)

    @property
    def own(self) -> float:
        """Return the seconds that are no part's."""
        return max(0.0, self.seconds - sum(part.seconds for part in self.parts))

    def walk(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Scope]]:
        """Yield every scope with the names from the outermost to its own."""
        path = (*above, self.name)
        yield path, self
        for part in self.parts:
            yield from part.walk(path)


@dataclass(frozen=True)
class Product:
    """Products of one shape, (rows, inputs) by (inputs, outputs): how many a step has, and the limit measured alone.

    `gflops` counts a multiplication and an addition as two, over the forward product and the one of the input's
    gradient.
    """

    rows: int
    inputs: int
    outputs: int
    calls: float
    gflops: float


@dataclass(frozen=True)
class StepProfile:
    """What a step of a run costs on a device; all figures but `steps` are a step's, the mean of all.

    `share_of_limit` is the time that the products with the base's matrices take alone, one after another at the same
    shapes in the same process, over the time of the step; none where no linear layer was seen.
    """

    device: str
    dtype: str
    model: str
    steps: int
    seconds: float
    least_seconds: float
    most_seconds: float
    tokens: float
    parts: list[Part]
    products: list[Product]
    products_seconds: float
    share_of_limit: float | None
    scopes: Scope
