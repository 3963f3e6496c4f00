"""One GPU as the system tells of it, and whether the installed PyTorch computes on it. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

from app.config.accelerators import Kind

# What the local version of a PyTorch build begins with. A build without CUDA beside an NVIDIA card is told by `doctor`;
# each build for macOS has Metal.
_BUILDS: dict[Kind, str] = {"rocm": "rocm", "xpu": "xpu"}


@dataclass(frozen=True)
class Gpu:
    """One card, or the GPU of Apple silicon, of which the memory is the machine's.

    Sizes in bytes, None where the system does not tell; temperature in degrees Celsius, load in percent, power in
    watts, or None. `index` counts the cards of a kind.
    """

    index: int
    name: str
    total_bytes: int | None
    free_bytes: int | None
    temperature_c: int | None = None
    load_percent: int | None = None
    power_w: float | None = None
    kind: Kind = "cuda"

    @property
    def used_bytes(self) -> int | None:
        """Return the bytes in use by everybody, None where they are not told."""
        if self.total_bytes is None or self.free_bytes is None:
            return None
        return self.total_bytes - self.free_bytes

    @property
    def computes(self) -> bool:
        """Tell whether the installed PyTorch is a build for such a GPU."""
        build = _BUILDS.get(self.kind)
        return build is None or torch_build().startswith(build)


@lru_cache(maxsize=1)
def torch_build() -> str:
    """Return the local version of the installed PyTorch, such as `cpu` or `rocm7.2`; empty where it has none."""
    try:
        return metadata.version("torch").partition("+")[2]
    except metadata.PackageNotFoundError:
        return ""
