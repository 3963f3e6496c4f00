"""The child's side of the job directory: hold the lock, beat, report, hear a stop, leave a last word."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any, Literal, TypeVar

import psutil

from app.errors import WorkbenchError
from app.jobs.directory import JobDirectory, State, Status
from app.jobs.lock import FileLock
from app.jobs.metrics import MetricsWriter, rewind
from app.reading import parsed_as
from app.redaction import redact

HEARTBEAT_S = 2.0
# A folder that was away for so many beats in a row was deleted; a disk that was away for a moment comes back sooner.
_GONE_BEATS = 15
Outcome = Literal["finished", "stopped"]
# The figures of what came of a job, as plain data.
Result = Mapping[str, object]
# What a kind's module offers as `work`.
Work = Callable[["JobChild"], tuple[Outcome, Result]]
Request = TypeVar("Request")


class JobChild:
    """A running job, seen from inside. Use it through `run_job`."""

    def __init__(self, directory: JobDirectory) -> None:
        self.directory = directory
        self._mutex = threading.Lock()
        self._terminated = threading.Event()
        self._ended = threading.Event()
        self._status = Status(
            state="running",
            pid=os.getpid(),
            process_created=psutil.Process().create_time(),
            started=time.time(),
            step=directory.recorded_status().step,
            phase="loading libraries",
        )
        self._metrics = MetricsWriter(directory.metrics_file)

    @property
    def config(self) -> dict[str, Any]:
        """Return what the job was asked to do."""
        return self.directory.config

    def request(self, kind: type[Request]) -> Request:
        """Return what the job was asked to do as a request of its kind. Raises ValueError where it is none."""
        return parsed_as(kind, self.config)

    def begin(self) -> None:
        """Write the first status and start the heartbeat."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._write()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def progress(self, step: int, of: int, phase: str = "") -> None:
        """Report how far the job is, in its own unit."""
        self._update(step=step, of=of, phase=phase)

    def metric(self, row: Mapping[str, object]) -> None:
        """Append a row of a logged step: at least `step` and `loss`; the time is added."""
        self._metrics.write({**row, "time": time.time()})

    def event(self, event: str, message: str, **facts: object) -> None:
        """Append an event: a mark on the curve, with figures of its own."""
        row = {"event": event, "message": redact(message), "step": self._status.step, "time": time.time(), **facts}
        self._metrics.write(row)

    def rewind_metrics(self, step: int) -> int:
        """Drop the rows after `step`, which will be run again. Return how many there were."""
        self._metrics.close()
        dropped = rewind(self.directory.metrics_file, step)
        self._metrics = MetricsWriter(self.directory.metrics_file)
        return dropped

    def stop_requested(self) -> bool:
        """Tell whether the job shall end now, by a stop request or a TERM signal."""
        if not self._terminated.is_set() and not self.directory.stop_requested():
            return False
        if self._status.state == "running":
            self._update(state="stopping")
        return True

    def end(
        self,
        state: State,
        reason: str = "",
        kind: str = "",
        result: Result | None = None,
        reason_on_page: str = "",
    ) -> None:
        """Write the last word."""
        self._ended.set()
        words = {"reason": redact(reason), "reason_on_page": redact(reason_on_page)}
        said = {**words, "kind": kind, "result": dict(result or {})}
        try:
            self._update(state=state, ended=time.time(), **said)
        except OSError:  # a full disk has no room for another file, but the last word must not be lost
            self.directory.overwrite_status(self._status)
        self._metrics.close()

    def _update(self, **changes: Any) -> None:
        with self._mutex:
            self._status = replace(self._status, **changes)
        self._write()

    def _write(self) -> None:
        with self._mutex:
            self._status = self._status.with_heartbeat()
            self.directory.write_status(self._status)

    def _beat(self) -> None:
        gone = 0
        while not self._ended.wait(HEARTBEAT_S):
            gone = 0 if self.directory.path.is_dir() else gone + 1
            if gone == _GONE_BEATS:  # nobody can ask this job to stop any more: an engine would stay for ever
                self._terminated.set()
            with suppress(OSError):  # a full disk is reported by the work itself; the beat must not end the run
                self._write()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated.set()


def run_job(directory: JobDirectory, find_work: Callable[[], Work]) -> int:
    """Run a job and leave a last word, whatever happens. Return the exit status.

    The lock is taken and the heartbeat started before `find_work` imports what the work needs: loading torch and its
    company takes ten seconds and more, in which nobody could tell whether the child lives.
    """
    lock = FileLock(directory.lock_file)
    # A run that is resumed right after its stop waits for the old process, which still holds memory of the card.
    if not lock.acquire(timeout_s=60.0):
        print(f"The job {directory.id} already runs.", file=sys.stderr)
        return 1
    return run_locked(directory, find_work)


def run_locked(directory: JobDirectory, find_work: Callable[[], Work]) -> int:
    """Run a job whose lock this process holds, to its last word. Return the exit status."""
    child = JobChild(directory)
    child.begin()
    try:
        outcome, result = find_work()(child)
        child.end(outcome, result=result)
        return 0
    except BaseException as error:  # the last word must be written for every way to end; the error goes to the log
        print(redact(traceback.format_exc()), file=sys.stderr)
        kind, reason = explain(error)
        on_page = error.line(on_page=True) if isinstance(error, WorkbenchError) and error.on_page else ""
        with suppress(OSError):  # a full disk takes no row; the status is the word that counts
            child.event("failed", reason)
        child.end("failed", reason=reason, reason_on_page=on_page, kind=kind)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to save


def explain(error: BaseException) -> tuple[str, str]:
    """Return the kind (memory, disk, data, code) and the plain line of an error."""
    if isinstance(error, WorkbenchError):
        return error.kind, error.line()
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}"[:500].rstrip(".")
    if is_out_of_memory(error):
        return "memory", f"Out of memory. {line}. Choose a smaller micro-batch or sequence length."
    if is_disk_full(error):
        return "disk", f"The disk is full or the file too large. {line}. Free room and resume the run."
    return "code", f"{line}. The log has the details."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on the accelerator or on the machine.

    A thread that cannot be started lacks room for its stack: Python says no more of it.
    """
    text = str(error).lower()
    told = ("out of memory", "can't allocate memory", "cannot allocate memory", "can't start new thread")
    return isinstance(error, MemoryError) or any(words in text for words in told)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error means that a file could not grow. torch.save reports it as a RuntimeError (measured)."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return True
    text = str(error).lower()
    return any(
        words in text
        for words in (
            "no space left",
            "file write failed",
            "file too large",
            "pytorchstreamwriter failed",
            # What torch.save says of a file that was cut off in the middle.
            "iostream error",
            "inline_container.cc",
            "disk quota",
        )
    )
