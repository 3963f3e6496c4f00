"""One machine, one answer: the page and the command line plan the same settings alike, and as the trainer computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import hardware, planner
from app.cli.terminal import Parser, Verbs
from app.cli.verbs import plan as verb
from app.config import presets
from app.config.schema import RunConfig
from app.errors import UsageError
from app.hardware import Gpu, Readings
from app.jobs import directory
from app.planner.estimate import Plan
from app.planner.history import CPU, Measurement, append
from app.runs.submission import submit
from app.ui.tabs.plan import view
from app.ui.tabs.train import live_view
from app.workspace import Workspace

_RAM = 24 << 30
_CARD = Gpu(0, "RTX 4070", 12 << 30, 11 << 30)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "LoRA": {"quantization.load_in_4bit": False},
    "full": {"quantization.load_in_4bit": False, "adapter.method": "full"},
    "8 bits": {"quantization.load_in_4bit": False, "quantization.load_in_8bit": True},
    "fp16": {"model.dtype": "fp16"},
    "no reserve": {"memory.reserve_gb": 0},
    "large": {"model.name": "Qwen/Qwen3-8B", "data.max_length": 8192},
    "a card of its own": {"model.name": "Qwen/Qwen3-8B", "memory.vram_gb": 8},
}


def readings(gpus: tuple[Gpu, ...]) -> Readings:
    return Readings("cpu", 2, 0.0, _RAM, _RAM, 1 << 40, gpus, "")


@pytest.fixture(params=["processor", "card"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A machine with and without a card, which holds still while two programs look at it."""
    found = readings((_CARD,) if request.param == "card" else ())
    monkeypatch.setattr(hardware, "readings", lambda folder=None: found)
    yield request.param


def by_command_line(workspace: Workspace, *words: str) -> Plan:
    parser = Parser()
    verb.register(Verbs(parser.add_subparsers(), Parser(add_help=False)))
    arguments = parser.parse_args(["plan", *words])
    arguments.workspace = str(workspace.root)
    return planner.plan(verb.request_of(arguments))


def on_page(workspace: Workspace, config: RunConfig) -> Plan:
    return planner.plan(view.request_of(config, workspace))


@pytest.mark.parametrize("name", SETTINGS)
def test_page_and_command_line_give_one_answer(workspace: Workspace, tmp_path: Path, machine: str, name: str) -> None:
    config = RunConfig().changed(SETTINGS[name])
    append(workspace.root, measured(CPU))
    append(workspace.root, measured(_CARD.name))
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    page = on_page(workspace, config)
    limits = [] if config.memory.vram_gb else ["--vram", "here"]
    assert by_command_line(workspace, "--config", str(file), *limits).to_json() == page.to_json()
    # Without a card that is named there is no limit, and all else is the same.
    free = by_command_line(workspace, "--config", str(file))
    assert free.parts == page.parts and free.request.dtype == page.request.dtype
    assert (free.fits is None) is (config.memory.vram_gb is None)


@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
def test_an_objective_on_the_command_line_is_that_of_the_page(
    workspace: Workspace, machine: str, objective: str
) -> None:
    start = {"adapter.start_from": "/an/adapter"} if objective == "dpo" else {}
    config = presets.load("cpu-starter").config.changed({"training.objective": objective, **start})
    page = on_page(workspace, config)
    words = ["--preset", "cpu-starter", "--vram", "here", *(f"--set={name}={value}" for name, value in start.items())]
    for option in (["--objective", objective], ["--set", f"training.objective={objective}"]):
        assert by_command_line(workspace, *words, *option).to_json() == page.to_json()
    assert page.request.objective == objective and not page.request.packed
    plain = by_command_line(workspace, "--preset", "cpu-starter", "--vram", "here")
    assert page.allocated_peak != plain.allocated_peak
    request = by_command_line(workspace, "--model", "starter", "--objective", objective).request
    assert (request.objective, request.reference_adapter) == (objective, False)


def measured(device: str) -> Measurement:
    figures = {"base_weights": 1, "adapter_and_optimizer": 1, "step": 100, "allocated_peak": 200}
    more = {**figures, "step": 110, "allocated_peak": 210}
    return Measurement(device, "starter", "qlora", "nf4-dq", 1024, 1, 16, figures, more)


def test_a_preset_is_planned_as_on_the_page(workspace: Workspace, machine: str) -> None:
    for preset in presets.all_presets():
        # A model with a formula, for what is planned by a simulation takes 20 s the first time.
        model = "starter" if preset.vram_gb is None else "Qwen/Qwen3-4B"
        config = preset.config.changed({"memory.vram_gb": None, "model.name": model})
        command = by_command_line(workspace, "--preset", preset.name, "--model", model, "--vram", "here")
        assert command.to_json() == on_page(workspace, config).to_json()


def test_the_processor_computes_in_fp32_without_a_context_of_cuda(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "readings", lambda folder=None: readings(()))
    plan = by_command_line(workspace, "--preset", "cpu-starter")
    assert plan.request.device == "cpu" and plan.request.dtype == "fp32"
    assert plan.fits is None and not plan.parts["cuda_context"]
    here = by_command_line(workspace, "--preset", "cpu-starter", "--vram", "here")
    assert here.fits is True and here.free_bytes == _RAM
    model = by_command_line(workspace, "--model", "starter", "--vram", "here")
    assert model.request.device == "cpu" and model.request.dtype == "fp32" and model.fits is True
    job = directory.create(workspace, "train", presets.load("cpu-starter").config.as_dict(), name="x")
    assert live_view.planned_bytes(job.job_file, False) == plan.device_peak


def test_the_trainer_resolves_auto_as_the_planner_does() -> None:
    torch = pytest.importorskip("torch")
    from app.models.loading import resolve_dtype
    from app.planner.machine import device_here

    if torch.cuda.is_available():
        pytest.skip("a machine with a card")
    assert str(resolve_dtype("auto")) == "torch.float32" and device_here()["dtype"] == "fp32"


def test_a_full_run_here_needs_the_disk_that_its_format_takes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: False)  # such a processor computes in fp32
    config = RunConfig().changed(SETTINGS["full"])
    sizes = {}
    for name, cards in {"processor": (), "card": (_CARD,)}.items():
        monkeypatch.setattr(hardware, "readings", lambda folder=None, cards=cards: readings(cards))
        sizes[name] = submit.saved_bytes(config)
    assert sizes["processor"] > 1.5 * sizes["card"]


def test_a_size_that_is_none_is_said(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no size in GB"):
        by_command_line(workspace, "--model", "starter", "--vram", "much")
