"""What is bought with free memory: never more than is free, never what was not left open, and the most for it."""

import pytest

from app import catalog
from app.config.schema import RunConfig
from app.planner import estimate
from app.planner.alternatives.spend import _saved_s, spending
from app.planner.from_config import request_from_config
from app.planner.request import GIB, PlanRequest

MODEL = catalog.find("qwen3-4b")


def request(**changes: object) -> PlanRequest:
    return request_from_config(RunConfig(), MODEL).changed(free_bytes=24 * GIB, **changes)


@pytest.mark.parametrize("free_gb", [2, 4, 5, 6, 8, 10, 12, 16, 24, 80])
@pytest.mark.parametrize("seq_len", [512, 4096])
def test_what_is_bought_fits_and_more_memory_never_buys_less(free_gb: int, seq_len: int) -> None:
    asked = request(seq_len=seq_len).changed(free_bytes=free_gb * GIB)
    bought, richer = spending(asked), spending(asked.changed(free_bytes=(free_gb + 4) * GIB))
    assert bought is not None and richer is not None
    plain = estimate(asked).device_peak
    if bought.spent_bytes:
        assert bought.device_peak <= 0.95 * free_gb * GIB
        assert bought.spent_bytes == bought.device_peak - plain
    else:
        assert (bought.checkpointing, bought.dequantized_layers, bought.device_peak) == ("full", 0, plain)
    assert richer.saved_s >= bought.saved_s


def test_with_memory_to_spare_everything_is_bought() -> None:
    bought = spending(request(seq_len=512).changed(free_bytes=80 * GIB))
    assert bought is not None and (bought.checkpointing, bought.dequantized_layers) == ("none", MODEL.layers)
    assert "no layer is recomputed" in bought.why and f"{MODEL.layers} of {MODEL.layers}" in bought.why


def test_no_other_choice_that_fits_saves_more() -> None:
    asked = request(seq_len=2048).changed(free_bytes=10 * GIB)
    bought = spending(asked)
    assert bought is not None and bought.spent_bytes > 0
    for mode in ("full", "every-2", "every-3", "every-4", "every-6", "every-8", "none"):
        for layers in range(0, MODEL.layers + 1, 3):
            other = estimate(asked.changed(checkpointing=mode, dequantized_layers=layers))
            if other.device_peak <= 0.95 * 10 * GIB:
                assert _saved_s(asked, mode, layers) <= bought.saved_s + 1e-12


def test_a_setting_that_is_given_stays() -> None:
    given = spending(request(checkpointing="full"))
    assert given is not None and given.checkpointing == "full" and given.dequantized_layers > 0
    given = spending(request(dequantized_layers=3))
    assert given is not None and given.dequantized_layers == 3 and given.checkpointing == "none"
    assert spending(request(checkpointing="every-2", dequantized_layers=0)) is None


def test_nothing_is_bought_where_it_is_switched_off_or_nothing_is_known() -> None:
    off = RunConfig().changed({"memory.spend": "none"})
    assert spending(request_from_config(off, MODEL).changed(free_bytes=24 * GIB)) is None
    assert spending(request_from_config(RunConfig(), MODEL)) is None
    assert request_from_config(off, MODEL).checkpointing == "full"


@pytest.mark.parametrize("quant", ["int8", "none"])
def test_only_weights_in_4_bits_are_kept_dequantised(quant: str) -> None:
    bought = spending(request(method="qlora" if quant == "int8" else "lora", quant=quant))
    assert bought is not None and (bought.checkpointing, bought.dequantized_layers) == ("none", 0)


def test_kept_weights_are_counted_in_the_format_of_computation() -> None:
    none, two = (estimate(request(dequantized_layers=count)).parts["base_weights"] for count in (0, 2))
    per_layer = sum(module.weights for module in catalog.modules.layer_modules(MODEL, 0))
    assert two - none == 2 * 2 * per_layer
