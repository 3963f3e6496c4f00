"""`doctor`: what this machine has, what is missing, and the remedy for each."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from app import outputs, support
from app.cli.terminal import Verbs, answer, progress, workspace_of
from app.config.accelerators import Kind
from app.errors import BusyError, UsageError
from app.hardware import Gpu, Readings, readings, torch_build
from app.jobs import directory, requests
from app.jobs import trash as removed
from app.planner.request import GIB
from app.workspace import Workspace, user_path

_LEAST_RAM_BYTES = 8 * GIB
_LEAST_DISK_BYTES = 10 * GIB
_PORT = 7860
_KINDS: dict[Kind, str] = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU", "mps": "Metal"}
# On a Mac bitsandbytes has its library for the processor and computes on the GPU through PyTorch.
_LIBRARIES: dict[Kind, str] = {"cuda": "cuda", "rocm": "rocm", "xpu": "xpu", "mps": "cpu"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when there is nothing to do."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "doctor",
        run,
        help="what this machine has and what is missing, with the remedy for each",
        example="python3 launch.py doctor",
    )
    parser.add_argument("--bundle", metavar="OUT.zip", help="show what helps to find a fault from afar, and save it")
    parser.add_argument("--job", metavar="ID", help="with --bundle: this job's status, events and last log lines too")


def run(arguments: argparse.Namespace) -> None:
    """Look at everything and print what was found, or make a support bundle."""
    workspace = workspace_of(arguments)
    if arguments.bundle is not None:
        make_bundle(arguments, workspace)
        return
    if arguments.job is not None:
        raise UsageError("--job says whose log goes into a bundle", "", "add --bundle OUT.zip")
    machine = readings(workspace.root)
    found = [*_software(), *_accelerator(machine), *_room(machine), _port(), _background(workspace)]
    marks = {"ok": "ok     ", "note": "note   ", "missing": "missing"}
    lines = [
        f"{marks[item.state]}  {item.name}: {item.found}" + (f". {item.remedy}" if item.remedy else "")
        for item in found
    ]
    answer(arguments, {"findings": [asdict(item) for item in found], "machine": machine.as_dict()}, lines)


def make_bundle(arguments: argparse.Namespace, workspace: Workspace) -> None:
    """Print everything that a support bundle holds, then save it; with a terminal only after a yes."""
    out = user_path(arguments.bundle)
    if out.suffix.lower() != ".zip":
        raise UsageError(f"{out.name} is no name for a bundle", "", "end it with .zip")
    outputs.refuse_foreign(getattr(arguments, "workspace", None), out)
    job = None if arguments.job is None else directory.find(workspace, arguments.job)
    bundle = support.collect(job, workspace.root)
    progress(bundle.text())
    if sys.stdin is not None and sys.stdin.isatty():
        progress(f"\nSave this as {out}? [y/N] ", end="")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("Nothing was saved", "", "answer y to save")
    bundle.save(out)
    outputs.remember(getattr(arguments, "workspace", None), out)
    answer(arguments, {"bundle": str(out), "files": list(bundle.files)}, [f"{out}: {', '.join(bundle.files)}"])


def _software() -> Iterator[Finding]:
    yield Finding("Python", "ok", platform.python_version())
    for name in ("torch", "transformers", "trl", "peft", "bitsandbytes", "gradio"):
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", "Start launch.py without an activated environment")


def _accelerator(machine: Readings) -> Iterator[Finding]:
    if not machine.gpus:
        found = "none by NVIDIA, AMD, Intel or Apple, so training runs on the processor"
        yield Finding("GPU", "note", found, "A GPU makes it far faster")
    for gpu in machine.gpus:
        how = f"driver {machine.driver}, " if gpu.kind == "cuda" else ""
        trained = "" if gpu.kind == "cuda" else f". {_KINDS[gpu.kind]}: found and planned, training there not measured"
        yield Finding(gpu.name, "ok", f"{how}{_memory(gpu)}{trained}")
        if not gpu.computes:
            found = f"PyTorch is the {torch_build() or 'CUDA'} build, so {gpu.name} is not used"
            yield Finding(_KINDS[gpu.kind], "missing", found, "Delete .venv and start launch.py again")
    if machine.gpu is not None and machine.gpu.kind == "cuda" and torch_build() == "cpu":
        yield Finding("CUDA", "missing", "PyTorch is the CPU build", "Delete .venv and start launch.py again")
    yield _bitsandbytes(machine)


def _memory(gpu: Gpu) -> str:
    """Return what is known of a GPU's memory."""
    if gpu.total_bytes is None:
        return "memory not known: its driver does not tell; name its size, as in plan --vram 16"
    total = f"{gpu.total_bytes / GIB:.1f} GB"
    return (
        f"{total}, what is free is not known"
        if gpu.free_bytes is None
        else f"{gpu.free_bytes / GIB:.1f} of {total} free"
    )


def _bitsandbytes(machine: Readings) -> Finding:
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        return Finding("bitsandbytes library", "missing", "not installed", "Start launch.py again")
    libraries = sorted(path.name for path in Path(spec.origin).parent.glob("libbitsandbytes_*"))
    wanted = _LIBRARIES[machine.gpu.kind] if machine.gpu else "cpu"
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
