"""The bar names the GPU that a run trains on, with as much of its memory as its driver tells."""

from __future__ import annotations

import pytest

from app.hardware import Gpu, Readings
from app.ui.shell import status_bar
from app.ui.shell.language import Translator

GB = 1 << 30


def bar(card: Gpu) -> str:
    machine = Readings("cpu", 2, 0.0, GB, GB, GB, (card,), "")
    return str(status_bar.machine(machine, Translator("en")))


def test_a_gpu_is_named_with_its_memory() -> None:
    text = bar(Gpu(0, "Apple silicon", 16 * GB, 9 * GB, kind="mps"))
    assert "Apple silicon" in text and "7.0 / 16.0 GB" in text and 'aria-valuenow="44"' in text


@pytest.mark.parametrize(("total", "shown"), [(None, "memory not known"), (16 * GB, "16.0 GB")])
def test_memory_that_is_not_told_has_no_meter(total: int | None, shown: str) -> None:
    text = bar(Gpu(0, "RTX 4070", total, None))
    assert shown in text and "wb-meter" not in text and " / " not in text
