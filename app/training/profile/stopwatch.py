"""A stopwatch of nested scopes: what runs within what, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch

from app import devices
from app.planner.step_profile import Scope


@dataclass
class _Open:
    """A scope under way, and those that ended within it."""

    name: str
    seconds: float = 0.0
    parts: dict[str, _Open] = field(default_factory=dict)


class Stopwatch:
    """Adds up the seconds of scopes by name, within the scope that they ran in.

    A card is waited for at every border, so that what it was asked for counts where it was asked. Backward passes run
    in a thread of their own there, while the one that began them waits: one stack of scopes is enough.

    Nothing is counted before it is `running`. While it is `tracing`, scopes are marks in torch's own trace instead.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = devices.of(device)
        self._root = _Open("")
        self._stack = [self._root]
        self._replaced: list[tuple[Any, str, Any, bool]] = []
        self.running = self.tracing = False

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Count what runs within this."""
        if not self.running:
            with torch.profiler.record_function(name) if self.tracing else nullcontext():
                yield
            return
        here = self._stack[-1].parts.setdefault(name, _Open(name))
        self._stack.append(here)
        begun = self._now()
        try:
            yield
        finally:
            here.seconds += self._now() - begun
            self._stack.pop()

    def within(self, name: str) -> bool:
        """Tell whether a scope of this name is under way."""
        return any(scope.name == name for scope in self._stack)

    def around(self, owner: Any, method: str, name: str) -> None:
        """Count the calls of a method of an object, or of a function of a module."""
        inner = getattr(owner, method)

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.scope(name):
                return inner(*args, **kwargs)

        self.replace(owner, method, timed)

    def replace(self, owner: Any, method: str, by: Any) -> None:
        """Put something in an attribute's place until `restore`."""
        own = method in vars(owner)
        self._replaced.append((owner, method, getattr(owner, method), own))
        setattr(owner, method, by)

    def restore(self) -> None:
        """Put back all that was put a stopwatch around."""
        for owner, method, inner, own in reversed(self._replaced):
            if own:
                setattr(owner, method, inner)
            else:
                delattr(owner, method)
        self._replaced.clear()

    def read(self, times: int) -> Scope:
        """Return the outermost scope, the seconds divided by `times`."""

        def made(opened: _Open) -> Scope:
            parts = sorted(map(made, opened.parts.values()), key=lambda scope: -scope.seconds)
            return Scope(opened.name, opened.seconds / times, parts)

        (step,) = made(self._root).parts
        return step

    def _now(self) -> float:
        self._device.synchronize()
        return time.perf_counter()
