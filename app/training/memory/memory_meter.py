"""Memory as it is while a model trains: torch's own count on a card, the process's resident memory on a processor."""

from __future__ import annotations

import threading
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


class ProcessMeter:
    """Look at the process's resident memory, sampled beside the work: short humps can slip through."""

    def __init__(self) -> None:
        self.device = "cpu"
        self._process = psutil.Process()
        self._highest = 0
        threading.Thread(target=self._sample, name="memory meter", daemon=True).start()

    def now(self) -> int:
        """Return the resident bytes."""
        return int(self._process.memory_info().rss)

    def mark(self) -> None:
        """Begin to look for the highest value."""
        self._highest = self.now()

    def peak(self) -> int:
        """Return the highest value since the mark."""
        return max(self._highest, self.now())

    def _sample(self) -> None:
        pause = threading.Event()
        while True:
            self._highest = max(self._highest, self.now())
            pause.wait(_SAMPLE_S)


def memory_meter() -> MemoryMeter:
    """Return the meter of the device that trains."""
    device = devices.here()
    return ProcessMeter() if device.allocated_bytes() is None else CardMeter(device)
