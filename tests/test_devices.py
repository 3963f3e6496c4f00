"""The device that computes: a stand-in for a card goes through the places that ask; the processor answers too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from app import devices
from app.engine import worker as engine
from app.models.loading import device, resolve_dtype
from app.training.memory.memory_meter import ProcessMeter, memory_meter
from app.training.profile.stopwatch import Stopwatch

GB = 2**30


@dataclass
class FakeCard:
    """A card of 8 GB that notes what it was asked to do."""

    torch_device: torch.device = field(default_factory=lambda: torch.device("meta"))
    name: str = "Stand-in 8"
    collectives: str = "stand-in"
    calls: list[str] = field(default_factory=list)
    state: int = 7

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
        return 3 * GB

    def peak_bytes(self) -> int:
        return 5 * GB

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


def test_a_card_is_known_by_its_torch_device() -> None:
    assert isinstance(devices.of(torch.device("cuda", 1)), devices.Card)
    assert isinstance(devices.of(torch.device("cpu")), devices.Processor)
