"""Kill the server, the supervisor and the worker at random while one run trains, and compare what comes out.

Run: python -m benchmarks.storm [--kills 30] [--steps 200] [--seed 0] [--out benchmarks/results/storm.json]

A run on the starter model (NF4, dropout, full determinism) is trained once undisturbed and once under kills with
SIGKILL at moments drawn from the seed: a third each of the page's server, the supervisor and the worker, in a drawn
order; the worker only after it has saved a checkpoint since it was killed last. What was killed is started again as a
person would: the server by its command, the run by a resume. Ends with status 1 unless the run finishes with every step
logged once, the same losses, and an adapter bitwise that of the undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from app.config import presets
from app.config.schema import RunConfig
from app.errors import JobError
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.jobs.metrics import read_rows, steps_of
from app.runs.submission import submit
from app.workspace import Workspace, open_workspace
from benchmarks.live_poll import ROOT
from tests.ui.running_page import RunningPage

VICTIMS = ("server", "supervisor", "worker")
_TIMEOUT_S = 600.0


def config(steps: int) -> RunConfig:
    """Return a run of small steps in which everything that draws random numbers or rounds is on."""
    return presets.load("cpu-starter").config.changed(
        {
            "data.file": str(ROOT / "assets" / "datasets" / "pirate.json"),
            "training.max_steps": steps,
            "training.save_steps": 4,
            "training.per_device_train_batch_size": 1,
            "data.max_length": 64,
            "training.full_determinism": True,
            "adapter.lora_dropout": 0.1,
        }
    )


class Storm:
    """One run under kills."""

    def __init__(self, workspace: Workspace, steps: int, kills: int, seed: int) -> None:
        self.workspace = workspace
        self.draw = random.Random(seed)
        self.order = [VICTIMS[number % len(VICTIMS)] for number in range(kills)]
        self.draw.shuffle(self.order)
        self.page = RunningPage(workspace.root)
        self.page.start()
        self.job = submit.start(workspace, config(steps))
        self.done: list[dict[str, Any]] = []
        self.saved = 0

    def run(self) -> Status:
        """Kill one after another, then let the run come to its end. Return its last status."""
        for victim in self.order:
            getattr(self, f"kill_{victim}")()
            status = self.job.status()
            self.done.append({"victim": victim, "step": status.step, "phase": status.phase})
            self.mend()
            if status.state == "finished":
                break
        end = time.monotonic() + _TIMEOUT_S
        while self.mend() != "finished" and time.monotonic() < end:
            time.sleep(0.2)
        return self.job.status()

    def end(self) -> None:
        """Leave no process behind, however it went."""
        if self.page.process is not None:
            self.page.process.kill()
            self.page.process.wait(20)
        if not self.job.status().final:
            requests.stop(self.workspace, self.job, force=True)
            requests.wait(self.job, timeout_s=60)

    def mend(self) -> str:
        """Start again what is gone. Return the state of the run."""
        if self.page.process is not None and self.page.process.poll() is not None:
            self.page = RunningPage(self.workspace.root)
            self.page.start()
        status = self.job.status()
        if status.final and status.state != "finished":
            requests.resume(self.workspace, self.job)
        requests.ensure_supervised(self.workspace)
        return status.state

    def kill_server(self) -> None:
        """Kill the page's server at some moment of its first seconds or later."""
        time.sleep(self.draw.uniform(0.0, 2.0))
        assert self.page.process is not None
        self.page.process.kill()
        self.page.process.wait(20)

    def kill_supervisor(self) -> None:
        """Kill the supervisor, if one is there at that moment."""
        time.sleep(self.draw.uniform(0.0, 1.0))
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "app.jobs.supervisor" in words and str(self.workspace.root) in words:
                process.kill()

    def kill_worker(self) -> None:
        """Kill the worker somewhere in its work, once it has saved a checkpoint since it was killed last.

        Kills that come faster than checkpoints would prove only that nobody trains under them.
        """
        patience_s = self.draw.uniform(0.0, 0.5)

        def due(status: Status) -> bool:
            requests.ensure_supervised(self.workspace)
            return status.final or (status.pid is not None and newest_checkpoint(self.job) > self.saved)

        try:
            requests.wait(self.job, due, timeout_s=_TIMEOUT_S, poll_s=0.05)
        except JobError as error:
            raise SystemExit(f"{error}\n{self.job.log_file.read_text()[-2000:]}") from None
        time.sleep(patience_s)
        status = self.job.status()
        if status.live and status.pid is not None:
            psutil.Process(status.pid).kill()
            requests.wait(self.job, timeout_s=30)
        self.saved = newest_checkpoint(self.job)


def newest_checkpoint(job: JobDirectory) -> int:
    """Return the step of the newest whole checkpoint; 0 when there is none."""
    whole = job.checkpoints.glob("step-*/complete.json")
    return max((int(one.parent.name.rpartition("-")[2]) for one in whole), default=0)


def losses(job: JobDirectory) -> list[tuple[int, float]]:
    """Return the logged losses, in the order of the file."""
    return [(row["step"], row["loss"]) for row in steps_of(read_rows(job.metrics_file))]


def adapter_sha256(job: JobDirectory) -> str:
    """Return the hash of the trained adapter."""
    return hashlib.sha256((job.result / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def storm(kills: int, steps: int, seed: int) -> dict[str, Any]:
    """Train undisturbed and under kills, and return what is to be compared."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        quiet = open_workspace(Path(folder) / "quiet")
        undisturbed = submit.start(quiet, config(steps))
        if requests.wait(undisturbed, timeout_s=_TIMEOUT_S).state != "finished":
            raise SystemExit(undisturbed.status().reason)
        quiet_s = time.perf_counter() - began
        wild = Storm(open_workspace(Path(folder) / "wild"), steps, kills, seed)
        try:
            status = wild.run()
        finally:
            wild.end()
        finished = status.state == "finished"
        return {
            "seed": seed,
            "steps": steps,
            "kills": {victim: sum(one["victim"] == victim for one in wild.done) for victim in VICTIMS},
            "state": status.state,
            "reason": status.reason,
            "every_step_once": [step for step, _ in losses(wild.job)] == list(range(1, steps + 1)),
            "losses_equal": losses(wild.job) == losses(undisturbed),
            "adapter_equal": finished and adapter_sha256(wild.job) == adapter_sha256(undisturbed),
            "undisturbed_s": round(quiet_s, 1),
            "wall_s": round(time.perf_counter() - began, 1),
            "killed": wild.done,
        }


def failures(found: dict[str, Any], kills: int) -> list[str]:
    """Return what should hold and does not."""
    wrong = [name for name in ("every_step_once", "losses_equal", "adapter_equal") if not found[name]]
    if found["state"] != "finished":
        wrong.append(f"the run is {found['state']}: {found['reason']}")
    if sum(found["kills"].values()) < kills:
        wrong.append("the run ended before all kills were done; give it more --steps")
    return wrong


def main() -> int:
    """Run the storm, and keep and print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "storm.json")
    options = parser.parse_args()
    # Two threads that wait for each other on a machine with other work to do take several times as long as one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = storm(options.kills, options.steps, options.seed)
    wrong = failures(found, options.kills)
    text = json.dumps({**found, "failures": wrong}, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
