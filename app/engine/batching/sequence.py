"""Rows: one prompt with one column's answer, and the events that tell about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from app.engine.batching.adapter_stack import Mix
from app.engine.batching.sampling import Choice, Chooser, Sampling
from app.engine.batching.text import TextStream

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Delta:
    """New text of a row, with the choices behind it when log-probabilities were asked for."""

    text: str
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Done:
    """The end of a row. Times are seconds; tokens_per_s counts the tokens behind the first.

    `cached_tokens` of the prompt were known from an earlier turn.
    """

    finish: Finish
    prompt_tokens: int
    tokens: int
    batched: bool
    time_to_first_token_s: float
    tokens_per_s: float
    cached_tokens: int = 0


@dataclass(frozen=True)
class Failed:
    """The row could not be answered."""

    message: str


Event = Delta | Done | Failed


@dataclass(eq=False)
class DecodeSequence:
    """One prompt on its way. `deliver` is called from the decoder's thread and must not block."""

    column: str
    prompt: list[int]
    sampling: Sampling
    text: TextStream
    end_tokens: frozenset[int]
    deliver: Callable[[Event], None]
    mix: Mix | None = None
    batched: bool = True
    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    cancelled: bool = False
    failed: bool = False
    finish: Finish | None = None
    submitted: float = field(default_factory=time.monotonic)
    first: float = 0.0

    def __post_init__(self) -> None:
        self.chooser = Chooser(self.sampling, set(self.prompt))
        self._pending: list[Choice] = []

    @property
    def source(self) -> str | Mix:
        """Return what answers: the column, or the mix of several on the base."""
        return self.mix or self.column

    @property
    def uses(self) -> tuple[str, ...]:
        """Return the columns without which the row cannot go on."""
        return (self.column, *(name for name, _ in self.mix.parts)) if self.mix else (self.column,)

    @property
    def most_tokens(self) -> int:
        """Return the longest that the row can become, prompt included."""
        return len(self.prompt) + self.sampling.max_tokens

    @property
    def length(self) -> int:
        """Return the tokens that the cache holds for this row: all but the newest, which is fed next."""
        return len(self.prompt) + len(self.tokens) - 1

    def take(self, choice: Choice) -> None:
        """Take in a chosen token and tell about it; sets `finish` when the row ends."""
        if not self.tokens:
            self.first = time.monotonic()
        self.tokens.append(choice.token)
        ended = choice.token in self.end_tokens
        if self.sampling.top_logprobs is not None and not ended:
            self._pending.append(choice)
        piece = "" if ended else self.text.push(choice.token)
        if ended or self.text.stopped:
            self.finish = "stop"
        elif len(self.tokens) >= self.sampling.max_tokens:
            self.finish = "length"
        if self.finish:
            piece += self.text.end()
        if piece or (self.finish and self._pending):
            self.deliver(Delta(piece, tuple(self._pending)))
            self._pending.clear()
        if self.finish:
            self._end()

    def cancel(self) -> None:
        """End the row where it stands."""
        self.finish = "cancelled"
        self._end()

    def fail(self, message: str) -> None:
        """End the row with an error."""
        self.finish, self.failed = "cancelled", True
        self.deliver(Failed(message))

    def _end(self) -> None:
        now = time.monotonic()
        count, first = len(self.tokens), self.first or now
        rate = (count - 1) / (now - first) if count > 1 and now > first else count / max(now - self.submitted, 1e-9)
        assert self.finish is not None
        waited = first - self.submitted
        self.deliver(Done(self.finish, len(self.prompt), count, self.batched, waited, rate, self.cached))
