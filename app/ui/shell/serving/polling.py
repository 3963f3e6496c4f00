"""Answers of long handlers by short polls in place of an event stream.

The framework streams what a queued handler does, one connection for each page for as long as the handler works. A
browser has six connections for a host: six pages that wait for an answer would keep the seventh from being clicked.
Here the same route answers at once with what there is; the page's script asks again until nothing is left to come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import orjson
from gradio.queueing import Queue
from gradio.server_messages import (
    EventMessage,
    ProcessCompletedMessage,
    UnexpectedErrorMessage,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/gradio_api/queue/data"
# How long a poll waits for news. Short, because meanwhile it holds one of the browser's connections.
HOLD_S = 0.2
# A hidden tab may ask once a minute; one that has not asked for this long is closed, and what it waits for is ended.
FORGOTTEN_S = 180.0
# Tells the page's script whether to ask again. The framework's own word for the end closes the stream in the browser,
# and what was handed in a moment before that was never heard of.
MORE_HEADER = b"x-workbench-more"
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def _now() -> float:
    return time.monotonic()


class Polled:
    """The layer that answers polls. `queue` returns the framework's queue once the page is built."""

    def __init__(self, app: App, queue: Callable[[], Queue]) -> None:
        self.app = app
        self._queue = queue
        self._asked: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a poll, or pass the request on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        words = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])
        await self._forget()
        news, more = await self._news(words[0])
        body = b"".join(b"data: " + orjson.dumps(one.model_dump(), default=str) + b"\n\n" for one in news)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*_HEADERS, (MORE_HEADER, b"1" if more else b"0")],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _news(self, session: str) -> tuple[list[EventMessage], bool]:
        """Return what a session has not heard yet, and whether more is to come; wait a moment when there is nothing."""
        queue = self._queue()
        messages = queue.pending_messages_per_session.get(session)
        if queue.stopped or messages is None:
            lost = not queue.stopped
            gone = UnexpectedErrorMessage(message="The page was started anew.", session_not_found=lost, success=False)
            return [gone], False
        self._asked[session] = _now()
        found: list[EventMessage] = []
        with suppress(asyncio.TimeoutError):
            found.append(await asyncio.wait_for(messages.get(), HOLD_S))
        while not messages.empty():
            found.append(messages.get_nowait())
        pending = queue.pending_event_ids_session.get(session, set())
        for message in found:
            if isinstance(message, ProcessCompletedMessage) and message.event_id:
                pending.discard(message.event_id)
        if not pending:
            self._asked.pop(session, None)
        return found, bool(pending)

    async def _forget(self) -> None:
        """End what sessions wait for that have not asked for long: their tab is closed."""
        oldest = _now() - FORGOTTEN_S
        for session in [session for session, asked in self._asked.items() if asked < oldest]:
            del self._asked[session]
            await self._queue().clean_events(session_hash=session)
