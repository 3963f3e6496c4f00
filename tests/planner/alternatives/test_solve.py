import pytest

from app import catalog
from app.planner import PlanRequest, estimate, largest, plan
from app.planner.alternatives.solve import CEILINGS, STEPS


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
