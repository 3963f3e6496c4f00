"""The supervisor: the only place that starts processes.

One small process a workspace, started by whoever hands in a job and gone again when nothing is left to do. It starts
children in sessions of their own, starts queued jobs one after another, reaps what ended, and puts TERM and KILL behind
a forced stop. It keeps nothing in memory that the directories and locks do not say: killed at any moment, the next one
goes on where it stood.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from app.errors import JobError
from app.jobs import directory as jobs
from app.jobs import queue, warm
from app.jobs.directory import JobDirectory, Status
from app.jobs.lock import CAN_HAND_DOWN, FileLock, is_held
from app.jobs.warm import WarmWorker
from app.workspace import ENVIRONMENT_VARIABLE, Workspace, open_workspace

POLL_S = 0.2
IDLE_EXIT_S = 10.0
TERM_TO_KILL_S = 10.0
# A process that has left its last word frees memory and joins its threads; after this long it hangs.
LEAVE_WITHIN_S = 30.0
_HOUSE = Path(__file__).resolve().parents[2]
# Popen objects kept so that ended processes are reaped; nothing else depends on them.
_started: list[subprocess.Popen[bytes]] = []


def supervisor_lock(workspace: Workspace) -> Path:
    """Return the lock file that a living supervisor holds."""
    return workspace.root / "supervisor.lock"


def admission(workspace: Workspace) -> FileLock:
    """Return the lock under which jobs are admitted and the supervisor decides to leave."""
    return FileLock(workspace.root / "admission.lock")


def ensure_running(workspace: Workspace) -> None:
    """Start the supervisor unless one lives. Call it while holding `admission`."""
    reap()
    if not is_held(supervisor_lock(workspace)):
        log = workspace.root / "supervisor.log"
        _started.append(_spawn(["-m", "app.jobs.supervisor", "--workspace", str(workspace.root)], log))


def reap() -> None:
    """Collect ended processes that this process started."""
    _started[:] = [process for process in _started if process.poll() is None]


def spawn_helper(module: str, args: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a short-lived helper that talks over its standard input and output, such as the warm data child.

    A helper owns no work that must outlive its caller; it ends when its standard input closes.
    """
    command = [sys.executable, "-m", module, *args]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_HOUSE,
        env=_environment(),
    )


def open_folder(folder: Path) -> bool:
    """Open a folder in the file manager of this machine's desktop; tell whether there is one."""
    if sys.platform == "win32":
        os.startfile(folder)
        return True
    program = "open" if sys.platform == "darwin" else "xdg-open"
    has_desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    found = shutil.which(program) if has_desktop else None
    if found is None:
        return False
    quiet = subprocess.DEVNULL
    _started.append(
        subprocess.Popen([found, str(folder)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    )
    return True


def _spawn(arguments: Sequence[str], log: Path, handed_down: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with a file as its output: it outlives the one that starts it."""
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=_HOUSE,
            env=_environment(),
            pass_fds=handed_down,
            start_new_session=sys.platform != "win32",
            creationflags=flags,
        )


def _environment() -> dict[str, str]:
    """Return the child's environment: no telemetry, no progress bars in the log, no hub unless it was asked for."""
    return {
        # A person who makes warnings errors means their own code: a library's deprecation shall not end a run.
        **{name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        "PYTHONUNBUFFERED": "1",
        # PEFT writes target_modules from a set: with a fixed hash seed two equal runs write equal files.
        "PYTHONHASHSEED": "0",
        # What else a person has put on the path, such as a tracker's folder, is found by the child too.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_HOUSE), os.environ.get("PYTHONPATH")))),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


class Supervisor:
    """The loop. `step` does one round and can be called by itself."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._terminated: dict[str, float] = {}
        self._last_words: dict[str, float] = {}
        self._settled: dict[str, int] = {}
        self._warm: WarmWorker | None = None

    def run(self, lock: FileLock) -> None:
        """Serve until nothing has been left to do for a while, then let go of the supervisor's lock."""
        try:
            self._serve(lock)
        finally:
            self._let_warm_go()

    def _serve(self, lock: FileLock) -> None:
        idle_since = time.monotonic()
        while self.workspace.jobs.is_dir():
            try:
                open_jobs = self.step()
            except (JobError, OSError) as error:  # a job removed or damaged in mid-look; the next look goes without it
                print(f"{time.ctime()}: {error}", flush=True)
                open_jobs = True
            if open_jobs or warm.wished(self.workspace):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_EXIT_S:
                # Under the admission lock no job can come in between the last look and the end. The lock goes too:
                # whoever hands in the next job must not take a process that is about to leave for a supervisor.
                with admission(self.workspace):
                    if not self._open_jobs():
                        lock.release()
                        return
            time.sleep(POLL_S)

    def step(self) -> bool:
        """Reap, stop and start what is due. Return whether any job is still open."""
        open_jobs = self._open_jobs()
        for directory in open_jobs:
            self._look_after(directory)
        self._start_next(open_jobs)
        self._keep_warm(open_jobs)
        return bool(open_jobs)

    def _keep_warm(self, open_jobs: Sequence[JobDirectory]) -> None:
        """Have one worker without a job while a run is expected, and none beside one that is under way."""
        wanted = warm.wished(self.workspace) and not any(job.kind.accelerator for job in open_jobs)
        if self._warm is not None and not (wanted and self._warm.alive):
            self._let_warm_go()
        elif self._warm is None and wanted and warm.has_room():
            self._warm = WarmWorker(_spawn, self.workspace.root / "warm.log")

    def _let_warm_go(self) -> None:
        if self._warm is not None:
            self._warm.end()
            self._warm = None

    def _open_jobs(self) -> list[JobDirectory]:
        return [directory for directory in jobs.all_jobs(self.workspace) if not self._is_settled(directory)]

    def _is_settled(self, directory: JobDirectory) -> bool:
        """Tell whether a job ended, its process is gone and its status has not been touched since.

        Long histories then cost one stat a job.
        """
        try:
            stamp = directory.status_file.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if self._settled.get(directory.id) == stamp and directory.id not in self.children:
            return True
        if directory.recorded_status().final and not is_held(directory.lock_file):
            self._settled[directory.id] = stamp
        return False

    def _look_after(self, directory: JobDirectory) -> None:
        process = self.children.get(directory.id)
        if process is None:
            self._write_truth(directory)
        elif _has_ended(process):
            self._write_truth(directory, process.returncode)
            del self.children[directory.id]
            process = None
        status = directory.status()
        if status.live and directory.stop_requested():
            if directory.stop_forced():
                self._end(directory, process, status.pid)
        elif not is_held(directory.lock_file):
            self._last_words.pop(directory.id, None)
        elif status.live and process is None:
            _end_orphans(directory, status)
        elif not status.live:
            self._see_off(directory, process, status.pid)

    def _write_truth(self, directory: JobDirectory, code: int | None = None) -> None:
        """Write the last word for a child that could not write one itself. `code` is its exit status, where known."""
        if directory.status() == directory.recorded_status():
            return
        with admission(self.workspace):  # nobody resumes the job between this look and this word
            recorded = directory.recorded_status()
            truth = directory.status()
            if truth != recorded:
                directory.write_status(_last_word(recorded, truth, code))

    def _see_off(self, directory: JobDirectory, child: subprocess.Popen[bytes] | None, pid: int | None) -> None:
        """End a process that still holds its job's lock long after the last word: the queue waits for it."""
        said = self._last_words.setdefault(directory.id, time.monotonic())
        if time.monotonic() - said < LEAVE_WITHIN_S:
            return
        if self._end(directory, child, pid):
            text = f"the process had not ended {LEAVE_WITHIN_S:.0f} s after its last word and was ended"
            print(f"{time.ctime()}: {directory.id}: {text}", flush=True)
            directory.add_event("ended by force", text)

    def _end(self, directory: JobDirectory, child: subprocess.Popen[bytes] | None, pid: int | None) -> bool:
        """Send TERM to a job's process, and KILL when that has not helped. Return whether this was the first try."""
        pid = child.pid if child else pid
        if pid is None:
            return False
        first = self._terminated.get(directory.id)
        if first is None:
            self._terminated[directory.id] = time.monotonic()
            signal_group(directory, pid, signal.SIGTERM, mine=child is not None)
        elif time.monotonic() - first > TERM_TO_KILL_S:
            signal_group(directory, pid, getattr(signal, "SIGKILL", signal.SIGTERM), mine=child is not None)
            kill_orphans(pid)
        return first is None

    def _start_next(self, open_jobs: Sequence[JobDirectory]) -> None:
        """Start every queued job that may run, in the order of the queue; one owner of the accelerator at a time."""
        if not any(job.status().state == "queued" for job in open_jobs):
            return
        with admission(self.workspace):
            self._start_waiting(open_jobs)

    def _start_waiting(self, open_jobs: Sequence[JobDirectory]) -> None:
        # A job that has left its last word holds memory of the card until its process is gone.
        busy = any(job.kind.accelerator and (job.status().live or is_held(job.lock_file)) for job in open_jobs)
        for job in queue.in_order(self.workspace, open_jobs):
            if job.kind.accelerator and busy:
                continue
            busy = busy or job.kind.accelerator
            self._start(job)

    def _start(self, job: JobDirectory) -> None:
        """Start a job of which no process is left.

        Its lock is taken here and handed down, so that from the moment the job is called starting a free lock means
        that nobody runs it, however slow the start and whoever is killed in between.
        """
        lock = FileLock(job.lock_file)
        if not lock.acquire(timeout_s=0.1):
            return
        try:
            starting = replace(job.recorded_status(), state="starting", reason="", reason_on_page="", kind="", pid=None)
            job.write_status(replace(starting, process_created=None, ended=None).with_heartbeat())
            self._terminated.pop(job.id, None)
            self._last_words.pop(job.id, None)
            self.children[job.id] = self._handed(job, lock) or _spawn_worker(job, lock)
        except OSError as error:
            reason = f"its process could not be started: {error.strerror or error}"
            job.write_status(replace(job.recorded_status(), state="failed", kind="code", reason=reason))
        finally:
            lock.release()

    def _handed(self, job: JobDirectory, lock: FileLock) -> subprocess.Popen[bytes] | None:
        """Hand a job to the worker that waits for one, and return its process; None where there is none for it."""
        if self._warm is None or (process := self._warm.hand(job, lock)) is None:
            return None
        self._warm = None
        return process


def _spawn_worker(job: JobDirectory, lock: FileLock) -> subprocess.Popen[bytes]:
    """Start the process of a job; it holds the lock as soon as it exists, or takes it where that cannot be."""
    arguments = ["-m", "app.jobs.worker", str(job.path)]
    if CAN_HAND_DOWN and lock.descriptor is not None:
        return _spawn([*arguments, str(lock.descriptor)], job.log_file, [lock.descriptor])
    lock.release()
    return _spawn(arguments, job.log_file)


def _last_word(recorded: Status, truth: Status, code: int | None) -> Status:
    """Return what is written about a job whose process is gone: `recorded` is what it last said of itself."""
    if truth.state == "stopped" or code is None:
        return replace(truth, ended=time.time() if truth.final else None)
    if recorded.state == "starting":
        reason = f"the child ended with status {code} before it began; see log.txt"
        return replace(recorded, state="failed", kind="code", reason=reason, ended=time.time())
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    return replace(truth, reason=f"the process ended {how} without a last word", ended=time.time())


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a child has ended; what it started and left behind is killed before its pid can be another's."""
    if sys.platform != "win32":
        try:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # reaped before
            return process.poll() is not None
        if ended is None:
            return False
        kill_orphans(process.pid)
    return process.poll() is not None


def _end_orphans(directory: JobDirectory, status: Status) -> None:
    """Kill what is left of a job that says it lives, whose process is gone and whose lock a child of it still holds."""
    if status.pid is not None and not psutil.pid_exists(status.pid) and kill_orphans(status.pid):
        print(f"{time.ctime()}: {directory.id}: what its ended process had started was ended", flush=True)


def kill_orphans(leader: int) -> bool:
    """Kill what is left of the process group of an ended leader. Return whether anything was left.

    A group's number is nobody else's while one of its members lives.
    """
    if sys.platform == "win32":
        return False
    if psutil.pid_exists(leader) and psutil.Process(leader).status() != psutil.STATUS_ZOMBIE:
        return False
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_group(directory: JobDirectory, pid: int, number: signal.Signals, *, mine: bool = False) -> None:
    """Send a signal to a job's own process group, and only if the pid is still the process that the status names.

    A child of `mine` that was not reaped cannot have lost its pid. Its time of birth is not asked: the system counts
    it from the clock, and a clock that was set since would make it a stranger.
    """
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        recorded = directory.recorded_status().process_created
        if not mine and recorded is not None and abs(process.create_time() - recorded) > 1.0:
            return
        if sys.platform == "win32":
            process.terminate()
        elif os.getpgid(pid) == pid:
            os.killpg(pid, number)


def main() -> int:
    """Serve one workspace, unless another supervisor already does."""
    parser = argparse.ArgumentParser(prog="app.jobs.supervisor")
    parser.add_argument("--workspace", required=True)
    workspace = open_workspace(parser.parse_args().workspace)
    os.environ[ENVIRONMENT_VARIABLE] = str(workspace.root)  # what its children ask of a workspace is asked of this one
    lock = FileLock(supervisor_lock(workspace))
    if not lock.acquire(timeout_s=1.0):  # longer than any look at the lock takes
        return 0
    Supervisor(workspace).run(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
