"""The device that computes: a stand-in for a card goes through the places that ask; the processor answers too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch

from app import devices
from app.config.schema import RunConfig
from app.engine import worker as engine
from app.models.loading import device, resolve_dtype
from app.training.memory.memory_meter import CardMeter, ProcessMeter, SampledMeter, memory_meter
from app.training.profile.stopwatch import Stopwatch

GB = 2**30


@dataclass
class FakeCard:
    """A card of 8 GB that notes what it was asked to do."""

    torch_device: torch.device = field(default_factory=lambda: torch.device("meta"))
    name: str = "Stand-in 8"
    collectives: str = "stand-in"
    pins_memory: bool = True
    calls: list[str] = field(default_factory=list)
    state: int = 7
    allocated: int = 3 * GB
    peak: int | None = 5 * GB

    def auto_dtype(self) -> torch.dtype:
        return torch.float16

    def take(self, index: int) -> None:
        self.calls.append(f"take {index}")

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def empty_cache(self) -> None:
        self.calls.append("empty")

    def free_bytes(self) -> int:
        return 8 * GB

    def allocated_bytes(self) -> int:
        return self.allocated

    def peak_bytes(self) -> int | None:
        return self.peak

    def forget_peak(self) -> None:
        self.calls.append("forget")

    def random_states(self) -> Sequence[torch.Tensor]:
        return [torch.tensor(self.state)]

    def restore_random_states(self, states: Sequence[torch.Tensor]) -> None:
        self.state = int(states[0])


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    fake = FakeCard()
    monkeypatch.setattr(devices, "here", lambda: fake)
    return fake


def test_models_go_where_the_device_says_in_its_own_format(card: FakeCard) -> None:
    assert (device(), resolve_dtype("auto")) == (torch.device("meta"), torch.float16)
    assert resolve_dtype("fp32") == torch.float32


def test_memory_is_the_cards_own_count_after_waiting_for_it(card: FakeCard) -> None:
    meter = memory_meter()
    assert (meter.device, meter.now(), meter.peak()) == ("Stand-in 8", 3 * GB, 5 * GB)
    assert card.calls == ["synchronize", "synchronize"]
    meter.mark()
    assert card.calls[2:] == ["synchronize", "forget"]


def test_a_peak_that_torch_does_not_count_is_looked_for(card: FakeCard) -> None:
    card.peak = None
    meter = memory_meter()
    assert type(meter) is SampledMeter and meter.device == "Stand-in 8"
    meter.mark()
    card.allocated = 6 * GB
    assert meter.now() == meter.peak() == 6 * GB
    card.allocated = 2 * GB
    assert (meter.now(), meter.peak()) == (2 * GB, 6 * GB)
    meter.mark()
    assert meter.peak() == 2 * GB


def test_the_playground_keeps_a_share_of_the_cards_free_memory(card: FakeCard) -> None:
    assert 0 < engine._cache_bytes() < 8 * GB
    whole = engine._cache_bytes() / engine._CACHE_SHARE_CARD
    assert whole == pytest.approx(8 * GB)


def test_a_stopwatch_waits_for_the_device_at_each_border(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "of", lambda _: card)
    watch = Stopwatch(torch.device("meta"))
    watch._now()
    assert card.calls == ["synchronize"]


def test_random_numbers_come_back_even_after_an_error(card: FakeCard) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with pytest.raises(ValueError, match="within"), devices.random_numbers_kept():
        torch.rand(9)
        card.state = 8
        raise ValueError("within")
    assert torch.equal(torch.rand(4), expected) and card.state == 7


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card answers here")
def test_without_a_card_the_processor_answers() -> None:
    here = devices.here()
    assert (here.torch_device, here.name, here.collectives) == (torch.device("cpu"), "cpu", "gloo")
    assert here.auto_dtype() == torch.float32
    assert here.free_bytes() is here.allocated_bytes() is here.peak_bytes() is None
    assert isinstance(memory_meter(), ProcessMeter)


def test_a_device_is_known_by_its_torch_device() -> None:
    kinds = {"cuda": devices.Card, "xpu": devices.IntelCard, "mps": devices.AppleGpu, "cpu": devices.Processor}
    for name, kind in kinds.items():
        found = devices.of(torch.device(name))
        assert type(found) is kind and found.torch_device.type == name


def answer(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **answers: object) -> list[str]:
    """Let torch's own functions answer as on a machine with such a device; each has to exist. Return who was asked."""
    asked: list[str] = []

    def stand_in(name: str, value: object) -> Callable[..., object]:
        def ask(*arguments: object, **named: object) -> object:
            asked.append(name)
            return value

        return ask

    for name, value in answers.items():
        monkeypatch.setattr(module, name, stand_in(name, value))
    return asked


_STATE = [torch.tensor(1)]
_OF_CARDS = {
    "is_available": True,
    "current_device": 0,
    "mem_get_info": (6 * GB, 16 * GB),
    "memory_allocated": 3 * GB,
    "max_memory_allocated": 5 * GB,
    "get_rng_state_all": _STATE,
    **dict.fromkeys(("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "set_rng_state_all")),
}


@pytest.mark.parametrize(
    ("module", "kind", "collectives"), [(torch.cuda, devices.Card, "nccl"), (torch.xpu, devices.IntelCard, "xccl")]
)
@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_card_asks_its_own_module_of_torch(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    kind: type[devices.Card],
    collectives: str,
    has_bf16: bool,
    dtype: torch.dtype,
) -> None:
    asked = answer(monkeypatch, module, **_OF_CARDS, get_device_name="Card 16", is_bf16_supported=has_bf16)
    here = devices.here()
    assert type(here) is kind and here.torch_device.type == module.__name__.rpartition(".")[2]
    assert (here.name, here.collectives, here.pins_memory) == ("Card 16", collectives, True)
    assert here.auto_dtype() == dtype
    assert (here.free_bytes(), here.allocated_bytes(), here.peak_bytes()) == (6 * GB, 3 * GB, 5 * GB)
    assert isinstance(memory_meter(), CardMeter)
    here.take(1)
    here.synchronize()
    here.empty_cache()
    here.forget_peak()
    here.restore_random_states(here.random_states())
    assert set(asked) == {*_OF_CARDS, "get_device_name", "is_bf16_supported"}


@pytest.mark.parametrize("name", ["Radeon RX 7900 XTX", "AMD Radeon RX 7900 XTX"])
def test_a_build_for_rocm_has_a_card_of_amd(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    answer(monkeypatch, torch.cuda, is_available=True, current_device=0, get_device_name=name)
    monkeypatch.setattr(torch.version, "hip", "7.2.0")
    here = devices.here()
    assert type(here) is devices.Card and here.name == "AMD Radeon RX 7900 XTX" and here.collectives == "nccl"


@pytest.mark.parametrize(("macos_14", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_apples_gpu_asks_metal(monkeypatch: pytest.MonkeyPatch, macos_14: bool, dtype: torch.dtype) -> None:
    answer(monkeypatch, torch.backends.mps, is_available=True, is_macos_or_newer=macos_14)
    asked = answer(
        monkeypatch,
        torch.mps,
        recommended_max_memory=12 * GB,
        driver_allocated_memory=4 * GB,
        current_allocated_memory=3 * GB,
        get_rng_state=_STATE[0],
        **dict.fromkeys(("synchronize", "empty_cache", "set_rng_state")),
    )
    here = devices.here()
    assert (here.torch_device, here.name, here.collectives) == (torch.device("mps"), "Apple silicon", "gloo")
    assert here.auto_dtype() == dtype and not here.pins_memory
    assert (here.free_bytes(), here.allocated_bytes(), here.peak_bytes()) == (8 * GB, 3 * GB, None)
    here.take(0)
    here.synchronize()
    here.empty_cache()
    here.forget_peak()
    here.restore_random_states(here.random_states())
    assert {"synchronize", "empty_cache", "get_rng_state", "set_rng_state"} <= set(asked)


def test_tensors_lie_where_the_backend_takes_them(card: FakeCard) -> None:
    assert devices.shared_by("gloo") == torch.device("cpu")
    assert devices.shared_by("nccl") == devices.shared_by("xccl") == card.torch_device


def test_rows_are_pinned_only_where_the_device_has_use_for_it() -> None:
    from app.training.trainers.settings import trl_settings

    of_apple = trl_settings(RunConfig(), dtype="bf16", on_card=True, pinned=False, validate=False)
    assert (of_apple["use_cpu"], of_apple["dataloader_pin_memory"]) == (False, False)
