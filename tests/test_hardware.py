from pathlib import Path
from typing import Any

import pytest

from app import hardware


class FakeNvml:
    """An NVML that speaks the calls used, with one card; `lost` makes every call after the first look fail."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, sensors: bool = True, lost: bool = False) -> None:
        self.sensors, self.lost = sensors, lost

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self.lost:
            raise self.NVMLError
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "RTX 4070"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return type("Memory", (), {"total": 12 << 30, "free": 9 << 30})()

    def _sensor(self, value: Any) -> Any:
        if not self.sensors:
            raise self.NVMLError
        return value

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return self._sensor(type("Rates", (), {"gpu": 37})())

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return int(self._sensor(98_500))

    def nvmlDeviceGetTemperature(self, handle: int, which: int) -> int:
        return int(self._sensor(41))


def test_this_machine_is_read() -> None:
    machine = hardware.readings()
    assert machine.cpu_count >= 1 and machine.cpu_name
    assert 0 < machine.ram_free_bytes <= machine.ram_total_bytes
    assert machine.disk_free_bytes > 0
    assert machine.gpu is None or machine.gpu.total_bytes > 0
    assert set(machine.as_dict()) >= {"cpu_count", "gpus", "ram_free_bytes"}


def test_a_card_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", FakeNvml())
    gpu = hardware.readings().gpu
    assert gpu is not None
    assert (gpu.name, gpu.used_bytes, gpu.temperature_c, gpu.load_percent, gpu.power_w) == (
        "RTX 4070",
        3 << 30,
        41,
        37,
        98.5,
    )


def test_a_card_without_sensors_is_still_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", FakeNvml(sensors=False))
    gpu = hardware.readings().gpu
    assert gpu is not None and gpu.temperature_c is None and gpu.power_w is None


@pytest.mark.fault("F20")
def test_a_card_that_is_lost_in_mid_look_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", FakeNvml(lost=True))
    assert hardware.readings().gpu is None


@pytest.mark.fault("F20")
def test_a_missing_module_means_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert hardware.readings().gpus == ()


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert hardware.disk_free_bytes(tmp_path / "a" / "b") == hardware.disk_free_bytes(tmp_path)
