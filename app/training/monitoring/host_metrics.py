"""What the machine does while it trains, for the rows of the curve."""

from __future__ import annotations

import math
import time
from pathlib import Path

from app import hardware

# Sensors change slowly, and asking a card's takes about a millisecond.
_EVERY_S = 1.0


class Machine:
    """The readings of the machine under a run, at most one set a second. `folder` names the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_at = -math.inf

    def row(self) -> dict[str, float]:
        """Return load (percent), temperature (degrees Celsius) and power (W) of the card, memory and disk (bytes).

        Only what this machine can read, and nothing within a second of the last readings.
        """
        now = time.monotonic()
        if now - self._read_at < _EVERY_S:
            return {}
        self._read_at = now
        found = hardware.readings(self._folder)
        card = found.gpu
        facts = {
            "gpu_load_percent": card.load_percent if card else None,
            "gpu_temperature_c": card.temperature_c if card else None,
            "gpu_power_w": card.power_w if card else None,
            "ram_free_bytes": found.ram_free_bytes,
            "disk_free_bytes": found.disk_free_bytes,
        }
        return {name: value for name, value in facts.items() if value is not None}
