"""A page without a browser: it holds a session with the served page and asks what a tab asks every two seconds."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx

from app.ui.shell.serving import polling

MORE_HEADER = polling.MORE_HEADER.decode()
# The controls by which the two questions of an open Train tab are found in the page's own description.
WATCHED = ("wb-strip", "wb-charts")


@dataclass(frozen=True)
class Answer:
    """One answer: how long it took, and what it weighs on the way to the browser."""

    seconds: float
    size_bytes: int
    data: list[Any]


@dataclass(frozen=True)
class Question:
    """A handler that a timer calls: its number, the values it is given, and whether it goes through the queue."""

    number: int
    values: list[Any]
    queued: bool


class PageClient:
    """One open page."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._session = secrets.token_hex(6)
        self._questions = _questions(self._http.get("/config").raise_for_status().json())

    def __enter__(self) -> PageClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, control: str) -> Answer:
        """Ask what the timer asks to fill this control, and wait for the whole answer."""
        question = self._questions[control]
        body = {"fn_index": question.number, "data": question.values, "session_hash": self._session}
        began = time.perf_counter()
        if not question.queued:
            answer = self._http.post("/gradio_api/run/predict", json=body).raise_for_status()
            return Answer(time.perf_counter() - began, len(answer.content), answer.json()["data"])
        event = self._http.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]
        size, more = 0, True
        while more:  # what takes long is answered by several short polls
            answer = self._http.get("/gradio_api/queue/data", params={"session_hash": self._session}).raise_for_status()
            size, more = size + len(answer.content), answer.headers.get(MORE_HEADER) == "1"
            for line in answer.text.splitlines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed" and message.get("event_id") == event:
                    if not message["success"]:
                        raise RuntimeError(f"{control}: {message['output']}")
                    return Answer(time.perf_counter() - began, size, message["output"]["data"])
        raise RuntimeError(f"{control}: the polls ended without an answer")


def _questions(config: dict[str, Any]) -> dict[str, Question]:
    parts = {part["id"]: part for part in config["components"]}
    found = {}
    for handler in config["dependencies"]:
        if not any(event == "tick" for _, event in handler["targets"]):
            continue
        values = [parts[one]["props"].get("value") for one in handler["inputs"]]
        for one in handler["outputs"]:
            name = parts[one]["props"].get("elem_id")
            if name in WATCHED:
                found[name] = Question(handler["id"], values, handler.get("queue") is not False)
    return found
