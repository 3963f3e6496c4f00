"""Processes that hang, are left behind, are interrupted with others or have no room: real children, real signals."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.jobs import directory, requests, supervisor
from app.jobs.directory import JobDirectory
from app.jobs.lock import is_held
from app.jobs.metrics import events_of, read_rows, steps_of
from app.workspace import Workspace

HOUSE = Path(__file__).resolve().parents[2]


def reached(state: Callable[[], bool], patience_s: float = 30.0) -> bool:
    end = time.monotonic() + patience_s
    while not state() and time.monotonic() < end:
        time.sleep(0.02)
    return state()


def running(job: JobDirectory, step: int = 2) -> int:
    status = requests.wait(job, lambda now: now.state == "running" and now.step >= step, timeout_s=60)
    assert status.pid is not None
    return status.pid


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def looking(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[supervisor.Supervisor]:
    """A supervisor in this process, whose rounds are done by hand and whose patience is short."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    monkeypatch.setattr(supervisor, "LEAVE_WITHIN_S", 0.5)
    monkeypatch.setattr(supervisor, "TERM_TO_KILL_S", 1.0)
    started: list[subprocess.Popen[bytes]] = []
    spawn = supervisor._spawn

    def kept(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(spawn(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(supervisor, "_spawn", kept)
    yield supervisor.Supervisor(workspace)
    for process in started:
        process.kill()
        process.wait(20)


LINGERING = {"steps": 2, "step_s": 0.01, "fault": "linger", "fault_step": 1}


@pytest.mark.parametrize("reattached", [False, True], ids=["own child", "another supervisor's child"])
def test_a_process_that_hangs_after_its_last_word_is_ended_and_the_queue_goes_on(
    workspace: Workspace, looking: supervisor.Supervisor, reattached: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    first = requests.submit(workspace, "selftest", LINGERING)
    second = requests.submit(workspace, "selftest", {"steps": 1, "step_s": 0.01}, queue=True)
    looking.step()
    pid = looking.children[first.id].pid
    assert requests.wait(first, timeout_s=60).state == "finished"
    if reattached:
        looking = supervisor.Supervisor(workspace)
    looking.step()
    assert is_held(first.lock_file) and second.status().state == "queued"
    assert reached(lambda: (looking.step(), second.status().state == "finished")[1]), second.status()
    assert gone(pid) and first.status().state == "finished"
    (told,) = [row for row in events_of(read_rows(first.metrics_file)) if row["event"] == "ended by force"]
    assert "after its last word" in told["message"]
    assert first.id in capsys.readouterr().out
    looking.step()


def test_a_job_resumed_while_its_old_process_hangs_starts_when_that_is_gone(
    workspace: Workspace, looking: supervisor.Supervisor
) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 200, "step_s": 0.02, "fault": "linger", "fault_step": 1})
    looking.step()
    old = running(job)
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=30).state == "stopped"
    requests.resume(workspace, job)
    assert is_held(job.lock_file) and job.status().state == "queued"
    assert reached(lambda: bool(looking.step()) and job.status().state == "running")
    assert gone(old) and job.status().pid != old
    requests.stop(workspace, job)
    assert reached(lambda: not looking.step() or job.status().final)
    assert reached(lambda: (looking.step(), not is_held(job.lock_file))[1])


def test_a_process_that_hears_no_term_is_killed(workspace: Workspace, looking: supervisor.Supervisor) -> None:
    job = requests.submit(workspace, "selftest", LINGERING)
    looking.step()
    pid = looking.children[job.id].pid
    assert requests.wait(job, timeout_s=60).state == "finished"
    os.kill(pid, signal.SIGSTOP)
    assert reached(lambda: bool(looking.step()) is False)
    assert not psutil.pid_exists(pid)


@pytest.mark.fault("F15")
@pytest.mark.parametrize("reattached", [False, True], ids=["own child", "another supervisor's child"])
def test_what_a_killed_process_had_started_is_ended_with_it(
    workspace: Workspace, looking: supervisor.Supervisor, reattached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("forking")))
    job = requests.submit(workspace, "selftest", {"steps": 900, "step_s": 0.02})
    looking.step()
    pid = running(job)
    left = psutil.Process(pid).children(recursive=True)
    assert len(left) == 2
    if reattached:
        supervised = looking.children[job.id]
        looking = supervisor.Supervisor(workspace)
    os.kill(pid, signal.SIGKILL)
    if reattached:
        supervised.wait(10)
    assert reached(lambda: (bool(looking.step()), job.status().state)[1] == "interrupted", 10)
    assert reached(lambda: all(gone(child.pid) for child in left), 10)
    assert not is_held(job.lock_file)


@pytest.mark.fault("F12")
def test_a_stop_before_the_first_step_and_after_the_last_one(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 200, "step_s": 2.0})
    requests.wait(job, lambda status: status.live, timeout_s=30)
    requests.stop(workspace, job)
    requests.stop(workspace, job)
    status = requests.wait(job, timeout_s=30)
    assert status.state == "stopped" and status.step <= 1
    before = job.status_file.read_bytes()
    for force in (False, True):
        assert requests.stop(workspace, job, force=force).state == "stopped"
    assert job.status_file.read_bytes() == before


SUBMITTING = """
import sys, time
from app.jobs import requests
from app.workspace import open_workspace
job = requests.submit(open_workspace(sys.argv[1]), "selftest", {"steps": 150, "step_s": 0.02})
print(job.id, flush=True)
time.sleep(600)
"""


@pytest.mark.fault("F2")
@pytest.mark.fault("F3")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_what_ends_the_whole_group_of_a_server_does_not_reach_its_runs(
    workspace: Workspace, number: signal.Signals
) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SUBMITTING, str(workspace.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=HOUSE,
        start_new_session=True,
    )
    assert server.stdout is not None
    job = directory.find(workspace, server.stdout.readline().strip())
    pid = running(job)
    os.killpg(server.pid, number)
    server.wait(20)
    server.stdout.close()
    at = job.status().step
    assert requests.wait(job, lambda status: status.step > at, timeout_s=20).state == "running"
    requests.stop(workspace, job)
    status = requests.wait(job, timeout_s=30)
    assert (status.state, status.pid) == ("stopped", pid)
    assert [row["step"] for row in steps_of(read_rows(job.metrics_file))] == list(range(1, status.step + 1))


@pytest.mark.fault("F7")
def test_a_metrics_file_that_may_not_grow_fails_as_disk_and_every_line_is_whole(workspace: Workspace) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    job = directory.create(workspace, "selftest", {"steps": 900, "step_s": 0.0})
    done = subprocess.run(
        [sys.executable, "-m", "app.jobs.worker", str(job.path)],
        cwd=HOUSE,
        preexec_fn=small_files,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
    status = job.status()
    assert done.returncode == 1 and (status.state, status.kind) == ("failed", "disk")
    kept = [row["step"] for row in steps_of(read_rows(job.metrics_file))]
    # A row of which only the line's end found no room is whole, but its step had not been counted yet.
    assert kept == list(range(1, len(kept) + 1)) and len(kept) - status.step in (0, 1)
    job.add_event("note", "there is room again")
    assert [row["step"] for row in steps_of(read_rows(job.metrics_file))] == kept
    assert events_of(read_rows(job.metrics_file))[-1]["event"] == "note"


@pytest.mark.fault("F22")
def test_of_many_supervisors_one_stays(workspace: Workspace) -> None:
    requests.submit(workspace, "selftest", {"steps": 900, "step_s": 0.02})
    assert reached(lambda: is_held(supervisor.supervisor_lock(workspace)))
    command = [sys.executable, "-m", "app.jobs.supervisor", "--workspace", str(workspace.root)]
    others = [subprocess.Popen(command, cwd=HOUSE) for _ in range(3)]
    assert [other.wait(30) for other in others] == [0, 0, 0]
    assert len(directory.all_jobs(workspace)) == 1
