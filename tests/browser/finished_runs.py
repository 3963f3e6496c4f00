"""Runs that are finished without the minute that training takes."""

from __future__ import annotations

from pathlib import Path

from app.config.presets import load
from app.jobs import directory, supervisor
from app.models.names import STARTER, resolve
from app.runs import request_paths
from app.workspace import open_workspace
from tests.models import tiny_models


def finished_run(workspace_folder: Path, name: str) -> Path:
    """Write a finished run of the starter whose adapter answers otherwise than the base; return that adapter."""
    workspace = open_workspace(workspace_folder)
    settings = {"quantization.load_in_4bit": False, "data.file": str(request_paths.SAMPLES / "pirate.json")}
    with supervisor.admission(workspace):  # the page would start a run that waits
        job = directory.create(workspace, "train", load("cpu-starter").config.changed(settings).as_dict(), name=name)
        job.result.mkdir()
        folder = tiny_models.save_adapter(job.result / "adapter", Path(resolve(STARTER)), r=8, scale=0.2)
        job.write_status(directory.Status(state="finished", step=80, of=80))
    return folder
