"""The real thing on a processor: NF4 QLoRA by TRL on the starter model, killed, stopped, damaged and resumed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.errors import DataError, UsageError, WorkspaceError
from app.jobs import directory, requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import events_of, read_rows, steps_of
from app.runs.submission import submit
from app.workspace import Workspace, open_workspace, source_sha256

HOUSE = Path(__file__).parents[2]
DATA = HOUSE / "assets" / "datasets" / "pirate.json"
STEPS = 16
TIMEOUT_S = 240.0


def config(**changes: object) -> RunConfig:
    """Dropout, packing and double quantisation on: everything that draws random numbers or rounds."""
    return presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "training.max_steps": STEPS,
            "training.save_steps": 5,
            "training.save_total_limit": 10,
            "training.full_determinism": True,
            "adapter.lora_dropout": 0.1,
            "data.validation_split": 0.1,
            "training.eval_steps": 4,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
    )


def adapter_of(job: JobDirectory) -> bytes:
    return (job.result / "adapter" / "adapter_model.safetensors").read_bytes()


def losses_of(job: JobDirectory) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in steps_of(read_rows(job.metrics_file))]


def wait_for_step(job: JobDirectory, step: int) -> None:
    requests.wait(
        job, lambda status: status.phase == "training" and status.step >= step, timeout_s=TIMEOUT_S, poll_s=0.01
    )


def finish(job: JobDirectory) -> None:
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert status.state == "finished", f"{status.reason}\n{job.log_file.read_text()[-3000:]}"


def killed_inside(workspace: Workspace, place: str) -> JobDirectory:
    """Return a run whose child, started by hand, has killed itself at a place: no luck is needed to hit it."""
    settings = config()
    job = directory.create(workspace, "train", settings.as_dict(), data_sha256=source_sha256(DATA))
    script = Path(__file__).with_name("killed_inside.py")
    # As the supervisor starts it: a fixed hash seed is part of what makes two runs equal.
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "PYTHONHASHSEED": "0"}
    with job.log_file.open("wb") as log:
        done = subprocess.run(
            [sys.executable, str(script), str(job.path), place],
            stdout=log,
            stderr=log,
            env=environment,
            timeout=TIMEOUT_S,
        )
    assert done.returncode == -signal.SIGKILL, job.log_file.read_text()[-3000:]
    assert job.status().state == "interrupted"
    return job


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobDirectory]:
    workspace = open_workspace(tmp_path_factory.mktemp("undisturbed"))
    job = submit.start(workspace, config())
    finish(job)
    yield job


def same_as(job: JobDirectory, undisturbed: JobDirectory) -> None:
    assert [step for step, _ in losses_of(job)] == list(range(1, STEPS + 1))
    assert losses_of(job) == losses_of(undisturbed)
    assert adapter_of(job) == adapter_of(undisturbed)


def test_an_undisturbed_run_leaves_everything_it_should(undisturbed: JobDirectory) -> None:
    assert [step for step, _ in losses_of(undisturbed)] == list(range(1, STEPS + 1))
    figures = undisturbed.describe().status.result
    assert figures["last_loss"] < figures["first_loss"]
    assert (undisturbed.result / "adapter" / "tokenizer.json").is_file()
    assert json.loads((undisturbed.result / "adapter" / "adapter_config.json").read_text())["r"] == 8
    assert {path.name for path in undisturbed.checkpoints.iterdir()} == {"step-5", "step-10", "step-15", "step-16"}
    assert not (undisturbed.path / "work").exists()
    assert not list(undisturbed.path.rglob("training_args.bin"))
    events = [row["event"] for row in events_of(read_rows(undisturbed.metrics_file))]
    assert events.count("checkpoint") == 4 and events.count("validation") == 4
    assert undisturbed.last_metrics()["eval_loss"] is not None  # type: ignore[index]


@pytest.mark.fault("F4")
def test_killed_and_resumed_is_bitwise_the_same(workspace: Workspace, undisturbed: JobDirectory) -> None:
    job = submit.start(workspace, config())
    wait_for_step(job, 6)  # some step behind the first checkpoint, with time to spare before the end
    os.kill(job.status().pid or 0, signal.SIGKILL)
    assert requests.wait(job, timeout_s=30).state == "interrupted"
    requests.resume(workspace, job)
    finish(job)
    same_as(job, undisturbed)
    assert any("resumed" in row["event"] for row in events_of(read_rows(job.metrics_file)))


@pytest.mark.slow
def test_stopped_and_resumed_is_bitwise_the_same(workspace: Workspace, undisturbed: JobDirectory) -> None:
    job = submit.start(workspace, config())
    wait_for_step(job, 3)
    requests.stop(workspace, job)
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert status.state == "stopped"
    assert (job.checkpoints / f"step-{status.step}" / "complete.json").is_file()
    requests.resume(workspace, job)
    finish(job)
    same_as(job, undisturbed)


@pytest.mark.fault("F5")
def test_killed_inside_a_save_falls_back_to_the_checkpoint_before(
    workspace: Workspace, undisturbed: JobDirectory
) -> None:
    job = killed_inside(workspace, "save-10")
    assert (job.checkpoints / "step-5" / "complete.json").is_file()
    assert (job.path / "work" / "checkpoint-10").exists() and not (job.checkpoints / "step-10").exists()
    requests.resume(workspace, job)
    finish(job)
    same_as(job, undisturbed)


@pytest.mark.slow
@pytest.mark.fault("F6")
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(workspace: Workspace, undisturbed: JobDirectory) -> None:
    job = killed_inside(workspace, "step-11")
    damaged = job.checkpoints / "step-10" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    requests.resume(workspace, job)
    finish(job)
    same_as(job, undisturbed)
    refused = [row for row in events_of(read_rows(job.metrics_file)) if row["event"] == "checkpoint refused"]
    assert "optimizer.pt" in refused[0]["message"]


@pytest.mark.slow
def test_a_changed_data_file_is_refused_and_a_resumed_run_needs_it_no_more(
    workspace: Workspace, tmp_path: Path, undisturbed: JobDirectory
) -> None:
    data = tmp_path / DATA.name
    data.write_bytes(DATA.read_bytes())
    job = submit.start(workspace, config(data__file=str(data)))
    wait_for_step(job, 6)
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=TIMEOUT_S)
    data.write_text("[]")
    requests.resume(workspace, job)
    finish(job)
    same_as(job, undisturbed)


def test_what_cannot_start_is_refused_before_a_process_is(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        submit.start(workspace, config(data__file=""))
    with pytest.raises(WorkspaceError, match="no such file"):
        submit.start(workspace, config(data__file=str(tmp_path / "none.json")))
    assert not list(workspace.jobs.iterdir())


def test_data_of_which_nothing_would_be_trained_fails_as_data(workspace: Workspace, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"instruction": "a", "output": ""}\n' * 3)
    job = submit.start(workspace, config(data__file=str(empty)))
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert (status.state, status.kind) == ("failed", DataError.kind)
    assert "Nothing would be trained" in status.reason
