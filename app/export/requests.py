"""What the page and the command line ask of the export room. Free of heavy imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.errors import ExportError
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.workspace import Workspace

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
    missing = [name for name in _ADAPTER_FILES if not (adapter / name).is_file()]
    if missing:
        raise ExportError(f"{adapter} is not an adapter folder", f"it has no {missing[0]}", "name result/adapter")
    if out.exists():
        raise ExportError(f"{out} exists", "an export is never overwritten", "choose another folder or remove it")
    config = {
        "adapter": str(adapter),
        "out": str(out),
        "max_ram_bytes": max_ram_bytes,
        "dtype": dtype,
        "base": base,
    }
    return jobs.submit(workspace, "merge", config, name=f"merge: {out.name}")


def merge_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for a merge and return what `merge --json` answers. Raises ExportError when it failed or was stopped."""
    status = jobs.wait(job)
    if status.state != "finished":
        raise ExportError("The merge did not finish", status.reason or status.state, f"see the log of {job.id}")
    return dict(status.result)
