"""Rows of an encoder with a decoder (T5, BART): what is read, and apart from it what is written.

The encoder reads the question whole and is not trained on it; the decoder writes the answer, which begins anew with a
start token of its own. In the tokenised files both lie after one another, the answer being the only trained range and
the last one, so that files, lengths and previews are those of any row; the trainer's collator parts them again.
A tokenizer with a chat template writes the question by it. One without, as T5's, gets the question's text alone, and
its own end tokens behind question and answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.data.chat_template.tokens import Cover, Tokens
from app.errors import TemplateError
from app.reading import read_object

_BEFORE = ("system", "developer")


@dataclass(frozen=True)
class EncoderDecoder:
    """What rows must know of such a model: the `start` token of its answers, and whether it has a chat template."""

    start: int | None
    has_template: bool


def encoder_decoder_of(folder: Path, has_template: bool) -> EncoderDecoder | None:
    """Return what the config.json in a tokenizer's folder says of such a model, None for any other."""
    try:
        config = read_object(folder / "config.json")
    except (OSError, ValueError):
        return None
    if config.get("is_encoder_decoder") is not True:
        return None
    start = config.get("decoder_start_token_id", config.get("pad_token_id"))
    return EncoderDecoder(start if isinstance(start, int) else None, has_template)


def input_text(turns: Sequence[tuple[str, str]]) -> str:
    """Return what the encoder reads of a system turn and a question, given as (role, text).

    Raises TemplateError for a longer conversation: without a template nothing says who speaks.
    """
    said = [text for _, text in turns]
    roles = [role for role, _ in turns]
    if len(roles) in (1, 2) and roles[-1] == "user" and all(role in _BEFORE for role in roles[:-1]):
        return "\n\n".join(said)
    raise TemplateError(
        "The model reads one question and writes one answer",
        f"This conversation has the turns {', '.join(roles) or 'none'}, and the model has no chat template",
        "Ask one question, or choose a chat template",
    )


class ApartTokens:
    """The tokens of a question and of its answer, tokenised apart; their text is both texts put together."""

    def __init__(self, question: Tokens, answer: list[int], answer_places: list[tuple[int, int]], split: int) -> None:
        """`split` is the number of characters of the question; the answer's places count from its own beginning."""
        self._question, self._split = question, split
        self._answer_places = answer_places
        self.question_count = len(question.ids)
        self.ids = [*question.ids, *answer]

    def cover(self, start: int, end: int) -> Cover | None:
        """Return the tokens of some characters of the question."""
        return self._question.cover(start, end)

    def places(self) -> list[tuple[int, int]]:
        """Return the characters of every token; a token that the tokenizer put in has an empty place at its side."""
        asked = [place if place[1] else (self._split - 1,) * 2 for place in self._question.places()]
        written = [(start + self._split, end + self._split) for start, end in self._answer_places]
        return [*asked, *written]

    def own_count(self) -> int:
        """Return how many tokens the tokenizer itself has put in front."""
        return self._question.own_count()


def apart(question: Tokens, answer: Tokens, split: int, eos: int | None, model: EncoderDecoder) -> ApartTokens:
    """Put the tokens of question and answer together; the answer gets its end, and loses the model's own start."""
    ids, places = list(answer.ids), answer.places()
    if ids and ids[0] == model.start and places[0][1] == 0:
        ids, places = ids[1:], places[1:]
    if eos is not None and ids[-1:] != [eos]:
        ids, places = [*ids, eos], [*places, (0, 0)]
    last = max((end for _, end in places), default=0)
    places = [place if place[1] else (last if number else 0,) * 2 for number, place in enumerate(places)]
    return ApartTokens(question, ids, places, split)


def only_answer(ids: list[int], trained: tuple[tuple[int, int], ...]) -> tuple[list[int], Any]:
    """Return a row of a chat template up to the end of its last answer, and that answer as its only trained range."""
    start, end = trained[-1]
    return ids[:end], ((start, end),)
