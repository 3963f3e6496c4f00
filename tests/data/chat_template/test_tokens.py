"""Prove that places found by adding up bytes are those that the tokenizer keeps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.chat_template.tokens import ByteTokens, Encoder, OffsetTokens

TEXTS = [
    "<|im_start|>user\nHello there.<|im_end|>\n<|im_start|>assistant\nThe answer is four.<|im_end|>\n",
    "<|im_start|>user\n你好，世界<|im_end|>\n<|im_start|>assistant\n😀👩‍👩‍👧 naïve café Привет<|im_end|>\n",
    "  two  spaces \t\n\n\n and lines\r\n",
    "é",
    "a",
]
DECOMPOSED = "cafe\u0301 is no word of composed characters"


def with_normaliser(tokenizer: ModelTokenizer, normaliser: Any) -> Any:
    """Return the backend with another normaliser."""
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    backend.normalizer = normaliser
    return backend


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield random stretches of a text, always the same ones."""
    rng = random.Random(len(text))
    for _ in range(60):
        start = rng.randrange(len(text))
        yield start, rng.randint(start + 1, len(text))


@pytest.mark.parametrize("normaliser", [None, normalizers.NFC()], ids=["plain", "NFC"])
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_say_what_offsets_say(text: str, normaliser: Any, chatml: ModelTokenizer) -> None:
    backend = with_normaliser(chatml, normaliser)
    (quick,) = Encoder(backend).encode([text], special=False)
    kept = OffsetTokens(text, backend.encode(text, add_special_tokens=False))
    assert isinstance(quick, ByteTokens)
    assert quick.ids == kept.ids
    assert quick.own_count() == kept.own_count() == 0
    assert quick.places() == kept.places()
    for start, end in spans(text):
        ours, theirs = quick.cover(start, end), kept.cover(start, end)
        assert ours is not None and theirs is not None
        assert (ours.first, ours.last) == (theirs.first, theirs.last)
        # Offsets widen a token that holds a part of a character to the whole of it.
        assert bool(ours.before.strip()) >= bool(theirs.before.strip())
        assert bool(ours.after.strip()) >= bool(theirs.after.strip())


def test_words_at_the_border_are_seen(chatml: ModelTokenizer) -> None:
    text = TEXTS[0]
    (tokens,) = chatml.encoder.encode([text], special=False)
    token, (start, end) = next((i, place) for i, place in enumerate(tokens.places()) if place[1] - place[0] > 2)
    inside = tokens.cover(start + 1, end - 1)
    assert inside is not None and (inside.first, inside.last) == (token, token)
    assert (inside.before, inside.after) == (text[start], text[end - 1])


def test_a_rewritten_text_keeps_its_offsets_and_its_place_in_the_batch(chatml: ModelTokenizer) -> None:
    backend = with_normaliser(chatml, normalizers.NFC())
    texts = [TEXTS[0], DECOMPOSED, TEXTS[1]]
    found = Encoder(backend).encode(texts, special=False)
    assert [type(one) for one in found] == [ByteTokens, OffsetTokens, ByteTokens]
    assert [one.ids for one in found] == [backend.encode(text, add_special_tokens=False).ids for text in texts]
    cover = found[1].cover(DECOMPOSED.index("is"), DECOMPOSED.index("is") + 2)
    assert cover is not None and not (cover.before + cover.after).strip()


def test_tokens_that_swallow_spaces_do_not_add_up(chatml: ModelTokenizer) -> None:
    backend = with_normaliser(chatml, None)
    backend.add_tokens([AddedToken("<end>", rstrip=True)])
    greedy, plain = Encoder(backend).encode(["one<end>  \n two", "one two"], special=False)
    assert isinstance(greedy, OffsetTokens) and isinstance(plain, ByteTokens)


def test_tokens_in_front_do_not_count_as_text(chatml: ModelTokenizer) -> None:
    backend = with_normaliser(chatml, None)
    from tokenizers.processors import TemplateProcessing

    start = backend.token_to_id("<s>")
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    (tokens,) = Encoder(backend).encode(["some text"], special=True)
    assert tokens.ids[0] == start and tokens.own_count() == 1


def word_backend() -> Any:
    """Return a tokenizer of whole words, whose tokens are no bytes."""
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


def spaced_backend() -> Any:
    """Return a tokenizer that writes a space as a mark and unknown characters as bytes, as Llama 2 does."""
    marks = {f"<0x{byte:02X}>": 1 + byte for byte in range(256)}
    vocabulary = {"<unk>": 0, **marks, "▁": 300, "a": 301, "b": 302}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def stripping_backend(chatml: ModelTokenizer) -> Any:
    """Return a byte tokenizer that drops outer spaces first."""
    return with_normaliser(chatml, normalizers.Strip())


def test_other_vocabularies_keep_their_offsets(chatml: ModelTokenizer) -> None:
    for backend in (word_backend(), spaced_backend(), stripping_backend(chatml)):
        texts = [" one two ", "a b é"]
        found = Encoder(backend).encode(texts, special=False)
        assert all(isinstance(one, OffsetTokens) for one in found)
        assert [one.ids for one in found] == [backend.encode(text, add_special_tokens=False).ids for text in texts]


def test_a_space_in_front_that_nobody_wrote_is_noticed(chatml: ModelTokenizer) -> None:
    backend = with_normaliser(chatml, None)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words, spaced = Encoder(backend).encode(["one two", " one two"], special=False)
    assert isinstance(words, OffsetTokens) and isinstance(spaced, ByteTokens)


def test_characters_without_tokens_have_no_cover() -> None:
    text = "one   two"
    (tokens,) = Encoder(word_backend()).encode([text], special=False)
    assert tokens.cover(3, 6) is None
    assert tokens.cover(0, len(text)) is not None


def test_the_tokens_of_an_empty_batch_and_an_empty_text(chatml: ModelTokenizer) -> None:
    assert chatml.encoder.encode([], special=False) == []
    (empty,) = chatml.encoder.encode([""], special=False)
    assert empty.ids == [] and empty.cover(0, 0) is None


def test_random_bytes_of_text(chatml: ModelTokenizer) -> None:
    rng = random.Random(5)
    pieces = ["a", " ", "\n", "é", "世", "😀", "<|im_end|>", "<think>", "\u200d", "ﬁ", "\u3000", "the answer"]
    texts = ["".join(rng.choices(pieces, k=rng.randint(1, 30))) for _ in range(100)]
    for text, tokens in zip(texts, chatml.encoder.encode(texts, special=False), strict=True):
        kept = chatml.backend.encode(text, add_special_tokens=False)
        assert tokens.ids == kept.ids and tokens.places() == list(kept.offsets)
        assert "".join(text[a:b] for a, b in dict.fromkeys(tokens.places())) == text
        assert all(before[0] <= after[0] for before, after in itertools.pairwise(tokens.places()))
