"""What "auto" computes in on a processor: by its instructions, by a measurement, and the same for page and trainer."""

from pathlib import Path

import pytest

from app import hardware
from app.config.schema import RunConfig
from app.planner import estimate, number_format
from app.planner.machine import request_here, request_on
from app.planner.number_format import Timing
from app.workspace import Workspace


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_tile amx_bf16", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: avx512_bf16", False),
    ],
)
def test_instructions_are_read_from_what_the_system_says(line: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: f"processor\t: 0\n{line}\n")
    assert hardware.has_bf16_instructions.__wrapped__() is has


def test_without_instructions_it_is_fp32_whatever_was_measured(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: False)
    number_format.keep(Timing(2.0, 1.0), 64, 128, workspace.root)
    assert number_format.on_processor(64, 128, workspace.root).dtype == "fp32"


def test_with_instructions_the_measurement_decides(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: True)
    assert number_format.on_processor(64, 128, workspace.root).why.key == "planner.note.dtype.open"
    number_format.keep(Timing(2.0, 1.0), 64, 128, workspace.root)
    number_format.keep(Timing(1.0, 1.0), 64, 256, workspace.root)
    pays, does_not = (number_format.on_processor(64, width, workspace.root) for width in (128, 256))
    assert (pays.dtype, does_not.dtype) == ("bf16", "fp32")
    assert "2.0 times" in pays.why and "1.0 times" in does_not.why


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', '{"%s": {"fp32_s": 0, "bf16_s": 0}}'])
def test_a_damaged_record_says_nothing(text: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: True)
    key = number_format._key(64, 128)
    (workspace.root / "number_format.json").write_text(text.replace("%s", key), encoding="utf-8")
    assert number_format.kept(64, 128, workspace.root) is None
    number_format.keep(Timing(2.0, 1.0), 64, 128, workspace.root)
    assert number_format.kept(64, 128, workspace.root) == Timing(2.0, 1.0)


def test_a_plan_has_the_format_and_its_reason_unless_one_is_given(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: True)
    config = RunConfig()
    asked = request_on("cpu", config, workspace=workspace.root)
    assert (asked.dtype, asked.dtype_note and asked.dtype_note.key) == ("bf16", "planner.note.dtype.open")
    number_format.keep(Timing(1.0, 2.0), asked.model.hidden, asked.model.intermediate, workspace.root)
    assert request_on("cpu", config, workspace=workspace.root).dtype == "fp32"
    given = request_on("cpu", config.changed({"model.dtype": "bf16"}), workspace=workspace.root)
    assert (given.dtype, given.dtype_note) == ("bf16", None)
    assert request_here(config, workspace, changes={"vram_gb": 8.0}).dtype_note is None


def test_a_plan_warns_of_bf16_that_was_chosen_without_instructions(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: False)
    config = RunConfig().changed({"model.dtype": "bf16"})
    plan = estimate(request_on("cpu", config, workspace=workspace.root))
    assert plan.request.dtype == "bf16" and any("many times slower" in warning for warning in plan.warnings)
    for device, dtype in (("cuda", "bf16"), ("cpu", "fp32"), ("cpu", "fp16")):
        request = request_on(device, config.changed({"model.dtype": dtype}))  # type: ignore[arg-type]
        assert request.dtype_note is None
