"""Servers that are none: what they send is one plain line, and never more than a little memory."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.engine.client import EngineClient
from app.engine.http.event_stream import ENDED_EARLY, AnswerFacts, ColumnEvent, read_events
from app.errors import EngineError

END = {"choices": [{"delta": {}, "finish_reason": "stop", "workbench": {"tokens": 3, "tokens_per_s": "x"}}]}


def chunk(text: object) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False) + "\n\n"


def last(*pieces: bytes) -> ColumnEvent:
    return list(read_events("a", pieces))[-1]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_answer_is_read_however_it_is_cut_and_spaced(newline: str, size: int) -> None:
    stream = ": ping\n\n" + chunk("Grüße ").replace("data: ", "data:") + chunk("你好") + f"data: {json.dumps(END)}\n\n"
    sent = (stream + "data: [DONE]\n\n").replace("\n", newline).encode()
    events = list(read_events("a", (sent[at : at + size] for at in range(0, len(sent), size))))
    assert "".join(event.text for event in events) == "Grüße 你好" and not any(event.error for event in events)
    assert events[-1].done == AnswerFacts(tokens=3) and events[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    "sent",
    [
        *(b"data: [1]\n", b'data: {"choices": [5]}\n', b'data: {"choices": {"a": 1}}\n', b"data: {\n", b"data: \xff\n"),
        chunk(5).encode(),
        chunk({"a": 1}).encode(),
        b"data: " + b"[" * 200_000 + b"\n",
    ],
)
def test_what_is_no_answer_is_one_plain_line(sent: bytes) -> None:
    assert last(chunk("before").encode(), sent).error == "the server sent something that is no answer"


def test_an_answer_that_breaks_off_and_an_error_are_told() -> None:
    assert last(chunk("half").encode()).error == last(b"<html>").error == ENDED_EARLY
    assert last(b'data: {"error": {"message": "gone"}}\n').error == last(b'data: {"error": "gone"}\n').error == "gone"


@pytest.mark.parametrize("piece", [b"x" * 65536, chunk("word " * 2000).encode()])
def test_a_stream_without_end_is_given_up(piece: bytes) -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        for _ in itertools.count():
            read += len(piece)
            yield piece

    assert list(read_events("a", pieces()))[-1].error and read < 100 << 20


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "no OpenAI-compatible server"),
        (200, b"", "no OpenAI-compatible server"),
        (200, b"[]", "no OpenAI-compatible server"),
        (200, b'{"data": [1]}', "no OpenAI-compatible server"),
        (200, b'{"data": [{"id": [1]}]}', "no OpenAI-compatible server"),
        (200, b"[" * (6 << 20), "no OpenAI-compatible server"),
        (302, b"", r"sends elsewhere \(status 302\)"),
        (401, b'{"detail": "Unauthorized"}', "Unauthorized"),
        (400, b'{"object": "error", "message": "bad thing"}', "Bad thing"),
        (503, b"busy", "Status 503"),
    ],
)
def test_a_server_that_lists_no_models_is_told_apart(status: int, body: bytes, said: str) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with (
            EngineClient.at(f"http://127.0.0.1:{server.server_port}/v1", "t") as client,
            pytest.raises(EngineError) as error,
        ):
            client.models()
    assert said.lower().replace("\\", "") in error.value.line().lower()
