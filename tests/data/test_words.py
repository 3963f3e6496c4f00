"""Prove that words tokenised once give the tokens that the tokenizer gives for the whole text."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers

from app.data import words
from app.data.tokenizer import ModelTokenizer
from app.data.words import Words, can_be_cut

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST,
    "Qwen": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST,
    "Tekken": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-4o": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
PIECES = [
    *("the answer", "isn't", "IT'S", "four", "2024", "3.14", "$5", "(see", "note)", "--", "…", "“quoted”", "naïve"),
    *(
        "你好，世界",
        "😀",
        "👩‍👩‍👧",
        "Ünïcode",
        "a_b",
        "x=1;",
        "https://a.b/c?d=e",
        "\u00a0",
        "\u3000",
        "\x1c",
        "\u200b",
    ),
    *("<|im_end|>", "<|im_end|>\n<|im_start|>", "<think>", "\n", "\n\n", "\r\n", "\t", "  ", " ", ".", ",", "'", "'s"),
]


def cutter(tokenizer: ModelTokenizer, pattern: str) -> Any:
    """Return the backend with a pre-tokenizer that splits at a pattern."""
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    return backend


def described(backend: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(backend.to_str())
    return found


def texts(count: int) -> list[str]:
    """Return texts of all kinds of pieces, mostly with single spaces between them."""
    rng = random.Random(3)
    return [
        "".join(
            rng.choice(PIECES) + rng.choices((" ", "", "  "), (8, 2, 1))[0] for _ in range(rng.randint(0, 40))
        ).strip(" " * rng.randint(0, 1))
        for _ in range(count)
    ]


def ids(backend: Any, given: list[str]) -> list[list[int]]:
    return [one.ids for one in backend.encode_batch(given, add_special_tokens=False)]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_words_give_the_tokens_of_the_whole(pattern: str, chatml: ModelTokenizer) -> None:
    backend = cutter(chatml, pattern)
    assert can_be_cut(described(backend))
    given, cache = texts(400), Words(backend)
    for _ in range(2):  # words that are met for the first time, and known ones
        assert [one for start in range(0, 400, 50) for one in cache.encode(given[start : start + 50])] == ids(
            backend, given
        )
    assert cache._trusted and cache._later and cache._first


def test_the_pattern_inside_of_byte_level_is_known(chatml: ModelTokenizer) -> None:
    assert can_be_cut(described(chatml.backend))
    assert Words(chatml.backend).encode(texts(200)) == ids(chatml.backend, texts(200))


@pytest.mark.parametrize("pattern", [r"\S+ \S+", r"\p{L}+ ?", r"(?<=x) a|\s+", r"\s+(?!\S)|\w+\s|\s+"])
def test_other_patterns_are_not_cut(pattern: str, chatml: ModelTokenizer) -> None:
    assert not can_be_cut(described(cutter(chatml, pattern)))


def test_tokens_that_reach_over_spaces_forbid_it(chatml: ModelTokenizer) -> None:
    for token in (
        AddedToken("<end>", rstrip=True),
        AddedToken("<end>", lstrip=True),
        AddedToken("end", single_word=True),
        AddedToken("new york"),
        AddedToken("<end> "),
    ):
        backend = Tokenizer.from_str(chatml.backend.to_str())
        backend.add_tokens([token])
        assert not can_be_cut(described(backend)), token
    spaced = Tokenizer.from_str(chatml.backend.to_str())
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert not can_be_cut(described(spaced))
    chance = described(chatml.backend)
    chance["model"]["dropout"] = 0.1
    assert not can_be_cut(chance) and not can_be_cut({})


def test_what_turns_out_wrong_is_noticed_and_left(chatml: ModelTokenizer) -> None:
    backend = cutter(chatml, r"\S+ \S+")  # joins words over a space: it may not be cut
    backend.train_from_iterator(["of the of the of the"] * 20)
    cache, given = Words(backend), ["of the of the", "the of the of"]
    assert cache._by_words(given) != ids(backend, given)
    assert cache.encode(given) == ids(backend, given) and not cache._trusted


def test_the_words_that_are_kept_stay_few(chatml: ModelTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST_WORDS", 10)
    cache, given = Words(chatml.backend), texts(300)
    assert cache.encode(given) == ids(chatml.backend, given)
    assert max(len(cache._first), len(cache._later)) <= 10
