"""What this machine has and what is free right now. Never raises: a reading that fails is simply absent."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from app.files import disk_free_bytes

# Cards and tools count memory in units of 1024 and write GB; so does everything that a person reads here.
GB = 1024**3
# By their names in Linux, of x86 and of Arm.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card. Sizes in bytes; temperature in degrees Celsius, load in percent, power in watts, or None."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    temperature_c: int | None = None
    load_percent: int | None = None
    power_w: float | None = None

    @property
    def used_bytes(self) -> int:
        """Return the bytes in use by everybody."""
        return self.total_bytes - self.free_bytes


@dataclass(frozen=True)
class Readings:
    """One look at the machine. Sizes in bytes."""

    cpu_name: str
    cpu_count: int
    cpu_percent: float
    ram_total_bytes: int
    ram_free_bytes: int
    disk_free_bytes: int
    gpus: tuple[Gpu, ...]
    driver: str

    @property
    def gpu(self) -> Gpu | None:
        """Return the first card, or None."""
        return self.gpus[0] if self.gpus else None

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def readings(folder: Path | None = None) -> Readings:
    """Read processor, memory, disk (of `folder`, else the working folder) and cards."""
    memory = psutil.virtual_memory()
    gpus, driver = _nvidia()
    return Readings(
        cpu_name=cpu_name(),
        cpu_count=usable_cpus(),
        cpu_percent=psutil.cpu_percent(),
        ram_total_bytes=memory.total,
        ram_free_bytes=memory.available,
        disk_free_bytes=disk_free_bytes(folder or Path.cwd()),
        gpus=gpus,
        driver=driver,
    )


def usable_cpus() -> int:
    """Return the processors this process may use; in a container that can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def has_bf16_instructions() -> bool:
    """Tell whether the processor multiplies bf16 by instructions of its own, as far as the system says so (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return bool(_BF16_FLAGS & set(flags))


def _nvidia() -> tuple[tuple[Gpu, ...], str]:
    """Return the NVIDIA cards and the driver's version; none without a driver."""
    try:
        import pynvml  # imported late: without a driver it is of no use

        pynvml.nvmlInit()
    except Exception:  # the module may be missing, or fail in the loader; every way means "no card here"
        return (), ""
    try:
        count = pynvml.nvmlDeviceGetCount()
        cards = tuple(card for card in (_card(pynvml, index) for index in range(count)) if card is not None)
        return cards, _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return (), ""


def _card(pynvml: Any, index: int) -> Gpu | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = _text(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return None

    def reading(function: Any, *arguments: Any) -> Any:
        try:
            return function(handle, *arguments)
        except pynvml.NVMLError:  # laptops and virtual cards lack some sensors
            return None

    rates = reading(pynvml.nvmlDeviceGetUtilizationRates)
    power_mw = reading(pynvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        index=index,
        name=name,
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        temperature_c=reading(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        load_percent=None if rates is None else int(rates.gpu),
        power_w=None if power_mw is None else power_mw / 1000,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
