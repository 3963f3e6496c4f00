"""What llama.cpp's child is asked and what it answers, as JSON on its standard input and output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

Ids = list[int]


@dataclass(frozen=True)
class Question:
    """Texts to predict and prompts to answer, all as token ids.

    texts: ids and the places in them to predict, each by its `most` likeliest tokens. prompts: answered greedily with
    at most `max_tokens`. lora: a GGUF adapter to add. letter: the token of a plain letter. It is what is written at
    every place, whatever is likeliest: of a token that is half a character, or the end of a turn, llama.cpp tells no
    probabilities. They come before that choice.
    """

    texts: Sequence[tuple[Ids, Ids]] = ()
    prompts: Sequence[Ids] = ()
    most: int = 1
    letter: int = 0
    max_tokens: int = 0
    lora: str = ""


class Answer(TypedDict, total=False):
    """Likeliest tokens with log-probabilities by text and place, answers by prompt, the pace; or what went wrong."""

    predictions: list[list[list[tuple[int, float]]]]
    answers: list[str]
    tokens_per_s: float
    error: str
