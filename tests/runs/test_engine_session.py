"""The engine behind the columns: which addresses are asked, what a question is, and how answers come in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.engine.client import Ask, EngineClient
from app.engine.http.endpoint import Endpoint
from app.engine.http.event_stream import AnswerFacts, ColumnEvent
from app.errors import UsageError
from app.evaluation.conversation import Column
from app.runs import engine_session
from app.runs.engine_session import Server, Settings


@pytest.mark.parametrize(
    "address",
    [
        "x",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://u:p@127.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/v1",
        "http://127.0.0.1:99999/v1",
        "file:///etc/passwd",
        "http://127.0.0.1/v1?x=1",
        "http://no-such-host.invalid/v1",
    ],
)
def test_addresses_that_are_no_server_are_refused(address: str) -> None:
    with pytest.raises(UsageError):
        Server.checked(address, "t", "model")


def test_a_question_is_neither_empty_nor_endless() -> None:
    assert engine_session.checked_prompt("  hi ") == "hi" and engine_session.checked_system(None) == ""
    for prompt in ("", "  ", "x" * 200_000, None):
        with pytest.raises(UsageError):
            engine_session.checked_prompt(prompt)
    with pytest.raises(UsageError):
        engine_session.checked_system("x" * 200_000)


def test_a_seed_moves_on_and_stays_within_32_bits() -> None:
    last = Settings(seed=2**32 - 1)
    assert [last.request(attempt)["seed"] for attempt in (0, 1, 2)] == [2**32 - 1, 0, 1]
    assert Settings().request()["seed"] is None


def test_answers_come_in_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    news = [
        ColumnEvent("a", "he"),
        ColumnEvent("b", "no"),
        ColumnEvent("a", "llo", done=AnswerFacts(tokens=2), finish_reason="stop"),
        ColumnEvent("b", error="gone"),
    ]

    def answers(self: EngineClient, asks: list[Ask]) -> Iterator[ColumnEvent]:
        yield from news

    monkeypatch.setattr(EngineClient, "answers", answers)
    turn = engine_session.open_turn("q", [Column("a", "A"), Column("b", "B")])
    with EngineClient(Endpoint("http://127.0.0.1:1/v1", "t", 0)) as client:
        drawn = list(engine_session.stream(client, [], turn.answers))
    assert drawn and turn.answers["a"].text == "hello" and turn.answers["a"].done
    assert turn.answers["b"].error == "gone" and turn.answers["b"].done
