"""What torch knows of the device that computes: the one module that asks `torch.cuda`, `torch.xpu` and `torch.mps`.

Cards of NVIDIA and AMD (in a ROCm build) are `torch.cuda`'s, Intel's `torch.xpu`'s, the GPU of Apple silicon is
`torch.mps`'s. Stand-ins hold the calls to torch's own names; on a GPU other than NVIDIA's none was ever made.

Children ask `here()` and never a backend by name. What can be known without torch (names, drivers, free memory for the
page) is in app/hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import ClassVar, Protocol

import torch


class Device(Protocol):
    """A processor or a card. Sizes are in bytes; None where torch keeps no count, as on a processor."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors go."""

    @property
    def name(self) -> str:
        """As its driver calls it; "cpu" for a processor."""

    @property
    def collectives(self) -> str:
        """The backend of torch.distributed that its processes talk through."""

    @property
    def pins_memory(self) -> bool:
        """Whether rows reach it faster out of page-locked memory."""

    def auto_dtype(self) -> torch.dtype:
        """Return the number format that `auto` computes in."""

    def take(self, index: int) -> None:
        """Make one of several such devices this process's own."""

    def synchronize(self) -> None:
        """Wait until all that was handed to it is computed."""

    def empty_cache(self) -> None:
        """Give back memory that no tensor holds."""

    def free_bytes(self) -> int | None:
        """Return what is free on it, whoever holds the rest."""

    def allocated_bytes(self) -> int | None:
        """Return what live tensors of this process hold."""

    def peak_bytes(self) -> int | None:
        """Return the most that live tensors held since `forget_peak`."""

    def forget_peak(self) -> None:
        """Count the peak from now on."""

    def random_states(self) -> Sequence[torch.Tensor]:
        """Return the states of its own generators, none for a processor: torch's is everybody's."""

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        """Put its generators where `random_states` found them."""


@dataclass(frozen=True)
class Processor:
    """The CPU: nothing to wait for, no count of its memory."""

    torch_device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    name: str = "cpu"
    collectives: str = "gloo"
    pins_memory: bool = False

    def auto_dtype(self) -> torch.dtype:
        """Return fp32; whether a run takes bf16 is measured in app/training/number_format.py."""
        return torch.float32

    def take(self, index: int) -> None:
        """Share the one processor."""

    def synchronize(self) -> None:
        """Return at once: what was asked is computed."""

    def empty_cache(self) -> None:
        """Keep what is there: the allocator gives back by itself."""

    def free_bytes(self) -> None:
        """Return None."""

    def allocated_bytes(self) -> None:
        """Return None."""

    def peak_bytes(self) -> None:
        """Return None."""

    def forget_peak(self) -> None:
        """Do nothing."""

    def random_states(self) -> Sequence[torch.Tensor]:
        """Return none."""
        return ()

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Card:
    """A card that torch reaches through `torch.cuda`: NVIDIA's, and AMD's in a ROCm build."""

    torch_device: torch.device
    collectives: str = "nccl"
    pins_memory: bool = True
    # Where torch keeps the functions of this kind of card.
    _asked: ClassVar[ModuleType] = torch.cuda

    @property
    def name(self) -> str:
        """As the driver calls it; AMD's drivers leave out the maker at times."""
        name = str(self._asked.get_device_name(self.torch_device))
        return f"AMD {name}" if torch.version.hip and not name.startswith("AMD") else name

    def auto_dtype(self) -> torch.dtype:
        """Return bf16 where the card has it in hardware, else fp16."""
        return torch.bfloat16 if self._asked.is_bf16_supported(including_emulation=False) else torch.float16

    def take(self, index: int) -> None:
        """Make card `index` this process's own."""
        self._asked.set_device(index)

    def synchronize(self) -> None:
        """Wait until all that was handed to it is computed."""
        self._asked.synchronize(self.torch_device)

    def empty_cache(self) -> None:
        """Give back memory that no tensor holds."""
        self._asked.empty_cache()

    def free_bytes(self) -> int:
        """Return what is free on it, whoever holds the rest."""
        return int(self._asked.mem_get_info(self.torch_device)[0])

    def allocated_bytes(self) -> int:
        """Return what live tensors of this process hold."""
        return int(self._asked.memory_allocated(self.torch_device))

    def peak_bytes(self) -> int:
        """Return the most that live tensors held since `forget_peak`."""
        return int(self._asked.max_memory_allocated(self.torch_device))

    def forget_peak(self) -> None:
        """Count the peak from now on."""
        self._asked.reset_peak_memory_stats(self.torch_device)

    def random_states(self) -> Sequence[torch.Tensor]:
        """Return the state of every card's generator."""
        return list(self._asked.get_rng_state_all())

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        """Put every card's generator where `random_states` found it."""
        self._asked.set_rng_state_all(states)


@dataclass(frozen=True)
class IntelCard(Card):
    """A card of Intel: `torch.xpu` has the functions of `torch.cuda` under the same names."""

    collectives: str = "xccl"
    _asked: ClassVar[ModuleType] = torch.xpu


@dataclass(frozen=True)
class AppleGpu:
    """The GPU of Apple silicon, reached through Metal. There is one, and torch counts no peak on it."""

    torch_device: torch.device = field(default_factory=lambda: torch.device("mps"))
    name: str = "Apple silicon"
    collectives: str = "gloo"
    pins_memory: bool = False

    def auto_dtype(self) -> torch.dtype:
        """Return bf16 where Metal has it, from macOS 14 on, else fp16."""
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16

    def take(self, index: int) -> None:
        """Share the one GPU."""

    def synchronize(self) -> None:
        """Wait until all that was handed to it is computed."""
        torch.mps.synchronize()

    def empty_cache(self) -> None:
        """Give back memory that no tensor holds."""
        torch.mps.empty_cache()

    def free_bytes(self) -> int:
        """Return what Metal recommends to take at most, less what this process holds."""
        return max(0, int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory()))

    def allocated_bytes(self) -> int:
        """Return what live tensors of this process hold."""
        return int(torch.mps.current_allocated_memory())

    def peak_bytes(self) -> None:
        """Return None: who wants a peak has to look at `allocated_bytes` meanwhile."""

    def forget_peak(self) -> None:
        """Do nothing."""

    def random_states(self) -> Sequence[torch.Tensor]:
        """Return the state of its generator."""
        return [torch.mps.get_rng_state()]

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        """Put its generator where `random_states` found it."""
        torch.mps.set_rng_state(states[0])


def here() -> Device:
    """Return the device that this process computes on: its card or Apple's GPU if there is one, else the processor."""
    if torch.cuda.is_available():
        return Card(torch.device("cuda", torch.cuda.current_device()))
    if torch.xpu.is_available():
        return IntelCard(torch.device("xpu", torch.xpu.current_device()))
    if torch.backends.mps.is_available():
        return AppleGpu()
    return Processor()


def of(device: torch.device) -> Device:
    """Return the device behind a torch device."""
    if device.type == "mps":
        return AppleGpu(device)
    card = {"cuda": Card, "xpu": IntelCard}.get(device.type)
    return Processor(device) if card is None else card(device)


def shared_by(backend: str) -> torch.device:
    """Return where tensors lie that processes share through a backend of torch.distributed."""
    return torch.device("cpu") if backend == Processor.collectives else here().torch_device


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Afterwards put all random numbers, the processor's and the device's, back to where they were."""
    device = here()
    shared, own = torch.get_rng_state(), device.random_states()
    try:
        yield
    finally:
        torch.set_rng_state(shared)
        device.restore_random_states(own)
