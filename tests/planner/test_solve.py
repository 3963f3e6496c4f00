import pytest

from app import catalog
from app.planner import PlanRequest, estimate, largest, plan, suggestions
from app.planner.solve import CEILINGS, STEPS


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2.5-0.5b", "gpt2-medium", "bloom-560m"])
@pytest.mark.parametrize("vram_gb", [6, 12, 24])
@pytest.mark.parametrize("settings", [{}, {"attn": "eager"}, {"method": "lora"}, {"checkpointing": "none"}])
def test_the_largest_fits_and_the_next_does_not(name: str, vram_gb: float, settings: dict[str, str]) -> None:
    request = PlanRequest(model=catalog.find(name), vram_gb=vram_gb, **settings)  # type: ignore[arg-type]
    answer = plan(request)
    assert answer.largest is not None
    for field, best in answer.largest.items():
        step = STEPS[field]
        ceiling = CEILINGS[field]
        if field == "seq_len":
            ceiling = min(ceiling, request.model.max_positions)
        if best is None:
            assert not estimate(request.changed(**{field: step})).fits
            continue
        assert best % step == 0
        assert estimate(request.changed(**{field: best})).fits
        assert best + step > ceiling or not estimate(request.changed(**{field: best + step})).fits


def test_a_full_run_has_no_largest_rank() -> None:
    request = PlanRequest(model=catalog.find("qwen2.5-0.5b"), method="full", vram_gb=24)
    assert largest(request, "rank") is None


def test_without_a_card_nothing_is_solved() -> None:
    assert plan(PlanRequest(model=catalog.find("gpt2"))).largest is None


def test_what_fits_needs_no_suggestion() -> None:
    assert suggestions(PlanRequest(model=catalog.find("gpt2"), vram_gb=24)) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama-3.1-8b", {"vram_gb": 8, "seq_len": 4096, "micro_batch": 2}),
        ("llama-3.1-8b", {"vram_gb": 16, "method": "lora"}),
        ("qwen2.5-3b", {"vram_gb": 12, "method": "full"}),
        ("qwen3-4b", {"vram_gb": 6, "checkpointing": "none", "attn": "eager"}),
    ],
)
def test_suggestions_fit_and_are_the_smallest_sets(name: str, settings: dict[str, object]) -> None:
    request = PlanRequest(model=catalog.find(name), **settings)  # type: ignore[arg-type]
    found = suggestions(request)
    assert found
    now = estimate(request).device_peak
    for suggestion in found:
        changed = estimate(request.changed(**suggestion.changes))
        assert changed.fits and suggestion.fits
        assert suggestion.saves_bytes == now - changed.device_peak > 0
        assert suggestion.text[0].isupper()
    fields = [set(suggestion.changes) for suggestion in found]
    assert not any(one < other for one in fields for other in fields)


def test_an_impossible_wish_gets_one_honest_answer() -> None:
    request = PlanRequest(model=catalog.find("llama-3.3-70b"), vram_gb=8)
    (only,) = suggestions(request)
    assert only.fits is False
    assert only.saves_bytes > 0
