"""`doctor`: what this machine has, what is missing, and the remedy for each."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from app.cli.terminal import Verbs, answer, workspace_of
from app.errors import BusyError
from app.hardware import Readings, readings
from app.jobs import bin as removed
from app.jobs import requests
from app.planner.request import GIB
from app.workspace import Workspace

_LEAST_RAM_BYTES = 8 * GIB
_LEAST_DISK_BYTES = 10 * GIB
_PORT = 7860


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when there is nothing to do."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


def register(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add(
        "doctor",
        run,
        help="what this machine has and what is missing, with the remedy for each",
        example="python3 launch.py doctor",
    )


def run(arguments: argparse.Namespace) -> None:
    """Look at everything and print what was found."""
    workspace = workspace_of(arguments)
    machine = readings(workspace.root)
    found = [*_software(), *_accelerator(machine), *_room(machine), _port(), _background(workspace)]
    marks = {"ok": "ok     ", "note": "note   ", "missing": "missing"}
    lines = [
        f"{marks[item.state]}  {item.name}: {item.found}" + (f". {item.remedy}" if item.remedy else "")
        for item in found
    ]
    answer(arguments, {"findings": [asdict(item) for item in found], "machine": machine.as_dict()}, lines)


def _software() -> Iterator[Finding]:
    yield Finding("Python", "ok", platform.python_version())
    for name in ("torch", "transformers", "trl", "peft", "bitsandbytes", "gradio"):
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", "Start launch.py without an activated environment")


def _accelerator(machine: Readings) -> Iterator[Finding]:
    if machine.gpu is None:
        yield Finding("NVIDIA driver", "note", "none, so training runs on the processor", "A card makes it far faster")
    for gpu in machine.gpus:
        free, total = gpu.free_bytes / GIB, gpu.total_bytes / GIB
        yield Finding(gpu.name, "ok", f"driver {machine.driver}, {free:.1f} of {total:.1f} GB free")
    torch_build = _version("torch").partition("+")[2]
    if machine.gpu is not None and torch_build == "cpu":
        yield Finding("CUDA", "missing", "PyTorch is the CPU build", "Delete .venv and start launch.py again")
    yield _bitsandbytes(machine)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _bitsandbytes(machine: Readings) -> Finding:
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        return Finding("bitsandbytes library", "missing", "not installed", "Start launch.py again")
    libraries = sorted(path.name for path in Path(spec.origin).parent.glob("libbitsandbytes_*"))
    wanted = "cuda" if machine.gpu else "cpu"
    if any(wanted in name for name in libraries):
        return Finding("bitsandbytes library", "ok", f"{len(libraries)} builds, {wanted} among them")
    return Finding("bitsandbytes library", "missing", f"no {wanted} build", "Reinstall bitsandbytes")


def _room(machine: Readings) -> Iterator[Finding]:
    ram, disk = machine.ram_free_bytes, machine.disk_free_bytes
    yield Finding(
        "Memory",
        "ok" if ram >= _LEAST_RAM_BYTES else "note",
        f"{ram / GIB:.1f} of {machine.ram_total_bytes / GIB:.1f} GB free, {machine.cpu_count} processors",
        "" if ram >= _LEAST_RAM_BYTES else "Close other programs before loading a large model",
    )
    yield Finding(
        "Disk",
        "ok" if disk >= _LEAST_DISK_BYTES else "note",
        f"{disk / GIB:.1f} GB free in the workspace",
        "" if disk >= _LEAST_DISK_BYTES else "Free some room, or choose another folder with --workspace",
    )


def _port() -> Finding:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", _PORT)):
            return Finding(f"Port {_PORT}", "ok", "free")
    return Finding(f"Port {_PORT}", "note", "in use", "Choose another with `ui --port N`")


def _background(workspace: Workspace) -> Finding:
    """Run a tiny job the way a training run is run."""
    try:
        job = requests.submit(workspace, "selftest", {"steps": 2})
    except BusyError as error:
        return Finding("Background jobs", "ok", error.what)
    status = requests.wait(job, timeout_s=60)
    if status.state == "finished":
        removed.delete(workspace, job)
        return Finding("Background jobs", "ok", "a test job ran and ended")
    return Finding("Background jobs", "missing", f"a test job {status.state}: {status.reason}", f"See {job.log_file}")
