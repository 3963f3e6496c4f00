"""Long handlers answer by short polls: each ends at once, and all that was said arrives in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessStartsMessage

from app.ui.shell.serving import polling


class Queue:
    """The framework's queue as far as polls see it."""

    def __init__(self) -> None:
        self.stopped = False
        self.pending_messages_per_session: dict[str, asyncio.Queue[EventMessage]] = {}
        self.pending_event_ids_session: dict[str, set[str]] = {}
        self.cleaned: list[str] = []

    def join(self, session: str, event: str) -> None:
        self.pending_messages_per_session.setdefault(session, asyncio.Queue())
        self.pending_event_ids_session.setdefault(session, set()).add(event)

    def t(self, session: str, message: EventMessage) -> None:
        self.pending_messages_per_session[session].put_nowait(message)

    async def clean_events(self, *, session_hash: str) -> None:
        self.cleaned.append(session_hash)


Ask = Callable[[str], Awaitable[tuple[list[dict[str, Any]], bool, float]]]


def with_polls(test: Callable[[Queue, Ask], Awaitable[None]]) -> None:
    queue = Queue()

    async def elsewhere(*_: Any) -> None:
        raise AssertionError("polls are answered by the layer")

    layer = polling.Polled(elsewhere, lambda: queue)

    async def ask(session: str) -> tuple[list[dict[str, Any]], bool, float]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": polling.PATH,
            "query_string": b"session_hash=" + session.encode(),
        }
        began = time.monotonic()
        await layer(scope, lambda: asyncio.sleep(9, {}), send)
        took = time.monotonic() - began
        assert sent[0]["status"] == 200 and not sent[-1].get("more_body")
        lines = sent[1]["body"].decode().split("\n\n")
        more = dict(sent[0]["headers"])[polling.MORE_HEADER] == b"1"
        return [json.loads(line[6:]) for line in lines if line], more, took

    asyncio.run(test(queue, ask))  # type: ignore[arg-type]


def done(event: str) -> ProcessCompletedMessage:
    return ProcessCompletedMessage(event_id=event, output={"data": ["x"]}, success=True)


def test_a_poll_ends_at_once_and_says_when_nothing_more_comes() -> None:
    async def test(queue: Queue, ask: Ask) -> None:
        queue.join("one", "a")
        news, more, took = await ask("one")
        assert news == [] and more and took < 1.0
        queue.t("one", ProcessStartsMessage(event_id="a"))
        queue.join("one", "b")
        queue.t("one", done("a"))
        news, more, _ = await ask("one")
        assert [one["msg"] for one in news] == ["process_starts", "process_completed"] and more
        queue.t("one", done("b"))
        news, more, _ = await ask("one")
        assert [one["event_id"] for one in news] == ["b"] and not more

    with_polls(test)


def test_many_pages_are_polled_beside_one_another() -> None:
    async def test(queue: Queue, ask: Ask) -> None:
        for number in range(20):
            queue.join(str(number), "a")
        began = time.monotonic()
        await asyncio.gather(*(ask(str(number)) for number in range(20)))
        assert time.monotonic() - began < 5 * polling.HOLD_S

    with_polls(test)


def test_a_session_that_is_unknown_is_told_so() -> None:
    async def test(queue: Queue, ask: Ask) -> None:
        news, more, _ = await ask("nobody")
        assert [(one["msg"], one["session_not_found"]) for one in news] == [("unexpected_error", True)] and not more
        queue.stopped = True
        assert (await ask("nobody"))[0][0]["session_not_found"] is False

    with_polls(test)


def test_what_a_closed_tab_waits_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(polling, "_now", lambda: clock.now)

    async def test(queue: Queue, ask: Ask) -> None:
        queue.join("gone", "a")
        queue.join("here", "a")
        await ask("gone")
        clock.now += polling.FORGOTTEN_S / 2
        await ask("here")
        assert queue.cleaned == []
        clock.now += polling.FORGOTTEN_S / 2 + 1
        await ask("here")
        assert queue.cleaned == ["gone"]

    with_polls(test)
