"""Soak the page: two hours of a run with 100,000 logged steps, five pages open, compressed into minutes.

Run: python -m benchmarks.soak [--hours 2] [--pages 5] [--rows 100000] [--every 2] [--out FILE]

The really launched page is asked over HTTP what open Train tabs ask every two seconds, one page after another as real
pages' timers fall; between two rounds the run logs the steps of two seconds, so that only the waiting is left out.
After every tenth round all pages ask at once, which is counted apart. With `--every 8` a fourth of the questions is
asked, and four times the steps lie between two. Times are of the wall clock from the question to the whole answer;
memory is the resident memory of the server's process, from after the first minute of the run to its end. Its processor
time is shared out over the answers: that figure tells a slow page from a busy machine.
Ends with status 1 when the memory grows by 50 MB, the p95 of the answers reaches 200 ms, an answer 200 KB, or the five
answers that five open pages ask for each second an eighth of a core: 25 ms each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from app.config import presets
from app.jobs import directory
from app.jobs.directory import JobDirectory, Status
from app.jobs.lock import FileLock
from app.jobs.metrics import MetricsWriter
from app.workspace import Workspace, open_workspace
from benchmarks.live_poll import ROOT, row
from benchmarks.page_client import WATCHED, Answer, PageClient
from tests.ui.running_page import RunningPage

POLL_S = 2.0
MOST_GROWTH_MB, MOST_P95_MS, MOST_BYTES, MOST_CPU_MS = 50.0, 200.0, 200_000, 25.0
_ALL_AT_ONCE_EVERY = 10


def make_run(workspace: Workspace, rows: int) -> tuple[JobDirectory, FileLock]:
    """Make a run that lives: its lock is held here."""
    job = directory.create(workspace, "train", presets.load("cpu-starter").config.as_dict(), name="soak")
    lock = FileLock(job.lock_file)
    lock.acquire()
    job.write_status(
        Status(state="running", of=rows, pid=os.getpid(), started=time.time(), phase="training").with_heartbeat()
    )
    return job, lock


def look(page: PageClient) -> list[Answer]:
    """Ask what one page asks at a tick."""
    return [page.ask(control) for control in WATCHED]


def soak(hours: float, pages: int, rows: int, every_s: float = POLL_S) -> dict[str, Any]:
    """Run the rounds and return the figures."""
    rounds = max(2, round(hours * 3600 / every_s))
    alone: list[Answer] = []
    together: list[Answer] = []
    memory: list[int] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workspace = open_workspace(Path(folder) / "workspace")
        job, lock = make_run(workspace, rows)
        stack.callback(lambda: job.write_status(Status(state="stopped")))
        stack.callback(lock.release)
        served = stack.enter_context(RunningPage(workspace.root))
        assert served.process is not None
        server = psutil.Process(served.process.pid)
        opened = [stack.enter_context(PageClient(served.url)) for _ in range(pages)]
        pool = stack.enter_context(ThreadPoolExecutor(pages))
        writer = MetricsWriter(job.metrics_file)
        logged = 0
        cpu_before_s = _cpu_s(server)
        for number in range(1, rounds + 1):
            due = rows * number // rounds
            for step in range(logged + 1, due + 1):
                writer.write(row(step))
            logged = due
            job.write_status(Status(**{**vars(job.recorded_status()), "step": logged}).with_heartbeat())
            if number % _ALL_AT_ONCE_EVERY:
                alone += [answer for page in opened for answer in look(page)]
            else:
                together += [answer for answers in pool.map(look, opened) for answer in answers]
            memory.append(server.memory_info().rss)
        cpu_s = _cpu_s(server) - cpu_before_s
        writer.close()
    settled = min(len(memory) - 1, round(60 / every_s))
    return {
        "hours": hours,
        "pages": pages,
        "rows": rows,
        "seconds_between_rounds": every_s,
        "answers": len(alone) + len(together),
        "wall_s": round(time.perf_counter() - began, 1),
        "memory_after_a_minute_mb": round(memory[settled] / 1e6, 1),
        "memory_at_the_end_mb": round(memory[-1] / 1e6, 1),
        "memory_growth_mb": round((memory[-1] - memory[settled]) / 1e6, 1),
        "memory_every_tenth_mb": [round(one / 1e6, 1) for one in memory[:: max(1, len(memory) // 10)]],
        "cpu_per_answer_ms": round(1000 * cpu_s / (len(alone) + len(together)), 2),
        "answer_median_ms": _share(alone, 0.5),
        "answer_p95_ms": _share(alone, 0.95),
        "all_at_once_p95_ms": _share(together, 0.95),
        "largest_answer_bytes": max(answer.size_bytes for answer in [*alone, *together]),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _share(answers: list[Answer], share: float) -> float:
    times = sorted(answer.seconds for answer in answers)
    return round(1000 * times[int(share * (len(times) - 1))], 1) if times else 0.0


def failures(found: dict[str, Any]) -> list[str]:
    """Return what of the figures breaks its limit."""
    limits = {
        "memory_growth_mb": MOST_GROWTH_MB,
        "answer_p95_ms": MOST_P95_MS,
        "largest_answer_bytes": MOST_BYTES,
        "cpu_per_answer_ms": MOST_CPU_MS,
    }
    return [f"{name} is {found[name]}, at least {most}" for name, most in limits.items() if found[name] >= most]


def main() -> int:
    """Soak, and keep and print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=POLL_S, help="seconds of the run between two rounds")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    found = soak(options.hours, options.pages, options.rows, options.every)
    wrong = failures(found)
    text = json.dumps({**found, "failures": wrong}, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
