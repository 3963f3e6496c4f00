"""Memory as it is while a model trains: torch's own count on a GPU, the process's resident memory on a processor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import psutil

from app import devices
from app.devices import Device

_SAMPLE_S = 0.002


class MemoryMeter(Protocol):
    """Read memory now and its highest value since a mark, in bytes. `device` is the card's name or "cpu"."""

    device: str

    def now(self) -> int:
        """Return what is in use now."""

    def mark(self) -> None:
        """Begin to look for the highest value."""

    def peak(self) -> int:
        """Return the highest value since the mark."""


class CardMeter:
    """Count live tensors on the card, as torch does."""

    def __init__(self, card: Device) -> None:
        self._card = card
        self.device = card.name

    def now(self) -> int:
        """Return the bytes of live tensors."""
        self._card.synchronize()
        return self._card.allocated_bytes() or 0

    def mark(self) -> None:
        """Begin to look for the highest value."""
        self._card.synchronize()
        self._card.forget_peak()

    def peak(self) -> int:
        """Return the highest value since the mark."""
        self._card.synchronize()
        return self._card.peak_bytes() or 0


class SampledMeter:
    """Look at a size beside the work, where nobody counts its peak: short humps can slip through."""

    def __init__(self, device: str, read: Callable[[], int]) -> None:
        self.device, self._read = device, read
        self._highest = 0
        # A look that began before a mark must not put the peak before it back.
        self._lock = threading.Lock()
        threading.Thread(target=self._sample, name="memory meter", daemon=True).start()

    def now(self) -> int:
        """Return the bytes in use."""
        return self._read()

    def mark(self) -> None:
        """Begin to look for the highest value."""
        with self._lock:
            self._highest = self.now()

    def peak(self) -> int:
        """Return the highest value since the mark."""
        with self._lock:
            self._highest = max(self._highest, self.now())
            return self._highest

    def _sample(self) -> None:
        pause = threading.Event()
        while True:
            self.peak()
            pause.wait(_SAMPLE_S)


class ProcessMeter(SampledMeter):
    """Look at the process's resident memory."""

    def __init__(self) -> None:
        process = psutil.Process()
        super().__init__("cpu", lambda: int(process.memory_info().rss))


def memory_meter() -> MemoryMeter:
    """Return the meter of the device that trains."""
    device = devices.here()
    if device.allocated_bytes() is None:
        return ProcessMeter()
    if device.peak_bytes() is None:
        return SampledMeter(device.name, lambda: device.allocated_bytes() or 0)
    return CardMeter(device)
