"""A worker that is started before there is a job for it: its libraries are loaded while a form is filled in.

Importing torch, transformers, PEFT and TRL takes seconds of processor time, as long as everything else that happens
before a small run's first step. Whoever expects a run says so (`wish`); the supervisor then keeps one such process. It
owns nothing: no accelerator is touched and no lock held before it is handed a job, and with it the job's lock. It ends
when nobody has wished for it for a while, when its job ends, and when the supervisor does, killed or not, since the
socket between the two closes then.

`WORKBENCH_WARM=0` switches it off. It takes the memory of the loaded libraries, and is not started where that is short.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app.jobs import lock
from app.jobs.directory import JobDirectory
from app.workspace import Workspace

if TYPE_CHECKING:
    import subprocess

# A wish holds for so long, and is written down at most so often.
WISH_S, _AGAIN_S = 600.0, 20.0
# What the loaded libraries take (measured: 0.5 GB), with room for what else this machine does.
LEAST_FREE_BYTES = 3 << 30
MODULE = "app.training.worker"
_PACKAGE = MODULE.rpartition(".")[0] + "."
# A process that is let go has this long to end by itself.
_END_S = 5.0
_LONGEST_PATH = 1 << 16
READY = "the libraries are loaded"
CAN_WARM = lock.CAN_HAND_DOWN and hasattr(socket, "send_fds")


def wish(workspace: Workspace) -> bool:
    """Note that a run is expected soon. Return whether that is news, so that a supervisor has to be seen to."""
    file = _wish_file(workspace)
    if not CAN_WARM or os.environ.get("WORKBENCH_WARM") == "0" or _age(file) < _AGAIN_S:
        return False
    with suppress(OSError):  # a full disk: the run starts a few seconds later
        file.touch()
        return True
    return False


def wished(workspace: Workspace) -> bool:
    """Tell whether a run is expected soon."""
    return CAN_WARM and _age(_wish_file(workspace)) < WISH_S


def _wish_file(workspace: Workspace) -> Path:
    return workspace.root / "warm.wish"


def _age(file: Path) -> float:
    try:
        return abs(time.time() - file.stat().st_mtime)
    except OSError:
        return float("inf")


class WarmWorker:
    """The supervisor's end: a process without a job, and the socket to it."""

    def __init__(self, spawn: Callable[[list[str], Path, list[int]], subprocess.Popen[bytes]], log: Path) -> None:
        """`spawn` starts a process from its arguments, its log and the descriptors that it gets."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = ["-m", "app.jobs.worker", "--warm", str(theirs.fileno())]
            self.process = spawn(arguments, log, [theirs.fileno()])

    @property
    def alive(self) -> bool:
        """Tell whether its process lives."""
        return self.process.poll() is None

    def hand(self, job: JobDirectory, held: lock.FileLock) -> subprocess.Popen[bytes] | None:
        """Hand over a job with its lock and return its process; None where it cannot be handed over."""
        if not fits(job) or not self.alive or held.descriptor is None:
            return None
        try:
            socket.send_fds(self._socket, [os.fsencode(job.path)], [held.descriptor])
        except OSError:
            return None
        self._socket.close()
        return self.process

    def end(self) -> None:
        """Let it go, and wait until it has."""
        self._socket.close()
        self.process.terminate()
        ends = time.monotonic() + _END_S
        while self.alive and time.monotonic() < ends:
            time.sleep(0.02)
        if self.alive:
            self.process.kill()
            self.process.wait()


def fits(job: JobDirectory) -> bool:
    """Tell whether a job is of those whose libraries are loaded: training in one process, and what measures it."""
    return job.kind.module.startswith(_PACKAGE) and job.processes == 1


def has_room() -> bool:
    """Tell whether the libraries of a worker fit into the memory that is free."""
    return psutil.virtual_memory().available > LEAST_FREE_BYTES


def wait_for_job(descriptor: int) -> JobDirectory | None:
    """Load the libraries, and return the job that is handed over, its lock held; None when there will be none.

    From then on the process writes into the job's log.
    """
    import_module(MODULE)
    print(READY, flush=True)
    with socket.socket(fileno=descriptor) as theirs:
        theirs.set_inheritable(False)
        message, descriptors, _, _ = socket.recv_fds(theirs, _LONGEST_PATH, 1)
    if not message or not descriptors:
        return None
    job = JobDirectory(Path(os.fsdecode(message)))
    lock.keep(descriptors[0])
    log = os.open(job.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    return job
