from __future__ import annotations

import random

import pytest

from app.engine.batching.text import TextStream
from tests.models import tiny_models


def stream(text: str, stops: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    tokenizer = tiny_models.tokenizer()
    made = TextStream(lambda ids: tokenizer.decode(ids), stops)
    pieces = []
    for token in tokenizer(text)["input_ids"]:
        pieces.append(made.push(token))
        if made.stopped:
            break
    return [*pieces, made.end()], made


@pytest.mark.parametrize("text", ["plain words, spaces  and\nlines", "Grüße, 你好, 🎉👩‍👩‍👧 done", "", "\u00e9" * 9])
def test_the_pieces_are_the_text_and_hold_whole_characters(text: str) -> None:
    pieces, _ = stream(text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_nothing_of_a_stop_string_is_shown() -> None:
    pieces, made = stream("one two STOP three", ("STOP",))
    assert "".join(pieces) == "one two " and made.stopped


def test_a_begun_stop_string_that_ends_otherwise_is_shown() -> None:
    pieces, made = stream("one STO two ST", ("STOP",))
    assert "".join(pieces) == "one STO two ST" and not made.stopped


def test_the_earliest_of_several_stops_counts() -> None:
    generator = random.Random(4)
    for _ in range(200):
        text = "".join(generator.choice("abc") for _ in range(12))
        stops = tuple("".join(generator.choice("abc") for _ in range(generator.randint(1, 3))) for _ in range(2))
        places = [text.find(stop) for stop in stops if stop in text]
        # Tokens of one character: a stop is seen at its last character, so the one that ends first is found first.
        ends = sorted((text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text)
        expected = text[: ends[0][1]] if places else text
        made = TextStream(lambda ids: "".join(chr(i) for i in ids), stops)
        pieces = []
        for character in text:
            pieces.append(made.push(ord(character)))
            if made.stopped:
                break
        shown = "".join([*pieces, made.end()])
        assert shown in {expected, text[: min(places)] if places else text}
        assert not any(stop in shown for stop in stops)


def test_broken_bytes_are_shown_at_the_end_and_never_block() -> None:
    tokenizer = tiny_models.tokenizer()
    broken = tokenizer.convert_tokens_to_ids("ã")  # the byte 0xE3, which begins a character of three bytes
    made = TextStream(lambda ids: tokenizer.decode(ids))
    pieces = [made.push(broken) for _ in range(20)]
    assert any(pieces) and "".join([*pieces, made.end()]).count("\ufffd") == 20
