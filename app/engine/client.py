"""A small client of the engine for the page and the command line. Free of heavy imports."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from app.engine.http import endpoint
from app.engine.http.endpoint import Endpoint
from app.engine.http.event_stream import ENDED_EARLY, ColumnEvent, read_events
from app.errors import EngineError, one_line
from app.jobs.directory import JobDirectory
from app.reading import parsed_json

_POLL_S = 0.1
# How long another server may be silent: before a token, and before its list of models.
_SILENCE_S, _LIST_S = 300.0, 20.0
# More than any list of models or complaint.
_MOST_BYTES = 4 << 20
Message = Mapping[str, str]


@dataclass(frozen=True)
class ServedModel:
    """A model of an engine's list: the base or an adapter, with its hash and what a reader of it should know."""

    id: str
    adapter_hash: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Ask:
    """What one column is asked; `settings` are the protocol's own, such as temperature and max_tokens.

    `model` is the engine's name for the column where that is not its own.
    """

    column: str
    messages: Sequence[Message]
    settings: Mapping[str, object] = field(default_factory=dict)
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

    def __init__(self, found: Endpoint, *, name: str = "The engine", answer_s: float | None = None) -> None:
        """`name` is what errors call it, `answer_s` how long it may be silent (None: for ever)."""
        # No proxy may stand between this machine and itself; a first token may take long on a CPU.
        self._name, self._answer_s = name, answer_s
        self._http = httpx.Client(
            base_url=found.url,
            headers={"Authorization": f"Bearer {found.token}"},
            timeout=httpx.Timeout(10.0, read=answer_s),
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    @classmethod
    def at(cls, url: str, token: str) -> EngineClient:
        """Return a client of any OpenAI-compatible server. `url` ends in /v1."""
        return cls(Endpoint(url, token, 0), name="The server", answer_s=_SILENCE_S)

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[ServedModel]:
        """Return the base and every adapter."""
        models = self._asked("GET", "/models").get("data")
        if not isinstance(models, list) or not all(
            isinstance(m, dict) and isinstance(m.get("id"), str) for m in models
        ):
            raise EngineError("This is no OpenAI-compatible server", "its list of models is none", "check the address")
        return [_served(model) for model in models]

    def load_adapter(self, name: str, folder: str) -> None:
        """Load an adapter without reloading the base. Raises EngineError when it does not fit."""
        self._asked("POST", "/adapters", {"name": name, "dir": folder})

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter."""
        self._asked("DELETE", f"/adapters/{quote(name, errors='replace')}")

    def chat(self, column: str, messages: Sequence[Message], **settings: object) -> Iterator[ColumnEvent]:
        """Stream the answer of one column; `settings` are the protocol's. An error is the last event."""
        return self.answer(Ask(column, messages, settings))

    def answer(self, ask: Ask) -> Iterator[ColumnEvent]:
        """Stream the answer to one question. An error is the last event."""
        wanted = {name: value for name, value in ask.settings.items() if value is not None}
        body = {"model": ask.model or ask.column, "messages": list(ask.messages), "stream": True, **wanted}
        try:
            with self._http.stream("POST", "/chat/completions", json=body) as response:
                if response.status_code != 200:
                    yield ColumnEvent(ask.column, error=_complaint(response, _whole(response)))
                    return
                yield from read_events(ask.column, response.iter_bytes())
        except httpx.RemoteProtocolError:
            yield ColumnEvent(ask.column, error=ENDED_EARLY)
        except httpx.TimeoutException:
            yield ColumnEvent(ask.column, error=f"{self._name.lower()} has been silent for too long")
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            yield ColumnEvent(ask.column, error=f"{self._name.lower()} cannot be reached: {why}")
        except (ValueError, TypeError, httpx.InvalidURL) as error:
            yield ColumnEvent(ask.column, error=f"the question cannot be sent: {_unsendable(error)}")

    def chat_columns(
        self, columns: Sequence[str], messages: Sequence[Message], **settings: object
    ) -> Iterator[ColumnEvent]:
        """Stream the answers of several columns to the same messages, in the order in which text arrives."""
        return self.answers([Ask(column, messages, settings) for column in columns])

    def answers(self, asks: Sequence[Ask]) -> Iterator[ColumnEvent]:
        """Stream several answers at once, in the order in which text arrives. Closing the iterator ends them all."""
        news: queue.SimpleQueue[ColumnEvent | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def follow(ask: Ask) -> None:
            try:
                for event in self.answer(ask):
                    if stopped.is_set():
                        break
                    news.put(event)
            except Exception as error:
                # Broad on purpose: nobody else sees what this thread raises, and without an end the reader waits.
                news.put(ColumnEvent(ask.column, error=f"{type(error).__name__}: {_shown(one_line(error))}"))
            finally:
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

    def _asked(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        remedy = "start it again" if self._answer_s is None else "check its address"
        timeout = httpx.Timeout(10.0, read=None if self._answer_s is None else _LIST_S)
        try:
            with self._http.stream(method, path, json=body, timeout=timeout) as response:
                content = _whole(response)
        except httpx.TimeoutException:
            raise EngineError(f"{self._name} does not answer", "it is silent", remedy) from None
        except httpx.HTTPError as error:
            raise EngineError(f"{self._name} cannot be reached", str(error), remedy) from None
        except (ValueError, TypeError, httpx.InvalidURL) as error:
            raise EngineError("The request cannot be sent", _unsendable(error), "check its words") from None
        if response.status_code >= 300:
            raise EngineError(f"{self._name} refused", _complaint(response, content), "")
        return _object(content)


def _unsendable(error: Exception) -> str:
    """Return why a body or an address cannot be put into a request."""
    if isinstance(error, UnicodeEncodeError):
        return "it holds bytes that are no text in UTF-8"
    return _shown(one_line(error))


def _shown(text: str) -> str:
    """Return text with what no page and no terminal can show as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _whole(response: httpx.Response) -> bytes:
    """Return the whole answer; of one that is larger than any answer, its beginning."""
    content = b""
    for piece in response.iter_bytes():
        content += piece
        if len(content) > _MOST_BYTES:
            break
    return content


def _object(content: bytes) -> dict[str, object]:
    """Return an answer that is a JSON object, and nothing for any other."""
    try:
        found = parsed_json(content)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _complaint(response: httpx.Response, content: bytes) -> str:
    """Return why a server refused, in its own words where it has some: OpenAI's form, vLLM's, or FastAPI's."""
    if response.has_redirect_location:
        return f"it sends elsewhere (status {response.status_code}), and that is not followed"
    found = _object(content)
    error = found.get("error") or found
    said = error if isinstance(error, str) else None
    if isinstance(error, dict):
        said = error.get("message") or error.get("detail")
    return said[:500] if isinstance(said, str) and said else f"status {response.status_code}"


def _served(model: Mapping[str, Any]) -> ServedModel:
    facts = model["workbench"] if isinstance(model.get("workbench"), dict) else {}
    return ServedModel(model["id"], str(facts.get("adapter_hash") or ""), str(facts.get("warning") or ""))
