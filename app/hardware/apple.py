"""The GPU of Apple silicon: it shares the machine's memory, so what is free there is free for it."""

from __future__ import annotations

import platform

from app.hardware.gpus import Gpu


def apple_gpus(
    total_bytes: int, free_bytes: int, system: str | None = None, processor: str | None = None
) -> tuple[Gpu, ...]:
    """Return the GPU of a Mac with Apple silicon, none elsewhere. Sizes are those of the machine's memory.

    `system` and `processor` are this machine's where they are None.
    """
    if (system or platform.system(), processor or platform.machine()) != ("Darwin", "arm64"):
        return ()
    return (Gpu(0, "Apple silicon", total_bytes, free_bytes, kind="mps"),)
