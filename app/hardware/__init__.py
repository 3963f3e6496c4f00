"""What this machine has and what is free right now. Never raises: a reading that fails is simply absent."""

from app.files import disk_free_bytes
from app.hardware.gpus import Gpu, torch_build
from app.hardware.machine import GB, Readings, cpu_name, has_bf16_instructions, readings, usable_cpus

__all__ = [
    "GB",
    "Gpu",
    "Readings",
    "cpu_name",
    "disk_free_bytes",
    "has_bf16_instructions",
    "readings",
    "torch_build",
    "usable_cpus",
]
