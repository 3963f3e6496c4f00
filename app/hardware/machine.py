"""One look at the machine: processor, memory, disk and GPUs."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from app.files import disk_free_bytes
from app.hardware.apple import apple_gpus
from app.hardware.gpus import Gpu
from app.hardware.linux import linux_gpus
from app.hardware.nvidia import nvidia_gpus

# Cards and tools count memory in units of 1024 and write GB; so does everything that a person reads here.
GB = 1024**3
# By their names in Linux, of x86 and of Arm.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Readings:
    """One look at the machine. Sizes in bytes; `driver` is NVIDIA's."""

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
        """Return what a run trains on: the first GPU that the installed PyTorch computes on, or None."""
        return next((gpu for gpu in self.gpus if gpu.computes), None)

    @property
    def alike(self) -> tuple[Gpu, ...]:
        """Return the GPUs of the kind that a run trains on; its processes may share these."""
        own = self.gpu
        return () if own is None else tuple(gpu for gpu in self.gpus if gpu.kind == own.kind)

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def readings(folder: Path | None = None) -> Readings:
    """Read processor, memory, disk (of `folder`, else the working folder) and GPUs, NVIDIA's first."""
    memory = psutil.virtual_memory()
    nvidia, driver = nvidia_gpus()
    return Readings(
        cpu_name=cpu_name(),
        cpu_count=usable_cpus(),
        cpu_percent=psutil.cpu_percent(),
        ram_total_bytes=memory.total,
        ram_free_bytes=memory.available,
        disk_free_bytes=disk_free_bytes(folder or Path.cwd()),
        gpus=(*nvidia, *linux_gpus(), *apple_gpus(memory.total, memory.available)),
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
