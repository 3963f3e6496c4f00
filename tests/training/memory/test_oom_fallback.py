import subprocess
import sys
from pathlib import Path

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.jobs.metrics import events_of, read_rows, steps_of
from app.training.memory import oom_fallback
from app.workspace import Workspace

HOUSE = Path(__file__).parents[3]
DATA = HOUSE / "assets" / "datasets" / "pirate.json"


def config(**changes: object) -> RunConfig:
    return RunConfig().changed({name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize(("rows", "accumulation"), [(8, 1), (6, 1), (3, 5), (7, 3), (2, 8)])
def test_every_rung_keeps_the_effective_batch_down_to_one_row(rows: int, accumulation: int) -> None:
    now = config(training__per_device_train_batch_size=rows, training__gradient_accumulation_steps=accumulation)
    while now.training.per_device_train_batch_size > 1:
        rung = oom_fallback.next_rung(now)
        assert rung is not None
        lower = now.changed(rung.changes)
        assert lower.training.per_device_train_batch_size < now.training.per_device_train_batch_size
        assert lower.effective_batch == rows * accumulation
        now = lower


def test_then_checkpointing_is_raised_and_then_there_is_no_rung() -> None:
    now = config(memory__checkpointing="every-4")
    rung = oom_fallback.next_rung(now)
    assert rung is not None and rung.changes == {"memory.checkpointing": "full"}
    assert oom_fallback.next_rung(now.changed(rung.changes)) is None


def test_what_was_bought_is_given_back_first_step_by_step() -> None:
    now = config(memory__checkpointing="none", memory__dequantized_layers=5, training__per_device_train_batch_size=2)
    taken = []
    while (rung := oom_fallback.next_rung(now, bought=True)) is not None:
        taken.append(rung.changes)
        now = now.changed(rung.changes)
    names = [name for changes in taken for name in changes]
    assert [changes["memory.dequantized_layers"] for changes in taken[:3]] == [2, 1, 0]
    assert [changes["memory.checkpointing"] for changes in taken[3:5]] == ["every-2", "full"]
    assert names.index("training.per_device_train_batch_size") == 5 and now.memory.checkpointing == "full"
    assert now.effective_batch == 2 * RunConfig().training.gradient_accumulation_steps


def test_steps_are_kept_beside_the_job(workspace: Workspace) -> None:
    job = directory.create(workspace, "train", RunConfig().as_dict())
    assert oom_fallback.lowered(job, RunConfig()) == RunConfig()
    oom_fallback.remember(job, oom_fallback.Rung({"memory.checkpointing": "full"}, ""))
    oom_fallback.remember(job, oom_fallback.Rung({"training.per_device_train_batch_size": 2}, ""))
    assert oom_fallback.lowered(job, config(memory__checkpointing="none")).memory.checkpointing == "full"
    assert oom_fallback.lowered(job, RunConfig()).training.per_device_train_batch_size == 2


def run_short_of_memory(workspace: Workspace, *places: str) -> JobDirectory:
    settings = presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "training.max_steps": 6,
            "training.save_steps": 2,
            "training.per_device_train_batch_size": 4,
            # Nothing bought that could be given back first: what is tested is the ladder of what was asked for.
            "memory.dequantized_layers": 0,
            # The plain ways, whose steps need new memory up to their end.
            "training.fast_paths": False,
        }
    )
    job = directory.create(workspace, "train", settings.as_dict())
    script = Path(__file__).with_name("short_of_memory.py")
    with job.log_file.open("wb") as log:
        subprocess.run(
            [sys.executable, str(script), str(job.path), *places],
            cwd=HOUSE,
            env={**__import__("os").environ, "PYTHONPATH": str(HOUSE)},
            stdout=log,
            stderr=log,
            timeout=300,
        )
    return job


@pytest.mark.parametrize("place", [pytest.param("load", marks=pytest.mark.slow), "cap-load"])
@pytest.mark.fault("F13")
def test_a_base_that_does_not_fit_is_a_clear_stop(workspace: Workspace, place: str) -> None:
    status = run_short_of_memory(workspace, place).status()
    assert (status.state, status.kind) == ("failed", "memory")


@pytest.mark.parametrize("place", ["step-1:2", pytest.param("cap-step-1:2", marks=pytest.mark.slow), "cap-step-4:2"])
@pytest.mark.fault("F13")
def test_out_of_memory_goes_down_the_ladder_from_the_last_good_step(workspace: Workspace, place: str) -> None:
    job = run_short_of_memory(workspace, place)
    assert job.status().state == "finished", job.log_file.read_text()[-2000:]
    rows = read_rows(job.metrics_file)
    assert [row["step"] for row in steps_of(rows)] == [1, 2, 3, 4, 5, 6]
    taken = [row for row in events_of(rows) if row["event"] == "memory step"]
    assert len(taken) == 1 and "4 -> 2" in taken[0]["message"] and "stays 4" in taken[0]["message"]


def test_the_end_of_the_ladder_is_a_clear_stop_with_advice(workspace: Workspace) -> None:
    job = run_short_of_memory(workspace, "step-1:0")
    status = job.status()
    assert (status.state, status.kind) == ("failed", "memory")
    assert "data.max_length" in status.reason
    messages = [row["message"] for row in events_of(read_rows(job.metrics_file)) if row["event"] == "memory step"]
    assert len(messages) == 3
