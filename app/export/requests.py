"""What the page and the command line ask of the export room. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import ExportError, UsageError
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.workspace import Workspace

METHODS = ("linear", "cat", "svd", "ties", "dare")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def start_merge(
    workspace: Workspace,
    adapter: Path,
    out: Path,
    *,
    max_ram_bytes: int | None = None,
    dtype: str | None = None,
    base: str | None = None,
) -> JobDirectory:
    """Hand in a merge and return its job at once.

    `dtype` (bf16, fp16, fp32) changes the number format, else the base's is kept. Raises ExportError when `out` exists
    or `adapter` is no adapter folder.
    """
    adapter, out = adapter.expanduser().absolute(), out.expanduser().absolute()
    _check_adapter(adapter)
    _check_out(out)
    config = {
        "adapter": str(adapter),
        "out": str(out),
        "max_ram_bytes": max_ram_bytes,
        "dtype": dtype,
        "base": base,
    }
    return jobs.submit(workspace, "merge", config, name=f"merge: {out.name}")


def start_blend(
    workspace: Workspace,
    adapters: Sequence[tuple[Path, float]],
    out: Path,
    *,
    method: str = "linear",
    rank: int | None = None,
    density: float | None = None,
    seed: int = 0,
) -> JobDirectory:
    """Hand in a blend of (adapter folder, weight) pairs and return its job at once.

    `method` is linear, cat, svd, ties or dare; `rank` None leaves it to the method; `density` is the share of entries
    that ties and dare keep. Raises ExportError when `out` exists, UsageError for wrong settings.
    """
    if method not in METHODS:
        raise UsageError(f"{method!r} is no way to blend", f"there are {', '.join(METHODS)}", "choose one of them")
    if rank is not None and rank < 1:
        raise UsageError(f"The rank {rank} cannot be used", "a rank is at least 1", "leave --rank out")
    if density is not None and not 0 < density <= 1:
        raise UsageError(f"The density {density} cannot be used", "it is a share above 0 and up to 1", "use 0.5")
    out = out.expanduser().absolute()
    for folder, _ in adapters:
        _check_adapter(folder.expanduser().absolute())
    _check_out(out)
    config = {
        "adapters": [{"dir": str(folder.expanduser().absolute()), "weight": weight} for folder, weight in adapters],
        "out": str(out),
        "method": method,
        "rank": rank,
        "density": density,
        "seed": seed,
    }
    return jobs.submit(workspace, "blend", config, name=f"blend: {out.name}")


def blend_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for a blend and return what `blend --json` answers. Raises ExportError when it failed or was stopped."""
    return _answer(job, "blend")


def merge_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for a merge and return what `merge --json` answers. Raises ExportError when it failed or was stopped."""
    return _answer(job, "merge")


def _answer(job: JobDirectory, what: str) -> dict[str, Any]:
    status = jobs.wait(job)
    if status.state != "finished":
        raise ExportError(f"The {what} did not finish", status.reason or status.state, f"see the log of {job.id}")
    return dict(status.result)


def _check_adapter(folder: Path) -> None:
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing and (folder / "adapter_model.bin").is_file():
        why = "its weights are a pickle, and a pickle can run code"
        raise ExportError(f"{folder} cannot be used", why, "convert them to safetensors first")
    if missing:
        raise ExportError(f"{folder} is not an adapter folder", f"it has no {missing[0]}", "name result/adapter")


def _check_out(out: Path) -> None:
    if out.exists():
        raise ExportError(f"{out} exists", "an export is never overwritten", "choose another folder or remove it")
