"""What a run may leave behind, reach and open: the real command line, on the starter model, under attack."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import presets
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.runs.submission import submit
from app.workspace import Workspace

HOUSE = Path(__file__).resolve().parents[2]
DATA = HOUSE / "assets" / "datasets" / "pirate.json"
CANARY = "hf_CanaryThatMustNeverBeWritten0123456789"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def train_command(workspace: Path, steps: int) -> list[str]:
    """Return the command of a short run with two checkpoints."""
    sets = [f"training.max_steps={steps}", f"training.save_steps={steps // 2}"]
    return [
        *(sys.executable, str(HOUSE / "launch.py"), "--workspace", str(workspace), "train"),
        *("--preset", "cpu-starter", "--model", "starter", "--data", str(DATA)),
        *(part for one in sets for part in ("--set", one)),
    ]


def run(
    command: list[str], before: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def only_job(workspace: Path) -> Path:
    """Return the folder of the workspace's one training run."""
    (folder,) = (workspace / "jobs").glob("*-train-*")
    return folder


@pytest.mark.fault("A16")
@pytest.mark.fault("A23")
@pytest.mark.fault("F24")
def test_a_run_reaches_no_address_and_writes_no_token(workspace: Workspace, tmp_path: Path) -> None:
    noted = tmp_path / "sockets.txt"
    noted.touch()
    done = run(
        train_command(workspace.root, 2),
        HF_TOKEN=CANARY,
        WANDB_API_KEY=CANARY,
        PYTHONPATH=str(Path(__file__).parent / "sockets_noted"),
        SOCKETS_NOTED_IN=str(noted),
    )
    assert done.returncode == 0, done.stderr
    assert set(noted.read_text(encoding="utf-8").split()) <= LOOPBACK
    written = [path for path in workspace.root.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert not written
    assert CANARY not in done.stdout + done.stderr


def test_the_noting_of_sockets_notes_them(tmp_path: Path) -> None:
    noted = tmp_path / "sockets.txt"
    code = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    done = run(
        [sys.executable, "-c", code],
        PYTHONPATH=str(Path(__file__).parent / "sockets_noted"),
        SOCKETS_NOTED_IN=str(noted),
    )
    assert done.returncode == 1  # nobody listens there
    assert "127.0.0.1" in noted.read_text(encoding="utf-8")


@pytest.mark.fault("F7")
def test_a_full_disk_is_told_as_one_and_claims_no_checkpoint(workspace: Workspace) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = run(train_command(workspace.root, 4), small_files)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    status = json.loads((only_job(workspace.root) / "status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["kind"]) == ("failed", "disk")
    assert not list((only_job(workspace.root) / "checkpoints").glob("step-*"))


class Sentinel:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def plant(checkpoint: Path, name: str, mark: Path) -> None:
    """Put a pickle into a checkpoint and have its manifest agree, as a stranger who hands on a run would."""
    body = pickle.dumps(Sentinel(mark))
    (checkpoint / name).write_bytes(body)
    manifest = json.loads((checkpoint / "complete.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    (checkpoint / "complete.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def stopped_run(workspace: Workspace) -> JobDirectory:
    """Return a run that was stopped after its first checkpoint."""
    config = presets.load("cpu-starter").config.changed(
        {"data.file": str(DATA), "training.max_steps": 500, "training.save_steps": 2}
    )
    job = submit.start(workspace, config)
    requests.wait(job, lambda status: status.final or status.step >= 3, timeout_s=240)
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=120).state == "stopped"
    return job


@pytest.mark.fault("A13")
def test_a_pickle_in_a_checkpoint_is_refused_unopened(
    workspace: Workspace, stopped_run: JobDirectory, tmp_path: Path
) -> None:
    newest = max(stopped_run.checkpoints.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
    mark = tmp_path / "opened"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        plant(newest, name, mark)
    requests.resume(workspace, stopped_run)
    status = requests.wait(stopped_run, timeout_s=240)
    assert status.state == "failed"
    assert newest.name in (status.reason or "")
    assert "weights_only" not in (status.reason or "")
    assert not mark.exists()
