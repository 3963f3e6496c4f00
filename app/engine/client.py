"""A small client of the engine for the page and the command line. Free of heavy imports."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from app.engine import endpoint
from app.engine.endpoint import Endpoint
from app.errors import EngineError
from app.jobs.directory import JobDirectory

_POLL_S = 0.1
Message = Mapping[str, str]


@dataclass(frozen=True)
class ColumnEvent:
    """News of one column: new text; or its end, with the workbench's facts and the reason; or an error."""

    column: str
    text: str = ""
    done: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    error: str = ""


@dataclass(frozen=True)
class Ask:
    """What one column is asked. `model` is the engine's name for it where that is not the column's own."""

    column: str
    messages: Sequence[Message]
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""


def wait_for_endpoint(job: JobDirectory, *, timeout_s: float = 600.0) -> Endpoint:
    """Wait until an engine serves. Raises EngineError when it ended or takes too long."""
    end = time.monotonic() + timeout_s
    while True:
        found = endpoint.read(job)
        status = job.status()
        if found is not None and status.live:
            return found
        if status.final:
            raise EngineError("The engine did not start", status.reason or status.state, f"see the log of {job.id}")
        if time.monotonic() > end:
            raise EngineError(f"The engine did not serve within {timeout_s:.0f} s", f"it is {status.state}", "")
        time.sleep(_POLL_S)


class EngineClient:
    """Talks to one engine. Use it as a context manager, or close it."""

    def __init__(self, found: Endpoint) -> None:
        # No proxy may stand between this machine and itself; a first token may take long on a CPU.
        self._http = httpx.Client(
            base_url=found.url,
            headers={"Authorization": f"Bearer {found.token}"},
            timeout=httpx.Timeout(10.0, read=None),
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    @classmethod
    def at(cls, url: str, token: str) -> EngineClient:
        """Return a client of any OpenAI-compatible server. `url` ends in /v1."""
        return cls(Endpoint(url, token, 0))

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return the base and every adapter."""
        models: list[dict[str, Any]] = self._asked("GET", "/models")["data"]
        return models

    def load_adapter(self, name: str, folder: str) -> dict[str, Any]:
        """Load an adapter without reloading the base. Raises EngineError when it does not fit."""
        return self._asked("POST", "/adapters", {"name": name, "dir": folder})

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter."""
        self._asked("DELETE", f"/adapters/{name}")

    def chat(self, column: str, messages: Sequence[Message], **settings: Any) -> Iterator[ColumnEvent]:
        """Stream the answer of one column; `settings` are the protocol's. An error is the last event."""
        return self.answer(Ask(column, messages, settings))

    def answer(self, ask: Ask) -> Iterator[ColumnEvent]:
        """Stream the answer to one question. An error is the last event."""
        wanted = {name: value for name, value in ask.settings.items() if value is not None}
        body = {"model": ask.model or ask.column, "messages": list(ask.messages), "stream": True, **wanted}
        try:
            with self._http.stream("POST", "/chat/completions", json=body) as response:
                if response.status_code != 200:
                    response.read()
                    yield ColumnEvent(ask.column, error=_complaint(response))
                    return
                yield from _events(ask.column, response.iter_lines())
        except httpx.HTTPError as error:
            yield ColumnEvent(ask.column, error=f"the engine cannot be reached: {error or type(error).__name__}")

    def chat_columns(
        self, columns: Sequence[str], messages: Sequence[Message], **settings: Any
    ) -> Iterator[ColumnEvent]:
        """Stream the answers of several columns to the same messages, in the order in which text arrives."""
        return self.answers([Ask(column, messages, settings) for column in columns])

    def answers(self, asks: Sequence[Ask]) -> Iterator[ColumnEvent]:
        """Stream several answers at once, in the order in which text arrives. Closing the iterator ends them all."""
        news: queue.SimpleQueue[ColumnEvent | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def follow(ask: Ask) -> None:
            for event in self.answer(ask):
                if stopped.is_set():
                    break
                news.put(event)
            news.put(None)

        for ask in asks:
            threading.Thread(target=follow, args=(ask,), name=f"column {ask.column}", daemon=True).start()
        try:
            open_columns = len(asks)
            while open_columns:
                event = news.get()
                if event is None:
                    open_columns -= 1
                else:
                    yield event
        finally:
            stopped.set()

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise EngineError("The engine cannot be reached", str(error), "start it again") from None
        if response.status_code >= 400:
            raise EngineError("The engine refused", _complaint(response), "")
        found: dict[str, Any] = response.json()
        return found


def _events(column: str, lines: Iterator[str]) -> Iterator[ColumnEvent]:
    """Read server-sent events up to the end of the answer."""
    ended = False
    for line in lines:
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        try:
            found = json.loads(line.removeprefix("data: "))
            if "error" in found:
                yield ColumnEvent(column, error=str(found["error"].get("message")))
                return
            for choice in found.get("choices") or ():
                text = (choice.get("delta") or {}).get("content") or ""
                if text:
                    yield ColumnEvent(column, text)
                if choice.get("finish_reason"):
                    ended = True
                    facts = choice.get("workbench") or {}
                    yield ColumnEvent(column, done=facts, finish_reason=str(choice["finish_reason"]))
        except (ValueError, TypeError, AttributeError, RecursionError):
            yield ColumnEvent(column, error="the server sent something that is no answer")
            return
    if not ended:
        yield ColumnEvent(column, error="the engine ended before the answer did")


def _complaint(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
