"""From the request to the first step: a run handed in by `runs.start` against its own recipe started as a script.

Both read the same tokens and log their first step. The run's time includes the supervisor, the job directory, the check
of the data and the rehearsal of the longest batch; its tokens are built already, as after a look in the data tab.
It is handed in twice: to a worker that has loaded its libraries while the form was filled in, as on the page, and cold,
as with `WORKBENCH_WARM=0` and from the command line. The order alternates; the caches of the disk are warm for all.
Run it: python -m benchmarks.first_step
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app import hardware
from app.config import presets
from app.jobs import directory, requests, warm
from app.jobs.directory import JobDirectory
from app.jobs.lock import is_held
from app.jobs.metrics import read_rows, steps_of
from app.runs.submission import submit
from app.runs.training_script import recipe
from app.workspace import Workspace, open_workspace

HOUSE = Path(__file__).resolve().parents[1]
RESULT = HOUSE / "benchmarks" / "results" / "first_step.json"
DATA = HOUSE / "assets" / "datasets" / "pirate.json"


def handed_in(workspace: Workspace, expected: bool = False) -> tuple[float, JobDirectory]:
    """Hand in a run and return the seconds to its first logged step; an `expected` one finds its libraries loaded."""
    config = presets.load("cpu-starter").config.changed({"data.file": str(DATA), "training.max_steps": 1})
    os.environ["WORKBENCH_WARM"] = "1" if expected else "0"
    log, wish = workspace.root / "warm.log", workspace.root / "warm.wish"
    log.unlink(missing_ok=True)
    wish.unlink(missing_ok=True)
    if expected:
        requests.expect_run(workspace)
        while not log.is_file() or warm.READY not in log.read_text(encoding="utf-8"):
            time.sleep(0.05)
    begun = time.monotonic()
    job = submit.start(workspace, config)
    while not steps_of(read_rows(job.metrics_file)):
        assert not job.status().final, job.status().reason
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    wish.unlink(missing_ok=True)
    requests.wait(job, timeout_s=120)
    while is_held(job.lock_file):
        time.sleep(0.05)
    return seconds, job


def as_script(script: Path) -> float:
    """Run the recipe and return the seconds to the line of its first step."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", str(script)], stdout=subprocess.PIPE, text=True, cwd=script.parent
    )
    assert process.stdout is not None
    seconds = next(time.monotonic() - begun for line in process.stdout if "'loss'" in line)
    process.wait()
    return seconds


def spread(ratios: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    # The same threads for both: the workbench takes one for a model this small.
    os.environ["OMP_NUM_THREADS"] = "1"
    ours: dict[bool, list[float]] = {True: [], False: []}
    bare = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(Path(folder) / "workspace")
        _, job = handed_in(workspace)  # builds the tokens and warms the disk
        script = Path(folder) / "recipe.py"
        script.write_text(recipe(job), encoding="utf-8")
        as_script(script)
        for pair in range(arguments.pairs):
            for way in (True, None, False) if pair % 2 else (False, None, True):
                if way is None:
                    bare.append(as_script(script))
                else:
                    ours[way].append(handed_in(workspace, expected=way)[0])
            print(ours[True][-1], ours[False][-1], bare[-1], file=sys.stderr, flush=True)
    ratios = {way: [our / other for our, other in zip(found, bare, strict=True)] for way, found in ours.items()}
    found = {
        "seconds_run": [round(value, 2) for value in ours[True]],
        "seconds_run_cold": [round(value, 2) for value in ours[False]],
        "seconds_script": [round(value, 2) for value in bare],
        "ratio": spread(ratios[True]),
        "ratio_cold": spread(ratios[False]),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "processor": hardware.cpu_name(),
        "measured": time.strftime("%Y-%m-%d"),
        "versions": directory.versions(),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
