"""Time a poll of the Train tab on a run of 100,000 logged steps among thirty others, and weigh what it sends.

Run: python benchmarks/live_poll.py [--rows 100000] [--polls 100] [--out benchmarks/results/live_poll.json]

A poll is what one open page asks for every two seconds. Between two polls one row is appended, as a living run does.
Times are of the wall clock, in milliseconds; sizes are the bytes of the JSON that carries the parts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.config import presets  # noqa: E402
from app.jobs import directory  # noqa: E402
from app.jobs.directory import JobDirectory, Status  # noqa: E402
from app.jobs.lock import FileLock  # noqa: E402
from app.jobs.metrics import MetricsWriter  # noqa: E402
from app.ui.shell.language import Translator  # noqa: E402
from app.ui.tabs.train import live_panel  # noqa: E402
from app.workspace import Workspace, open_workspace  # noqa: E402

OTHERS = 30


def row(step: int) -> dict[str, float]:
    """Return the row of a logged step, with some noise."""
    noise = math.sin(step * 12.9898) * 0.3
    return {
        "step": step,
        "loss": 2.0 + 3.0 * math.exp(-step / 20_000) + noise,
        "learning_rate": 2e-4 * (1 - step / 200_000),
        "grad_norm": 1.0 + noise,
        "tokens_per_s": 5000.0 + 1000 * noise,
        "vram_bytes": 7.1e9,
        "rss_bytes": 2.3e9,
        "time": 1.7e9 + step,
    }


def make_run(workspace: Workspace, rows: int, name: str) -> JobDirectory:
    """Make a run with so many logged steps."""
    config = presets.load("cpu-starter").config
    job = directory.create(workspace, "train", config.as_dict(), name=name)
    lines = (json.dumps(row(step)) + "\n" for step in range(1, rows + 1))
    job.metrics_file.write_text("".join(lines), encoding="utf-8")
    job.write_status(Status(state="finished", step=rows, of=rows))
    return job


def measure(rows: int, polls: int) -> dict[str, float]:
    """Return the times and sizes of the first look and of the polls after it."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(folder)
        for number in range(OTHERS):
            make_run(workspace, 300, f"run {number}")
        job = make_run(workspace, rows, "long run")
        lock = FileLock(job.lock_file)
        lock.acquire()
        job.write_status(Status(state="running", step=rows, of=2 * rows, heartbeat=time.time() + 3600))
        began = time.perf_counter()
        seen, sent = live_panel.changed(live_panel.live(workspace, job.id, Translator()), [])
        first_ms, first_bytes = 1000 * (time.perf_counter() - began), len(json.dumps(sent))
        times, sizes = [], []
        writer = MetricsWriter(job.metrics_file)
        for poll in range(1, polls + 1):
            writer.write(row(rows + poll))
            began = time.perf_counter()
            seen, sent = live_panel.changed(live_panel.live(workspace, job.id, Translator()), seen)
            times.append(1000 * (time.perf_counter() - began))
            sizes.append(len(json.dumps(sent)))
        writer.close()
        lock.release()
    times.sort()
    return {
        "rows": rows,
        "runs": OTHERS + 1,
        "first_look_ms": round(first_ms, 1),
        "first_look_bytes": first_bytes,
        "poll_median_ms": round(times[len(times) // 2], 1),
        "poll_p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
        "poll_largest_bytes": max(sizes),
    }


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--polls", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "live_poll.json")
    options = parser.parse_args()
    found = measure(options.rows, options.polls)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
