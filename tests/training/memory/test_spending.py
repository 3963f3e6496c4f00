"""Memory spent on speed and the number format: the same run as without, kept beside the job, a given setting stays."""

from __future__ import annotations

import pytest

from app import hardware
from app.jobs.directory import JobDirectory
from app.jobs.metrics import events_of, read_rows, steps_of
from app.planner import number_format, settled
from app.planner.machine import Machine
from app.planner.number_format import Timing
from app.runs.training_script import recipe
from app.workspace import Workspace
from tests.training.in_process import go, prepare, run, small, stop_at

OPEN = {"memory__checkpointing": "auto"}
PLAIN = {"memory__spend": "none", "memory__checkpointing": "full"}


@pytest.fixture(autouse=True)
def memory_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free on the machine of the tests shall decide nothing."""
    monkeypatch.setattr("app.training.memory.spending.this_machine", lambda: Machine("cpu", "cpu", 16 << 30))


def curve(job: JobDirectory) -> list[tuple[int, float, float]]:
    assert job.status().state == "finished", job.log_file.read_text() if job.log_file.exists() else job.status().reason
    return [(row["step"], row["loss"], row["grad_norm"]) for row in steps_of(read_rows(job.metrics_file))]


def adapter_of(job: JobDirectory) -> bytes:
    return (job.result / "adapter" / "adapter_model.safetensors").read_bytes()


def notes(job: JobDirectory) -> list[str]:
    return [str(event["message"]) for event in events_of(read_rows(job.metrics_file)) if event["event"] == "note"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_run_that_spends_is_the_same_run(workspace: Workspace, dtype: str) -> None:
    plain = run(workspace, small(model__dtype=dtype, adapter__lora_dropout=0.1, **PLAIN))
    spent = run(workspace, small(model__dtype=dtype, adapter__lora_dropout=0.1, **OPEN))
    assert settled.read(plain.path).changes == {}
    assert settled.read(spent.path).changes == {"memory.checkpointing": "none", "memory.dequantized_layers": 4}
    assert any("no layer is recomputed, 4 of 4 layers" in note for note in notes(spent))
    assert curve(spent) == curve(plain)
    assert adapter_of(spent) == adapter_of(plain)


def test_a_resumed_run_does_not_spend_anew(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(workspace, small(model__dtype="auto", **OPEN))
    job = prepare(workspace, small(model__dtype="auto", **OPEN))
    stop_at(job, 6)
    before = settled.read(job.path)
    assert before.changes["memory.checkpointing"] == "none" and before.changes["model.dtype"]
    job.stop_file.unlink()
    monkeypatch.setattr("app.training.memory.spending._bought", lambda *_: pytest.fail("it spends anew"))
    monkeypatch.setattr("app.training.number_format._chosen", lambda *_: pytest.fail("it chooses anew"))
    go(job)
    assert settled.read(job.path) == before
    assert curve(job) == curve(whole) and adapter_of(job) == adapter_of(whole)


def test_a_given_setting_stays(workspace: Workspace) -> None:
    job = run(workspace, small(memory__checkpointing="full", memory__dequantized_layers=0, training__max_steps=1))
    assert job.status().state == "finished" and settled.read(job.path).changes == {}
    job = run(workspace, small(memory__checkpointing="full", training__max_steps=1))
    assert settled.read(job.path).changes == {"memory.checkpointing": "full", "memory.dequantized_layers": 4}


@pytest.mark.parametrize(("pays", "dtype"), [(True, "bf16"), (False, "fp32")])
def test_the_number_format_is_measured_once_kept_and_written_into_the_recipe(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, pays: bool, dtype: str
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: True)
    timing = Timing(2.0, 1.0) if pays else Timing(1.0, 2.0)
    asked: list[tuple[int, int]] = []

    def measured(hidden: int, intermediate: int) -> Timing:
        asked.append((hidden, intermediate))
        return timing

    monkeypatch.setattr("app.training.number_format.measured", measured)
    jobs = [run(workspace, small(model__dtype="auto", training__max_steps=1)) for _ in range(2)]
    assert len(asked) == 1 and number_format.kept(*asked[0], workspace.root) == timing
    for job in jobs:
        assert settled.read(job.path).changes["model.dtype"] == dtype
        assert any(f"Computes in {dtype}" in note for note in notes(job))
        assert f"DTYPE = torch.{'bfloat16' if dtype == 'bf16' else 'float32'}" in recipe(job)


@pytest.mark.parametrize(("has", "dtype"), [(False, "bf16"), (True, "bf16"), (False, "fp32")])
def test_a_run_says_that_a_chosen_bf16_is_slow_and_takes_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, has: bool, dtype: str
) -> None:
    monkeypatch.setattr(hardware, "has_bf16_instructions", lambda: has)
    job = run(workspace, small(model__dtype=dtype, training__max_steps=1))
    assert job.status().state == "finished" and "model.dtype" not in settled.read(job.path).changes
    warned = any("many times slower than fp32" in note for note in notes(job))
    assert warned is (dtype == "bf16" and not has)


def test_a_run_that_began_before_there_was_a_choice_goes_on_in_fp32(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(workspace, small(model__dtype="auto", **PLAIN))
    stop_at(job, 6)
    job.stop_file.unlink()
    (job.path / settled.FILE).unlink()
    monkeypatch.setattr("app.training.number_format._chosen", lambda *_: pytest.fail("it chooses"))
    go(job)
    assert settled.read(job.path).changes == {"model.dtype": "fp32"}


def test_both_formats_are_timed() -> None:
    from app.training.number_format import measured

    timing = measured(64, 128, seconds=0.0)
    assert 0 < timing.fp32_s < 10 and 0 < timing.bf16_s < 10


@pytest.mark.slow
def test_the_loss_in_bf16_is_that_in_fp32_within_what_a_seed_moves(workspace: Workspace) -> None:
    """Three seeds: what the format moves at the end is less than what another seed does.

    Without instructions for bf16, where no run takes it by itself, it is a hundred times slower: one seed has to do.
    """
    ends: dict[str, list[float]] = {}
    seeds = (1, 2, 3)
    for dtype, tried in (("fp32", seeds), ("bf16", seeds if hardware.has_bf16_instructions() else seeds[:1])):
        for seed in tried:
            job = run(workspace, small(model__dtype=dtype, training__seed=seed, training__max_steps=24))
            ends.setdefault(dtype, []).append(sum(loss for _, loss, _ in curve(job)[-6:]) / 6)
    between = [abs(a - b) for a, b in zip(ends["fp32"], ends["bf16"], strict=False)]
    across = max(ends["fp32"]) - min(ends["fp32"])
    assert max(between) < across, ends
