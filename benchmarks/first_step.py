"""From the request to the first step: a run handed in by `runs.start` against its own recipe started as a script.

Both read the same tokens and log their first step. The run's time includes the supervisor, the job directory, the check
of the data and the rehearsal of the longest batch; its tokens are built already, as after a look in the data tab.
The order alternates; the caches of the disk are warm for both. Run it: python -m benchmarks.first_step
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

from app.config import presets
from app.jobs import directory, requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.runs.submission import submit
from app.runs.training_script import recipe
from app.workspace import Workspace, open_workspace

HOUSE = Path(__file__).resolve().parents[1]
RESULT = HOUSE / "benchmarks" / "results" / "first_step.json"
DATA = HOUSE / "assets" / "datasets" / "pirate.json"


def handed_in(workspace: Workspace) -> tuple[float, JobDirectory]:
    """Hand in a run and return the seconds to its first logged step."""
    config = presets.load("cpu-starter").config.changed({"data.file": str(DATA), "training.max_steps": 1})
    begun = time.monotonic()
    job = submit.start(workspace, config)
    while not steps_of(read_rows(job.metrics_file)):
        assert not job.status().final, job.status().reason
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    requests.wait(job, timeout_s=120)
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


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    # The same threads for both: the workbench takes one for a model this small.
    os.environ["OMP_NUM_THREADS"] = "1"
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(Path(folder) / "workspace")
        _, job = handed_in(workspace)  # builds the tokens and warms the disk
        script = Path(folder) / "recipe.py"
        script.write_text(recipe(job), encoding="utf-8")
        as_script(script)
        for pair in range(arguments.pairs):
            if pair % 2:
                ours.append(handed_in(workspace)[0])
            bare.append(as_script(script))
            if not pair % 2:
                ours.append(handed_in(workspace)[0])
    ratios = [our / other for our, other in zip(ours, bare, strict=True)]
    found = {
        "seconds_run": [round(value, 2) for value in ours],
        "seconds_script": [round(value, 2) for value in bare],
        "ratio_median": round(statistics.median(ratios), 3),
        "limit": 1.15,
        "versions": directory.versions(),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
