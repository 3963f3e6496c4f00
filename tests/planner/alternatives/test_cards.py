"""On which sizes of card a run fits."""

from __future__ import annotations

from app import catalog
from app.planner import PlanRequest, estimate
from app.planner.alternatives.cards import SIZES_GB, fitting, least_gb


def test_a_card_fits_as_the_plan_for_it_says() -> None:
    request = PlanRequest(model=catalog.find("qwen3-8b"), method="qlora", rank=16, micro_batch=2, seq_len=2048)
    found = fitting(request)
    assert list(found) == list(SIZES_GB) and set(found.values()) == {True, False}
    for size, fits in found.items():
        assert fits is estimate(request.changed(vram_gb=size)).fits
    # What is free here is no property of a card.
    assert fitting(request.changed(free_bytes=1)) == found


def test_a_larger_model_needs_a_larger_card_and_an_unknown_one_names_none() -> None:
    sizes = [least_gb(catalog.find(name)) for name in ("qwen3-0.6b", "qwen3-14b", "qwen3-32b")]
    assert sizes[0] == 6 and None not in sizes and sizes == sorted(sizes, key=lambda size: size or 0)
    assert sizes[2] is not None and sizes[2] > 6
    assert least_gb(catalog.find("qwen3.5-4b")) is None
