"""The machine's readings in the rows of the curve."""

from pathlib import Path

import pytest

from app import hardware
from app.hardware import Gpu, Readings, machine
from app.training.monitoring import host_metrics
from app.training.monitoring.host_metrics import Machine


def test_a_machine_without_a_card_says_nothing_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ((), ""))
    row = Machine(tmp_path).row()
    assert set(row) == {"ram_free_bytes", "disk_free_bytes"} and min(row.values()) > 0


def test_sensors_are_asked_once_a_second_and_only_those_that_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Gpu(0, "card", 12, 6, temperature_c=61, load_percent=97, power_w=None)
    read = Readings("cpu", 2, 5.0, 100, 50, 30, (card,), "")
    monkeypatch.setattr(hardware, "readings", lambda folder: read)
    instrument = Machine(tmp_path)
    assert instrument.row() == {
        "gpu_load_percent": 97,
        "gpu_temperature_c": 61,
        "ram_free_bytes": 50,
        "disk_free_bytes": 30,
    }
    assert instrument.row() == {}
    monkeypatch.setattr(host_metrics, "_EVERY_S", 0.0)
    assert instrument.row()
