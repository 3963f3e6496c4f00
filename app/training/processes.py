"""A run in several processes of one machine: torch's own launcher starts them, accelerate's state is what they share.

The job's process becomes the launcher: it holds the job's lock, starts one process a card (or a share of the processor)
and writes the last word where a process fails. The first process reports into the job directory as a single one would;
the others follow it in silence. They find each other through a file in the job directory and talk over the loopback
interface, so nothing listens where another machine could reach it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from app import devices
from app.errors import WorkbenchError
from app.files import replace_file
from app.jobs.child import JobChild, Work, explain
from app.jobs.directory import JobDirectory, State
from app.reading import parsed_json

# The exit status of a process that wants all of them started again, with what it has changed meanwhile.
AGAIN = 75
# How long the others wait for the first one, which may have a large file to tokenise.
_PATIENCE = timedelta(hours=24)
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_PR_SET_PDEATHSIG = 1
_WATCH_S = 1.0


class StartAgain(Exception):
    """Raised in a process where memory ran out: every process must begin anew with the smaller settings."""


class Follower(JobChild):
    """The job as every process but the first sees it: it hears a stop, and says nothing."""

    def begin(self) -> None:
        """Hear the TERM signal."""
        signal.signal(signal.SIGTERM, self._on_terminate)

    def metric(self, row: Mapping[str, object]) -> None:
        """Leave the row to the first process."""

    def event(self, event: str, message: str, **facts: object) -> None:
        """Leave the event to the first process."""

    def rewind_metrics(self, step: int) -> int:
        """Leave the curve as it is."""
        return 0

    def end(
        self,
        state: State,
        reason: str = "",
        kind: str = "",
        result: Mapping[str, object] | None = None,
        reason_on_page: str = "",
    ) -> None:
        """Leave the last word to the first process."""

    def _write(self) -> None:
        """Leave the status to the first process."""


def count() -> int:
    """Return how many processes share this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this process is the one that reports and writes."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if distributed.is_initialized():
        any_says(False)


def any_says(here: bool) -> bool:
    """Return whether any process says so; all of them get the same answer, so they can act on it together."""
    if not distributed.is_initialized():
        return here
    said = torch.tensor([int(here)], device=devices.shared_by(distributed.get_backend()))
    distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
    return bool(said.item())


def launch(directory: JobDirectory) -> int:
    """Run a job whose lock this process holds in as many processes as it asks for. Return the exit status."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    while True:
        for word in directory.path.glob("process-*.json"):
            word.unlink()
        try:
            _run(directory)
            return 0
        except ChildFailedError as failed:
            if any(failure.exitcode == AGAIN for failure in failed.failures.values()):
                continue
            _last_word(directory, {rank: failure.exitcode for rank, failure in failed.failures.items()})
            return 1
        except SignalException:
            return 1


def _run(directory: JobDirectory) -> None:
    """Start the processes with torch's launcher and wait for them. Raises what torch raises when one fails."""
    from torch.distributed import run

    processes = directory.processes
    with tempfile.TemporaryDirectory(prefix="lora-workbench-") as meeting:
        os.environ["WORKBENCH_MEETING"] = str(Path(meeting) / "processes")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        os.environ.update(GLOO_SOCKET_IFNAME=_LOOPBACK, NCCL_SOCKET_IFNAME=_LOOPBACK)
        # Else the launcher listens on every interface for what these processes find in the file.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        run.run(
            run.parse_args(
                [
                    f"--nproc-per-node={processes}",
                    "--nnodes=1",
                    "--max-restarts=0",
                    "--monitor-interval=0.2",
                    "--local-addr=127.0.0.1",
                    "--rdzv-backend=c10d",
                    f"--rdzv-endpoint={Path(meeting) / 'launcher'}",
                    "--rdzv-conf=store_type=file",
                    f"--rdzv-id={directory.id}",
                    "-m",
                    "app.jobs.worker",
                    str(directory.path),
                ]
            )
        )


def _last_word(directory: JobDirectory, codes: Mapping[int, int]) -> None:
    """Write why the run ended: a process was killed, or the word of the one that failed first.

    `codes` are the exit statuses by process, negative for a signal. That a process was merely left by another, which
    its library reports as an error of the network, counts only where nothing else is known.
    """
    words = []
    for path in sorted(directory.path.glob("process-*.json")):
        with suppress(OSError, ValueError):
            words.append(parsed_json(path.read_text(encoding="utf-8")))
    status = directory.recorded_status()
    if status.final:
        return
    killed = [f"process {rank} was ended by signal {-code}" for rank, code in codes.items() if code < 0]
    if killed and all(word["left_alone"] for word in words):
        directory.write_status(replace(status, state="interrupted", ended=time.time(), reason="; ".join(killed)))
        return
    if not words:
        return
    word = min(words, key=lambda one: (one["left_alone"], one["time"]))
    failed = replace(status, state="failed", ended=time.time(), reason=str(word["reason"]), kind=str(word["kind"]))
    directory.add_event("failed", failed.reason)
    directory.write_status(replace(failed, reason_on_page=str(word["reason_on_page"])).with_heartbeat())


def run_one(directory: JobDirectory, work: Work) -> int:
    """Run this process's part of a job that `launch` has started. Return the exit status."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    _die_with_launcher()
    child = JobChild(directory) if rank == 0 else Follower(directory)
    child.begin()
    try:
        device = devices.here()
        device.take(int(os.environ["LOCAL_RANK"]))
        meeting = f"file://{os.environ['WORKBENCH_MEETING']}"
        distributed.init_process_group(device.collectives, meeting, timeout=_PATIENCE, rank=rank, world_size=processes)
        outcome, result = work(child)
        wait_for_all()
        child.end(outcome, result=result)
        distributed.destroy_process_group()
        return 0
    except StartAgain:
        return AGAIN
    except BaseException as error:
        _leave_word(directory, rank, error)
        raise


def _leave_word(directory: JobDirectory, rank: int, error: BaseException) -> None:
    """Keep why this process failed beside the job; the launcher chooses among the words of all."""
    kind, reason = explain(error)
    on_page = error.line(on_page=True) if isinstance(error, WorkbenchError) and error.on_page else ""
    left_alone = not isinstance(error, WorkbenchError) and _is_parting(error)
    word = {"kind": kind, "reason": reason, "reason_on_page": on_page, "left_alone": left_alone, "time": time.time()}
    with suppress(OSError):
        replace_file(directory.path / f"process-{rank}.json", json.dumps(word))


def _is_parting(error: BaseException) -> bool:
    """Tell whether an error only says that another process is gone."""
    said = str(error).lower()
    return any(words in said for words in ("gloo", "nccl", "xccl", "connection closed by peer", "connection reset"))


def _die_with_launcher() -> None:
    """End this process when the launcher's is gone, however it went: nobody else would stop it then."""
    launcher = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(launcher,), name="launcher watch", daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_WATCH_S)
    os._exit(1)
