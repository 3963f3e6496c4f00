"""What the page and the command line ask of the export room. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import ExportError, UsageError
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory, Status
from app.workspace import Workspace

TARGETS = ("adapter", "gguf", "ollama", "vllm", "hub")
GGUF_DTYPES = ("f16", "bf16", "q8_0")
METHODS = ("linear", "cat", "svd", "ties", "dare")
INSPECTION_FILE = "inspection.json"
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def start_merge(
    workspace: Workspace,
    adapter: Path,
    out: Path,
    *,
    max_ram_bytes: int | None = None,
    dtype: str | None = None,
    base: str | None = None,
    dequantise: bool = False,
) -> JobDirectory:
    """Hand in a merge and return its job at once.

    `dtype` (bf16, fp16, fp32) changes the number format, else the base's is kept. `dequantise` takes a base that is
    stored in 4 bits, against advice. Raises ExportError when `out` exists
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
        "dequantise": dequantise,
    }
    return jobs.submit(workspace, "merge", config, name=f"merge: {out.name}")


@dataclass(frozen=True)
class ExportRequest:
    """What an export is asked for; it crosses to the child as plain data.

    adapter or model: the folder to take away. base: the base model, where the adapter's own note is not right.
    dtype: f16, bf16 or q8_0 for GGUF files. lora_only: write the adapter alone as GGUF. safetensors: give Ollama the
    merged weights as they are. name: what the adapter is called in requests. repo: a hub
    repository for the card. dequantise: merge into a base that is stored in 4 bits, against advice.
    """

    to: str
    out: str
    adapter: str = ""
    model: str = ""
    base: str | None = None
    dtype: str = "f16"
    lora_only: bool = False
    safetensors: bool = False
    name: str = "adapter"
    repo: str = ""
    max_ram_bytes: int | None = None
    dequantise: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not fit together. Raises UsageError."""
        if self.to not in TARGETS:
            raise UsageError(f"{self.to!r:.40} is no export", f"there are {', '.join(TARGETS)}", "choose one of them")
        if self.dtype not in GGUF_DTYPES:
            raise UsageError(f"GGUF has no {self.dtype!r:.40} here", f"there are {', '.join(GGUF_DTYPES)}", "")
        if bool(self.adapter) == bool(self.model):
            raise UsageError("An export takes one adapter or one model", "", "give either --adapter or --model")
        if self.model and (self.to in ("adapter", "vllm") or self.lora_only):
            raise UsageError(f"An export to {self.to} like this takes an adapter", "", "give --adapter DIR")
        if self.lora_only and self.to != "gguf":
            raise UsageError("--lora-only writes a GGUF file", "", "use it with --to gguf")
        if self.safetensors and self.to != "ollama":
            raise UsageError("--safetensors is for Ollama", "", "use it with --to ollama")


def start_export(workspace: Workspace, request: ExportRequest) -> JobDirectory:
    """Hand in an export and return its job at once.

    Raises ExportError when its place is taken or the source is not what it should be.
    """
    if request.adapter:
        _check_adapter(Path(request.adapter))
    elif not (Path(request.model) / "config.json").is_file():
        raise ExportError(f"{request.model} is not a model folder", "it has no config.json", "name a merged model")
    out = Path(request.out)
    _check_out(out)
    return jobs.submit(workspace, "export", asdict(request), name=f"{request.to}: {out.name}")


def start_blend(
    workspace: Workspace,
    adapters: Sequence[tuple[Path, float]],
    out: Path,
    *,
    method: str = "linear",
    rank: int | None = None,
    density: float | None = None,
    seed: int = 0,
    run: str = "",
) -> JobDirectory:
    """Hand in a blend of (adapter folder, weight) pairs and return its job at once.

    `method` is linear, cat, svd, ties or dare; `rank` None leaves it to the method; `density` is the share of entries
    that ties and dare keep; `run` is the training job on whose base the result stands. Raises ExportError when `out`
    exists, UsageError for wrong settings.
    """
    if method not in METHODS:
        raise UsageError(f"{method!r} is no way to blend", f"there are {', '.join(METHODS)}", "choose one of them")
    if rank is not None and rank < 1:
        raise UsageError(
            f"The rank {rank} cannot be used", "a rank is at least 1", "leave --rank out", on_page="set it to 0"
        )
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
        "run": run,
    }
    return jobs.submit(workspace, "blend", config, name=f"blend: {out.name}")


def start_inspect(workspace: Workspace, adapter: Path, *, base: str | None = None) -> JobDirectory:
    """Hand in an inspection of an adapter and return its job at once. Raises ExportError when it is no adapter."""
    adapter = adapter.expanduser().absolute()
    _check_adapter(adapter)
    return jobs.submit(workspace, "inspect", {"adapter": str(adapter), "base": base}, name=f"inspect: {adapter.name}")


def blend_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for a blend and return what `blend --json` answers. Raises ExportError when it failed or was stopped."""
    return figures(jobs.wait(job), job)


def merge_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for a merge and return what `merge --json` answers. Raises ExportError when it failed or was stopped."""
    return figures(jobs.wait(job), job)


def export_answer(job: JobDirectory) -> dict[str, Any]:
    """Wait for an export and return what `export --json` answers. Raises ExportError when it failed or was stopped."""
    return figures(jobs.wait(job), job)


def figures(status: Status, job: JobDirectory) -> dict[str, Any]:
    """Return what a job of this room answers, from its last status. Raises ExportError when it did not finish."""
    if status.state != "finished":
        what = job.job["kind"]
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
