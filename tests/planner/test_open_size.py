import pytest

from app import catalog
from app.planner import PlanRequest, largest
from app.planner.estimate import estimate
from app.planner.open_size import OPEN, At, CrestMeter, NotOpenError, coefficients
from app.planner.solve import CEILINGS, STEPS
from app.planner.walk import _key, _walk, at_of, layer_cost, precision_of

SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"attn": "eager", "micro_batch": 3},
    {"method": "lora", "checkpointing": "none"},
    {"method": "full", "gradient_accumulation": 2},
    {"dora": True, "lora_dropout": 0.1, "packed": True, "micro_batch": 2},
    {"profile": "peft-classic", "checkpointing": "none"},
)
MODELS = (
    "llama-3.1-8b",
    "gemma-3-1b",
    "bloom-560m",
    "falcon-7b",
    "gpt2",
    "phi-3-mini",
    "qwen3-30b-a3b",
    "gpt-oss-20b",
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_an_open_walk_answers_as_a_walk_with_the_numbers_does(name: str, settings: dict[str, object]) -> None:
    for seq_len, rank in ((65, 3), (1536, 8), (1537, 64), (9000, 256)):
        request = PlanRequest(model=catalog.find(name), seq_len=seq_len, rank=rank, **settings)  # type: ignore[arg-type]
        stream, at = precision_of(request).stream, at_of(request)
        recompute = request.recompute == "full"
        closed = _walk(_key(request, 0, recompute, stream, at), at).at(at)
        assert layer_cost(request, 0, recompute=recompute, stream=stream) == closed


def test_a_size_is_read_back_as_its_coefficients() -> None:
    size = 7 + 5 * OPEN.tokens + 3 * OPEN.tokens * OPEN.length + 2 * OPEN.rank + 11 * OPEN.tokens * OPEN.rank
    assert coefficients(size) == (7, 5, 3, 2, 11, 0)
    assert At(100, 50, 8).value(coefficients(size)) == 7 + 500 + 15_000 + 16 + 8800
    assert At(100, 50, 8, 1).value(coefficients(size + 13 * OPEN.unpacks)) == 24_323 + 13
    assert At(100, 50, 8, 0).value(coefficients(size + 13 * OPEN.unpacks)) == 24_323


def test_a_division_with_a_remainder_is_noticed() -> None:
    with pytest.raises(NotOpenError):
        coefficients(5 * OPEN.tokens // 3)


def test_the_meter_keeps_every_moment_that_can_be_the_highest() -> None:
    meter = CrestMeter()
    for sizes in ((10 * OPEN.tokens, 5), (3, 1000), (OPEN.tokens, 4)):
        for size in sizes:
            meter.add(size, 0)
        for size in sizes:
            meter.drop(size, 0)
    crests = meter.crests()
    assert len(crests.totals) == 2
    assert crests.highest(At(1, 1, 1))[0] == 1003
    assert crests.highest(At(1000, 1, 1))[0] == 10_005


def brute(request: PlanRequest, field: str) -> int | None:
    """Bisect without any guess."""
    step, ceiling = STEPS[field], CEILINGS[field]
    if field == "seq_len" and request.model.max_positions:
        ceiling = min(ceiling, max(step, request.model.max_positions))
    low, high = 0, ceiling // step + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = estimate(request.changed(**{field: middle * step})).fits
        low, high = (middle, high) if fits else (low, middle)
    return low * step if low else None


@pytest.mark.parametrize("name", ["qwen3-8b", "smollm2-360m", "mistral-7b-v0.3", "deepseek-v2-lite"])
@pytest.mark.parametrize("vram_gb", [8, 24])
@pytest.mark.parametrize("settings", SETTINGS[:4])
def test_the_inverse_equals_a_plain_bisection(name: str, vram_gb: float, settings: dict[str, object]) -> None:
    request = PlanRequest(model=catalog.find(name), vram_gb=vram_gb, **settings)  # type: ignore[arg-type]
    for field in STEPS:
        if field == "rank" and not request.has_adapter:
            continue
        assert largest(request, field) == brute(request, field), field
