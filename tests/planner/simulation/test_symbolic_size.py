import pytest

from app import catalog
from app.planner import PlanRequest, largest
from app.planner.alternatives.solve import CEILINGS, STEPS
from app.planner.estimate import estimate
from app.planner.simulation.layer_cost import _key, _simulate_layer, dims_of, layer_cost, precision_of
from app.planner.simulation.symbolic_size import SYMBOLIC, Dims, NotPolynomialError, SymbolicMeter, coefficients

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
    if settings.get("dora") and name == "qwen3-30b-a3b":
        settings = {**settings, "targets": ("q_proj", "o_proj")}  # PEFT has no DoRA for experts
    for seq_len, rank in ((65, 3), (1536, 8), (1537, 64), (9000, 256)):
        request = PlanRequest(model=catalog.find(name), seq_len=seq_len, rank=rank, **settings)  # type: ignore[arg-type]
        stream, dims = precision_of(request).stream, dims_of(request)
        recompute = request.recompute == "full"
        closed = _simulate_layer(_key(request, 0, recompute, stream, dims), dims).at(dims)
        assert layer_cost(request, 0, recompute=recompute, stream=stream) == closed


def test_a_size_is_read_back_as_its_coefficients() -> None:
    size = (
        7
        + 5 * SYMBOLIC.tokens
        + 3 * SYMBOLIC.tokens * SYMBOLIC.length
        + 2 * SYMBOLIC.rank
        + 11 * SYMBOLIC.tokens * SYMBOLIC.rank
    )
    assert coefficients(size) == (7, 5, 3, 2, 11, 0)
    assert Dims(100, 50, 8).value(coefficients(size)) == 7 + 500 + 15_000 + 16 + 8800
    assert Dims(100, 50, 8, 1).value(coefficients(size + 13 * SYMBOLIC.unpacks)) == 24_323 + 13
    assert Dims(100, 50, 8, 0).value(coefficients(size + 13 * SYMBOLIC.unpacks)) == 24_323


def test_a_division_with_a_remainder_is_noticed() -> None:
    with pytest.raises(NotPolynomialError):
        coefficients(5 * SYMBOLIC.tokens // 3)


def test_the_meter_keeps_every_moment_that_can_be_the_highest() -> None:
    meter = SymbolicMeter()
    for sizes in ((10 * SYMBOLIC.tokens, 5), (3, 1000), (SYMBOLIC.tokens, 4)):
        for size in sizes:
            meter.add(size, 0)
        for size in sizes:
            meter.drop(size, 0)
    peak_candidates = meter.peak_candidates()
    assert len(peak_candidates.totals) == 2
    assert peak_candidates.highest(Dims(1, 1, 1))[0] == 1003
    assert peak_candidates.highest(Dims(1000, 1, 1))[0] == 10_005


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
