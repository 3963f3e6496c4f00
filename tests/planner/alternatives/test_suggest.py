from itertools import product

import pytest

from app import catalog
from app.errors import PlanError
from app.planner import PlanRequest, estimate, suggestions
from app.planner.alternatives.remedies import Remedy, remedies, words
from app.planner.parts.weights import weights_at_rest


def request(name: str, **settings: object) -> PlanRequest:
    return PlanRequest(model=catalog.find(name), **settings)  # type: ignore[arg-type]


def reachable_fit(wanted: PlanRequest) -> bool:
    """Try every combination of the remedies, at every value that they know."""
    groups: dict[str, list[Remedy | None]] = {}
    for remedy in remedies(wanted):
        groups.setdefault(remedy.group, [None]).append(remedy)
    ordered = sorted(groups.items(), key=lambda item: item[0] != "method")
    for choice in product(*(group for _, group in ordered)):
        changes: dict[str, object] = {}
        for remedy in choice:
            changes.update(remedy.changes if remedy is not None else {})
        try:
            if estimate(wanted.changed(**changes)).fits:
                return True
        except PlanError:
            continue
    return False


def test_what_fits_needs_no_suggestion() -> None:
    assert suggestions(request("gpt2", vram_gb=24)) == []


CASES: tuple[tuple[str, dict[str, object]], ...] = (
    ("llama-3.1-8b", {"vram_gb": 8, "seq_len": 4096, "micro_batch": 2}),
    ("llama-3.1-8b", {"vram_gb": 16, "method": "lora"}),
    ("qwen2.5-3b", {"vram_gb": 12, "method": "full"}),
    ("qwen2.5-7b", {"vram_gb": 8, "method": "full"}),
    ("qwen3-4b", {"vram_gb": 6, "checkpointing": "none", "attn": "eager"}),
    ("qwen3-8b", {"vram_gb": 8, "method": "inference", "columns": 8, "seq_len": 8192}),
)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_every_offered_set_fits_and_says_what_each_change_saves(name: str, settings: dict[str, object]) -> None:
    wanted = request(name, **settings)
    found = suggestions(wanted)
    assert found
    now = estimate(wanted).device_peak
    for suggestion in found:
        changed = estimate(wanted.changed(**suggestion.changes))
        assert changed.fits and suggestion.fits
        assert suggestion.saves_bytes == now - changed.device_peak > 0
        assert suggestion.saves_bytes == sum(step.saves_bytes for step in suggestion.steps)
        assert suggestion.text[0].isupper()
    assert [one.harm for one in found] == sorted(one.harm for one in found)
    assert len({one.text for one in found}) == len(found)


def test_mild_changes_keep_rows_longer() -> None:
    found = suggestions(request("qwen3-8b", vram_gb=8, seq_len=8192))
    lengths = [suggestion.changes["seq_len"] for suggestion in found]
    assert len(found[0].changes) == 1
    assert max(lengths) >= 1.2 * lengths[0]


@pytest.mark.parametrize("vram_gb", [4, 6, 8, 12, 16, 24])
@pytest.mark.parametrize(
    "settings",
    [
        {"seq_len": 8192},
        {"method": "lora", "seq_len": 2048, "dora": True},
        {"method": "full", "micro_batch": 4},
        {"quant": "int8", "attn": "eager", "checkpointing": "none", "micro_batch": 4, "rank": 256},
        {"method": "inference", "columns": 4, "seq_len": 4096},
    ],
)
def test_no_fit_is_missed(vram_gb: float, settings: dict[str, object]) -> None:
    for name in ("starter", "gpt2-xl", "qwen2.5-3b", "gemma-2-9b", "qwen3-14b", "qwen3-30b-a3b", "falcon-40b"):
        if settings.get("dora") and name == "qwen3-30b-a3b":
            continue  # PEFT has no DoRA for experts
        wanted = request(name, vram_gb=vram_gb, **settings)
        if estimate(wanted).fits:
            continue
        found = suggestions(wanted)
        fitting = [one for one in found if one.fits and "model" not in one.changes]
        assert bool(fitting) == reachable_fit(wanted), name
        for one in found:
            assert estimate(wanted.changed(**one.changes)).fits is one.fits


@pytest.mark.slow
def test_no_fit_is_missed_in_the_whole_catalogue() -> None:
    for model, vram_gb in product(catalog.all_models(), (6, 8, 16)):
        wanted = PlanRequest(model=model, vram_gb=vram_gb, seq_len=8192, micro_batch=2)
        if not estimate(wanted).fits:
            fitting = [one for one in suggestions(wanted) if one.fits and "model" not in one.changes]
            assert bool(fitting) == reachable_fit(wanted), model.name


def test_an_impossible_wish_is_told_so_and_gets_a_smaller_model() -> None:
    wanted = request("qwen3-32b", vram_gb=8)
    honest, smaller = suggestions(wanted)
    assert honest.fits is False
    assert "weights alone take" in honest.text
    least = wanted.changed(**honest.changes)
    assert weights_at_rest(least).total_bytes > (estimate(wanted).free_bytes or 0)
    assert smaller.fits
    model = smaller.changes["model"]
    assert model.family == "qwen3" and not model.listing.gated
    assert model.listing.hub_id in smaller.text


def test_without_a_card_each_change_is_listed_alone() -> None:
    found = suggestions(request("qwen3-4b", micro_batch=4))
    assert found
    assert all(one.saves_bytes > 0 and one.fits is None for one in found)


def test_words_join_as_a_sentence() -> None:
    wanted = request("qwen3-4b", rank=64, attn="eager", micro_batch=2)
    assert words(wanted, {"rank": 8}) == "Rank 8"
    assert words(wanted, {"attn": "sdpa", "rank": 8, "seq_len": 512}) == (
        "SDPA attention, rank 8 and sequence length 512"
    )
