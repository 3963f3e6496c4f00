"""The whole mechanism with real processes: submit, queue, stop, kill, resume, a killed supervisor."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest

from app.errors import BusyError, JobError
from app.jobs import directory, requests, supervisor
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory, Status
from app.jobs.lock import FileLock, is_held
from app.jobs.metrics import events_of, read_rows, steps_of
from app.workspace import Workspace


def running_at(job: JobDirectory, step: int) -> Status:
    return requests.wait(job, lambda status: status.state == "running" and status.step >= step, timeout_s=60)


def steps(job: JobDirectory) -> list[int]:
    return [row["step"] for row in steps_of(read_rows(job.metrics_file))]


def test_a_job_runs_to_its_end(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 5, "step_s": 0.01})
    status = requests.wait(job, timeout_s=60)
    assert (status.state, status.step, status.of, status.result) == ("finished", 5, 5, {"steps": 5})
    assert steps(job) == [1, 2, 3, 4, 5]
    assert job.describe().as_dict()["last"]["step"] == 5
    end = time.monotonic() + 10  # the last word is written just before the process ends
    while is_held(job.lock_file) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_held(job.lock_file)


@pytest.mark.skipif(os.name == "nt", reason="Windows has classes in place of steps")
def test_a_job_lets_the_page_go_first(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 500, "step_s": 0.02})
    pid = running_at(job, 1).pid
    assert psutil.Process(pid).nice() == min(19, psutil.Process().nice() + 5)
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=60).state == "stopped"


@pytest.mark.parametrize(
    ("fault", "state", "kind"),
    [
        ("crash", "failed", "code"),
        ("memory", "failed", "memory"),
        ("disk", "failed", "disk"),
        ("kill", "interrupted", ""),
    ],
)
@pytest.mark.fault("F13")
def test_every_bad_end_is_told_truly(workspace: Workspace, fault: str, state: str, kind: str) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 9, "step_s": 0.01, "fault": fault, "fault_step": 3})
    status = requests.wait(job, timeout_s=60)
    assert (status.state, status.kind, status.step) == (state, kind, 2)
    assert status.reason


def test_a_number_that_is_not_finite_does_not_break_the_curve(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 4, "step_s": 0.01, "fault": "nan", "fault_step": 2})
    assert requests.wait(job, timeout_s=60).state == "finished"
    assert [row["loss"] is None for row in steps_of(read_rows(job.metrics_file))] == [False, True, False, False]


@pytest.mark.fault("F11")
def test_twenty_starts_at_once_give_one_job_and_nineteen_refusals(workspace: Workspace) -> None:
    def start(_: int) -> str:
        try:
            return requests.submit(workspace, "selftest", {"steps": 100, "step_s": 0.05}).id
        except BusyError:
            return "refused"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(start, range(20)))
    assert answers.count("refused") == 19
    assert len(directory.all_jobs(workspace)) == 1


def test_a_queued_job_waits_for_the_owner_and_can_be_taken_back(workspace: Workspace) -> None:
    first = requests.submit(workspace, "selftest", {"steps": 20, "step_s": 0.05})
    second = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01}, queue=True)
    third = requests.submit(workspace, "selftest", {"steps": 2}, queue=True)
    running_at(first, 1)
    requests.stop(workspace, third)
    assert second.status().state == "queued"
    assert requests.wait(third, timeout_s=30).state == "stopped"
    assert requests.wait(second, timeout_s=60).state == "finished"
    assert first.status().state == "finished"
    assert (second.status().started or 0) >= (first.status().ended or 0)


@pytest.mark.fault("F12")
def test_stop_ends_within_a_step_and_is_idempotent(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 500, "step_s": 0.05})
    running_at(job, 2)
    requests.stop(workspace, job)
    asked_at = job.recorded_status().step
    requests.stop(workspace, job)
    status = requests.wait(job, timeout_s=30)
    assert status.state == "stopped"
    assert status.step <= asked_at + 1
    assert requests.stop(workspace, job).state == "stopped"


@pytest.mark.fault("F12")
def test_a_hung_child_is_ended_by_force_alone_and_though_the_clock_was_set(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 9, "step_s": 0.01, "fault": "hang", "fault_step": 3})
    pid = running_at(job, 2).pid
    requests.stop(workspace, job)
    time.sleep(1.0)
    assert job.status().live
    assert pid is not None
    bystander = psutil.Process()
    psutil.Process(pid).suspend()  # its heartbeat no longer writes what it takes for its time of birth
    status = job.recorded_status()
    job.write_status(replace(status, process_created=(status.process_created or 0) - 3600))
    requests.stop(workspace, job, force=True)
    status = requests.wait(job, timeout_s=40)
    assert status.state == "stopped" and "force" in status.reason
    assert bystander.is_running()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.fault("F4")
def test_a_killed_child_is_interrupted_within_five_seconds_and_can_resume(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 30, "step_s": 0.05})
    pid = running_at(job, 3).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert requests.wait(job, timeout_s=5).state == "interrupted"
    requests.resume(workspace, job)
    assert requests.wait(job, timeout_s=60).state == "finished"
    with pytest.raises(JobError, match="finished"):
        requests.resume(workspace, job)


def kill_supervisor(workspace: Workspace) -> None:
    """Kill the workspace's supervisor and wait until it is gone."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "app.jobs.supervisor" in words and str(workspace.root) in words:
            process.kill()
            process.wait(10)
    assert not is_held(supervisor.supervisor_lock(workspace))


def test_a_killed_supervisor_leaves_the_job_alone_and_the_next_one_reattaches(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 80, "step_s": 0.05})
    waiting = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01}, queue=True)
    pid = running_at(job, 2).pid
    kill_supervisor(workspace)
    assert job.status().state == "running"
    requests.ensure_supervised(workspace)
    assert requests.wait(job, timeout_s=60).state == "finished"
    assert job.status().pid == pid
    assert steps(job) == list(range(1, 81))
    assert requests.wait(waiting, timeout_s=60).state == "finished"


def test_a_living_job_is_not_removed(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 100, "step_s": 0.05})
    with pytest.raises(JobError, match="Stop it"):
        removed.delete(workspace, job)
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=30)
    removed.delete(workspace, job)
    assert not job.path.exists()


def test_an_event_is_a_mark_on_the_curve(workspace: Workspace) -> None:
    job = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01})
    requests.wait(job, timeout_s=60)
    job.add_event("note", "looked at it")
    assert events_of(read_rows(job.metrics_file))[-1]["message"] == "looked at it"


@pytest.mark.fault("F16")
def test_a_child_that_stops_answering_is_silent_and_recovers(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SILENT_AFTER_S", 3.0)
    job = requests.submit(workspace, "selftest", {"steps": 900, "step_s": 0.05})
    pid = running_at(job, 2).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert requests.wait(job, lambda status: status.silent, timeout_s=30).state == "running"
    os.kill(pid, signal.SIGCONT)
    assert requests.wait(job, lambda status: not status.silent, timeout_s=30).state == "running"
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=30).state == "stopped"


class Started:
    """A supervisor in this process whose children are started and then looked at by hand."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
        self.job = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01})
        self.supervisor = supervisor.Supervisor(workspace)
        self.supervisor.step()
        self.child = self.supervisor.children[self.job.id]


def test_a_child_holds_its_lock_before_it_has_said_a_word(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(workspace, monkeypatch)
    os.kill(started.child.pid, signal.SIGSTOP)
    assert is_held(started.job.lock_file)
    assert started.job.status().live
    os.kill(started.child.pid, signal.SIGCONT)
    assert requests.wait(started.job, timeout_s=60).state == "finished"
    started.child.wait(30)
    assert not is_held(started.job.lock_file)


def test_a_child_killed_while_it_starts_is_told_by_its_supervisor(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(workspace, monkeypatch)
    started.child.kill()
    started.child.wait(30)
    if started.job.recorded_status().state == "starting":  # it had no time to say that it runs
        assert started.job.status().state == "queued"
    started.supervisor.step()
    status = started.job.status()
    assert status.state in ("failed", "interrupted") and "9" in status.reason


def test_a_child_and_a_supervisor_killed_in_the_start_cost_no_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    job = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01})
    job.write_status(Status(state="starting").with_heartbeat())  # the supervisor's last act
    monkeypatch.undo()
    requests.ensure_supervised(workspace)
    assert requests.wait(job, timeout_s=60).state == "finished"


def test_a_resume_between_look_and_word_is_not_lost(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    job = requests.submit(workspace, "selftest", {"steps": 2})
    job.write_status(Status(state="running", step=1))
    admission, resumed = supervisor.admission, []

    def resume_first(asked: Workspace) -> FileLock:
        if not resumed:
            resumed.append(job)
            requests.resume(workspace, job)
        return admission(asked)

    monkeypatch.setattr(supervisor, "admission", resume_first)
    supervisor.Supervisor(workspace)._look_after(job)
    assert resumed and job.status().state == "queued"
    requests.stop(workspace, job)


def test_a_supervisor_that_leaves_is_no_supervisor_any_more(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "IDLE_EXIT_S", 0.0)
    lock = FileLock(supervisor.supervisor_lock(workspace))
    assert lock.acquire()
    supervisor.Supervisor(workspace).run(lock)
    assert not is_held(supervisor.supervisor_lock(workspace))


def test_the_accelerator_is_free_when_the_process_is_gone_not_when_it_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    first = requests.submit(workspace, "selftest", {"steps": 2})
    first.write_status(Status(state="finished"))
    leaving = FileLock(first.lock_file)
    assert leaving.acquire()
    second = requests.submit(workspace, "selftest", {"steps": 2, "step_s": 0.01})
    looking = supervisor.Supervisor(workspace)
    looking.step()
    looking.step()
    assert second.status().state == "queued"
    leaving.release()
    looking.step()
    assert requests.wait(second, timeout_s=60).state == "finished"
    looking.children[second.id].wait(30)
