"""What the page and the command line ask of the engine: start one, compare columns. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.catalog import hub_config
from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.event_stream import ColumnEvent
from app.errors import EngineError, ModelError, UsageError
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.names import is_local, resolve, resolve_adapter
from app.workspace import Workspace

BASE = "base"
_STOP_TIMEOUT_S = 30.0


def start_engine(
    workspace: Workspace,
    model: str,
    adapters: Mapping[str, str | Path] | None = None,
    *,
    quant: str = "nf4",
    dtype: str = "auto",
    port: int = 0,
    token: str | None = None,
    queue: bool = False,
) -> JobDirectory:
    """Hand in an engine job and return at once; `client.wait_for_endpoint` waits until it serves.

    Raises ModelError for what is no model or adapter, NetworkError for a model that is neither here nor to be fetched,
    UsageError for an adapter's name, BusyError when the accelerator has an owner.
    """
    resolved = resolve(model)
    if not is_local(resolved):
        hub_config(resolved)
    config = {
        "model": resolved,
        "adapters": {name: _checked(name, str(folder)) for name, folder in (adapters or {}).items()},
        "quant": quant,
        "dtype": dtype,
        "port": port,
        "name": model,
    }
    return jobs.submit(workspace, "engine", config, secret=token, name=f"playground: {model}", queue=queue)


def compare(
    workspace: Workspace,
    model: str,
    adapters: Mapping[str, str | Path],
    prompt: str,
    *,
    system: str = "",
    greedy: bool = False,
    seed: int | None = None,
    max_tokens: int = 256,
    quant: str = "nf4",
    dtype: str = "auto",
    timeout_s: float = 1800.0,
) -> list[dict[str, Any]]:
    """Answer one prompt by the base and every adapter, in one batch, and return the columns in that order.

    Starts an engine of its own and stops it again. Raises EngineError when a column fails.
    """
    job = start_engine(workspace, model, adapters, quant=quant, dtype=dtype)
    try:
        with EngineClient(wait_for_endpoint(job, timeout_s=timeout_s)) as client:
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": prompt})
            settings: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
            if greedy:
                settings["temperature"] = 0
            events = client.chat_columns([BASE, *adapters], messages, **settings)
            return columns_of(events, [BASE, *adapters])
    finally:
        jobs.stop(workspace, job)
        jobs.wait(job, timeout_s=_STOP_TIMEOUT_S)


def columns_of(events: Any, names: list[str]) -> list[dict[str, Any]]:
    """Put the events of columns together, as `chat --json` answers them. Raises EngineError when a column failed."""
    texts = dict.fromkeys(names, "")
    facts: dict[str, Mapping[str, Any]] = {}
    event: ColumnEvent
    for event in events:
        if event.error:
            raise EngineError(f"The column {event.column!r} failed", event.error, "the engine's log has the details")
        texts[event.column] += event.text
        if event.done is not None:
            facts[event.column] = event.done
    return [
        {
            "name": name,
            "adapter_hash": facts[name]["adapter_hash"],
            "batched": facts[name]["batched"],
            "tokens": facts[name]["tokens"],
            "text": texts[name],
            "tokens_per_s": facts[name]["tokens_per_s"],
            "time_to_first_token_s": facts[name]["time_to_first_token_s"],
            **({"warning": facts[name]["warning"]} if facts[name].get("warning") else {}),
        }
        for name in names
    ]


def _checked(name: str, folder: str) -> str:
    if name == BASE:
        raise UsageError("An adapter cannot be named base", "that is the name of the base model's column", "rename it")
    resolved = resolve_adapter(folder)
    if is_local(resolved) and not _weighs(Path(resolved)):
        raise ModelError(
            f"{resolved} is neither an adapter nor a model",
            "there are no weights in it" if Path(resolved).exists() else "there is no such folder",
            "name the folder that a training run left in result/adapter",
        )
    return resolved


def _weighs(folder: Path) -> bool:
    """Tell whether a folder holds weights of any kind; what they are worth, the engine says."""
    try:
        return any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir())
    except OSError:  # a name longer than the file system allows, or a folder that may not be entered
        return False
