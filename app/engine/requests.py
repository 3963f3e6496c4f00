"""What the page and the command line ask of the engine: start one, compare columns. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from app.catalog import hub_config
from app.data.chat_template.tokenizer import refuse_sentencepiece
from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.http.event_stream import AnswerFacts, ColumnEvent
from app.errors import EngineError, ModelError, UsageError
from app.hub.ids import is_local
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.adapter_files import AdapterHeader, is_model
from app.models.names import resolve, resolve_adapter
from app.workspace import Workspace

BASE = "base"
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class EngineRequest:
    """What an engine is asked for; it crosses to the child as plain data.

    adapters: a folder or hub id by the name of its column. quant and dtype: how the base is stored. port: 0 for any
    that is free. name: what the base is called besides its own name. keep_prefixes: whether a conversation's next turn
    begins where the last one ended; without, every prompt is read anew.
    """

    model: str
    adapters: dict[str, str] = field(default_factory=dict)
    quant: str = "nf4"
    dtype: str = "auto"
    port: int = 0
    name: str = ""
    keep_prefixes: bool = True


@dataclass(frozen=True)
class ColumnAnswer:
    """What `chat --json` answers of one column."""

    name: str
    adapter_hash: str
    batched: bool
    tokens: float
    text: str
    tokens_per_s: float
    time_to_first_token_s: float
    warning: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return plain data, without a warning where there is none."""
        return {name: value for name, value in asdict(self).items() if name != "warning" or value}


def start_engine(
    workspace: Workspace, request: EngineRequest, *, token: str | None = None, queue: bool = False
) -> JobDirectory:
    """Hand in an engine job and return at once; `client.wait_for_endpoint` waits until it serves.

    Raises ModelError for what is no model or adapter, NetworkError for a model that is neither here nor to be fetched,
    UsageError for an adapter's name, BusyError when the accelerator has an owner.
    """
    resolved = resolve(request.model)
    if not is_local(resolved):
        hub_config(resolved)
    else:
        refuse_sentencepiece(Path(resolved))
    adapters = {name: checked_adapter(name, str(folder)) for name, folder in request.adapters.items()}
    config = asdict(replace(request, model=resolved, adapters=adapters, name=request.model))
    return jobs.submit(workspace, "engine", config, secret=token, name=f"playground: {request.model}", queue=queue)


def compare(
    workspace: Workspace,
    request: EngineRequest,
    prompt: str,
    *,
    system: str = "",
    greedy: bool = False,
    seed: int | None = None,
    max_tokens: int = 256,
    timeout_s: float = 1800.0,
    handed_in: Callable[[], None] = lambda: None,
) -> list[ColumnAnswer]:
    """Answer one prompt by the base and every adapter, in one batch, and return the columns in that order.

    Starts an engine of its own, calls `handed_in` while that loads, and stops it again. Raises EngineError when a
    column fails.
    """
    job = start_engine(workspace, request)
    try:
        handed_in()
        with EngineClient(wait_for_endpoint(job, timeout_s=timeout_s)) as client:
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": prompt})
            settings: dict[str, object] = {"max_tokens": max_tokens, "seed": seed}
            if greedy:
                settings["temperature"] = 0
            names = [BASE, *request.adapters]
            return columns_of(client.chat_columns(names, messages, **settings), names)
    finally:
        jobs.stop(workspace, job)
        jobs.wait(job, timeout_s=_STOP_TIMEOUT_S)


def columns_of(events: Iterable[ColumnEvent], names: Sequence[str]) -> list[ColumnAnswer]:
    """Put the events of columns together. Raises EngineError when a column failed."""
    texts = dict.fromkeys(names, "")
    facts: dict[str, AnswerFacts] = {}
    for event in events:
        if event.error:
            raise EngineError(f"The column {event.column!r} failed", event.error, "the engine's log has the details")
        texts[event.column] += event.text
        if event.done is not None:
            facts[event.column] = event.done
    return [_column(name, texts[name], facts[name]) for name in names]


def _column(name: str, text: str, facts: AnswerFacts) -> ColumnAnswer:
    return ColumnAnswer(
        name=name,
        adapter_hash=facts.adapter_hash or "",
        batched=facts.batched is True,
        tokens=facts.tokens or 0,
        text=text,
        tokens_per_s=facts.tokens_per_s or 0.0,
        time_to_first_token_s=facts.time_to_first_token_s or 0.0,
        warning=facts.warning or "",
    )


def checked_adapter(name: str, folder: str) -> str:
    """Return the folder or hub id of a column.

    Raises UsageError for its name, ModelError for what holds no weights and for an adapter that is damaged.
    """
    if name == BASE:
        raise UsageError("An adapter cannot be named base", "that is the name of the base model's column", "rename it")
    resolved = resolve_adapter(folder)
    if is_local(resolved) and not _weighs(Path(resolved)):
        raise ModelError(
            f"{resolved} is neither an adapter nor a model",
            "there are no weights in it" if Path(resolved).exists() else "there is no such folder",
            "name the folder that a training run left in result/adapter",
        )
    if is_local(resolved) and not is_model(Path(resolved)):
        AdapterHeader(Path(resolved)).refuse_damaged()
    return resolved


def _weighs(folder: Path) -> bool:
    """Tell whether a folder holds weights of any kind; what they are worth, the engine says."""
    try:
        return any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir())
    except OSError:  # a name longer than the file system allows, or a folder that may not be entered
        return False
