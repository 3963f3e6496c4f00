from dataclasses import replace
from pathlib import Path

import pytest

from app import catalog
from app.planner import PlanRequest, estimate, plan, suggestions
from app.planner.correction import MOVING
from app.planner.history import COMPARED, CPU, LAST_RUNS, Measurement, append, corrections, file_of, predicted_parts

CARD = "NVIDIA GeForce RTX 4070"
REQUEST = PlanRequest(model=catalog.find("qwen3-4b"), vram_gb=12)


def measured(ratio: float, device: str = CARD, method: str = "qlora", storage: str = "nf4-dq") -> Measurement:
    """Return a measurement whose step needed `ratio` of what was predicted."""
    predicted = predicted_parts(estimate(REQUEST))
    step = int(predicted["step"] * ratio)
    found = {**predicted, "step": step, "allocated_peak": predicted["allocated_peak"] - predicted["step"] + step}
    return Measurement(device, "qwen3-4b", method, storage, 1024, 1, 16, predicted, found)


def test_without_a_history_nothing_is_corrected(tmp_path: Path) -> None:
    assert corrections(tmp_path, CARD) == ()
    assert plan(REQUEST).basis == "formula"


def test_the_measured_parts_add_up_to_the_allocated_peak() -> None:
    parts = predicted_parts(estimate(REQUEST))
    assert tuple(parts) == COMPARED
    assert sum(parts.values()) == 2 * estimate(REQUEST).allocated_peak


def test_the_median_of_the_last_runs_corrects_what_a_step_moves(tmp_path: Path) -> None:
    for ratio in (0.5, 0.5, 0.5, 1.10, 1.08, 5.0, 1.12, 1.10):
        append(tmp_path, measured(ratio))
    (one,) = corrections(tmp_path, CARD)
    assert one.runs == LAST_RUNS and one.ratio == pytest.approx(1.10, rel=1e-6)
    before, after = plan(REQUEST), plan(REQUEST.changed(corrections=(one,)))
    assert after.basis == "measured"
    for key, size in after.parts.items():
        expected = int(before.parts[key] * one.ratio) if key in MOVING else before.parts[key]
        assert key == "allocator_reserve" or size == expected
    assert sum(after.parts.values()) == after.device_peak
    assert "last 5 measurements on this machine" in after.warnings[0]
    assert after.largest is not None and before.largest is not None
    assert after.largest["seq_len"] < before.largest["seq_len"]  # type: ignore[operator]


def test_a_wild_measurement_moves_a_plan_only_so_far(tmp_path: Path) -> None:
    append(tmp_path, measured(50.0))
    (one,) = corrections(tmp_path, CARD)
    assert one.ratio == pytest.approx(4 / 3)


def test_a_correction_is_for_its_device_method_and_storage_alone(tmp_path: Path) -> None:
    append(tmp_path, measured(1.2, device=CPU))
    append(tmp_path, measured(1.2, method="lora", storage="none"))
    assert corrections(tmp_path, "another card") == ()
    of_card = REQUEST.changed(corrections=corrections(tmp_path, CARD))
    assert plan(of_card).basis == "formula"
    assert plan(of_card.changed(method="lora", quant="none")).basis == "measured"
    (of_processor,) = corrections(tmp_path, CPU)
    assert of_processor.by_process and "process" in of_processor.line()


def test_suggestions_are_planned_with_the_correction(tmp_path: Path) -> None:
    append(tmp_path, measured(1.3))
    request = REQUEST.changed(seq_len=16384, vram_gb=8, corrections=corrections(tmp_path, CARD))
    found = suggestions(request)
    assert found and all(estimate(request.changed(**one.changes)).fits for one in found)


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    append(tmp_path, measured(1.1))
    with file_of(tmp_path).open("a") as file:
        file.write('{"device": "' + CARD + '", "method": "qlora", "storage": "nf4-dq", "predicted": 3}\n')
        file.write('{"device": "' + CARD + '", "predicted": {"step": 0}, "measured": {"step": NaN}}\n{"torn')
    append(tmp_path, measured(1.1))
    (one,) = corrections(tmp_path, CARD)
    assert one.runs == 2 and one.ratio == pytest.approx(1.1, rel=1e-6)


def test_a_processor_has_no_card_s_context() -> None:
    parts = estimate(REQUEST.changed(device="cpu", dtype="fp32", vram_gb=None)).parts
    assert parts["cuda_context"] == 0 < parts["allocator_reserve"]


def test_the_plan_moves_the_way_its_note_says(tmp_path: Path) -> None:
    """On a processor the step alone was measured too small, while the whole was larger than planned."""
    one = measured(1.0)
    peak = int(one.predicted["allocated_peak"] * 1.02)
    shifted = {**one.measured, "step": one.predicted["step"] // 3, "allocated_peak": peak}
    append(tmp_path, replace(one, measured=shifted))
    (found,) = corrections(tmp_path, CARD)
    assert found.ratio > 1 and found.mean_error == pytest.approx(0.02, abs=1e-3)
    assert estimate(REQUEST.changed(corrections=(found,))).allocated_peak == pytest.approx(peak, rel=1e-3)
