"""One run shared by two processes (gloo, on a processor): the same curve, one report, killed and resumed bitwise."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.errors import ConfigError
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import events_of, read_rows, steps_of
from app.runs.submission import submit
from app.training.memory.oom_fallback import next_rung
from app.workspace import Workspace, open_workspace

DATA = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"
STEPS = 10
TIMEOUT_S = 240.0


def config(processes: int, **changes: object) -> RunConfig:
    return presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "training.max_steps": STEPS,
            "training.save_steps": 4,
            "training.gradient_accumulation_steps": 2,
            "training.per_device_train_batch_size": 1,
            "training.num_processes": processes,
            "data.validation_split": 0.1,
            "training.eval_steps": 4,
            **changes,
        }
    )


def finished(workspace: Workspace, settings: RunConfig) -> JobDirectory:
    job = submit.start(workspace, settings)
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert status.state == "finished", f"{status.reason}\n{job.log_file.read_text()[-3000:]}"
    return job


def losses_of(job: JobDirectory) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in steps_of(read_rows(job.metrics_file))]


def adapter_of(job: JobDirectory) -> bytes:
    return (job.result / "adapter" / "adapter_model.safetensors").read_bytes()


def processes_of(job: JobDirectory) -> dict[str, psutil.Process]:
    """Return the processes of a job by rank; the launcher has none."""
    found = {}
    for process in psutil.process_iter():
        try:
            if str(job.path) in process.cmdline():
                found[process.environ().get("RANK", "launcher")] = process
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobDirectory]:
    """Return a finished run of two processes."""
    yield finished(open_workspace(tmp_path_factory.mktemp("shared")), config(2))


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(workspace: Workspace, shared: JobDirectory) -> None:
    alone = losses_of(finished(workspace, config(1)))
    assert [step for step, _ in losses_of(shared)] == [step for step, _ in alone]
    assert [loss for _, loss in losses_of(shared)] == pytest.approx([loss for _, loss in alone], abs=1e-3)
    # What is compared can differ: two processes that do not share their gradients learn something else.
    assert len({round(loss, 4) for _, loss in alone}) > STEPS // 2


def test_one_of_the_processes_reports(shared: JobDirectory) -> None:
    told = events_of(read_rows(shared.metrics_file))
    events = [(row["event"], row["step"]) for row in told if row["event"] != "note"]
    assert sorted(events) == [(kind, step) for kind in ("checkpoint", "validation") for step in (4, 8, 10)]
    assert {path.name for path in shared.checkpoints.iterdir()} == {"step-4", "step-8", "step-10"}
    for step in (4, 8, 10):
        for rank in (0, 1):
            assert (shared.checkpoints / f"step-{step}" / f"rng_state_{rank}.pth").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by POSIX signals")
@pytest.mark.parametrize("victim", ["launcher", "1"])
def test_killed_it_leaves_nobody_behind_and_resumes_bitwise(
    workspace: Workspace, shared: JobDirectory, victim: str
) -> None:
    job = submit.start(workspace, config(2))
    requests.wait(job, lambda status: status.phase == "training" and status.step >= 5, timeout_s=TIMEOUT_S, poll_s=0.02)
    running = processes_of(job)
    assert set(running) == {"launcher", "0", "1"}
    listening = [
        c.laddr.ip for one in running.values() for c in one.net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert set(listening) <= {"127.0.0.1", "::1"}
    os.kill(running[victim].pid, signal.SIGKILL)
    # That nobody holds the job any more is seen before its supervisor has said why.
    requests.wait(job, timeout_s=60)
    end = time.monotonic() + 30
    while "signal 9" not in (status := job.status()).reason and time.monotonic() < end:
        time.sleep(0.05)
    assert status.state == "interrupted" and "signal 9" in status.reason, status.reason
    psutil.wait_procs(running.values(), timeout=30)
    assert not processes_of(job)
    requests.resume(workspace, job)
    assert requests.wait(job, timeout_s=TIMEOUT_S).state == "finished", job.log_file.read_text()[-3000:]
    assert losses_of(job) == losses_of(shared)
    assert adapter_of(job) == adapter_of(shared)


@pytest.mark.slow
def test_a_stop_is_heard_by_all_and_saved(workspace: Workspace) -> None:
    job = submit.start(workspace, config(2, **{"training.max_steps": 200}))
    requests.wait(job, lambda status: status.phase == "training" and status.step >= 2, timeout_s=TIMEOUT_S, poll_s=0.02)
    requests.stop(workspace, job)
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert status.state == "stopped", status.reason
    assert (job.checkpoints / f"step-{status.step}" / "complete.json").is_file()


def test_what_fails_in_every_process_is_said_once_and_plainly(workspace: Workspace) -> None:
    # Only the processes themselves find out that the model has no such module.
    job = submit.start(workspace, config(2, **{"adapter.modules_to_save": ["lm_head_that_is_not"]}))
    status = requests.wait(job, timeout_s=TIMEOUT_S)
    assert status.state == "failed"
    assert "lm_head_that_is_not" in status.reason


def test_processes_that_cannot_share_a_step_evenly_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 processes cannot share 3 micro-batches"):
        config(2, **{"training.gradient_accumulation_steps": 3})


def test_more_processes_than_the_machine_has_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="use at most"):
        submit.check(workspace, config(64, **{"training.gradient_accumulation_steps": 64}))


def test_the_memory_ladder_keeps_the_share_even() -> None:
    settings = config(2, **{"training.per_device_train_batch_size": 5})
    rung = next_rung(settings)
    assert rung is not None
    assert settings.changed(rung.changes).effective_batch == settings.effective_batch
