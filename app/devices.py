"""What torch knows of the device that computes: the one module that asks `torch.cuda`.

Children ask `here()` and never a backend by name. What can be known without torch (names, drivers, free memory for the
page) is in app/hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

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

    @property
    def name(self) -> str:
        """As the driver calls it."""
        return str(torch.cuda.get_device_name(self.torch_device))

    def auto_dtype(self) -> torch.dtype:
        """Return bf16 where the card has it in hardware, else fp16."""
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def take(self, index: int) -> None:
        """Make card `index` this process's own."""
        torch.cuda.set_device(index)

    def synchronize(self) -> None:
        """Wait until all that was handed to it is computed."""
        torch.cuda.synchronize(self.torch_device)

    def empty_cache(self) -> None:
        """Give back memory that no tensor holds."""
        torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        """Return what is free on it, whoever holds the rest."""
        return int(torch.cuda.mem_get_info(self.torch_device)[0])

    def allocated_bytes(self) -> int:
        """Return what live tensors of this process hold."""
        return int(torch.cuda.memory_allocated(self.torch_device))

    def peak_bytes(self) -> int:
        """Return the most that live tensors held since `forget_peak`."""
        return int(torch.cuda.max_memory_allocated(self.torch_device))

    def forget_peak(self) -> None:
        """Count the peak from now on."""
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def random_states(self) -> Sequence[torch.Tensor]:
        """Return the state of every card's generator."""
        return list(torch.cuda.get_rng_state_all())

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        """Put every card's generator where `random_states` found it."""
        torch.cuda.set_rng_state_all(states)


def here() -> Device:
    """Return the device that this process computes on: its card if there is one, else the processor."""
    if torch.cuda.is_available():
        return Card(torch.device("cuda", torch.cuda.current_device()))
    return Processor()


def of(device: torch.device) -> Device:
    """Return the device behind a torch device."""
    return Card(device) if device.type == "cuda" else Processor(device)


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
