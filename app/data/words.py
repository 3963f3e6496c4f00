"""Tokenise every word once.

A byte-level tokenizer spends nine tenths of its time on cutting texts into pieces with a regular expression. Texts
repeat their words, so they are cut at spaces here first, and only words that were not met before are tokenised. Why
that gives the very same tokens, and for which tokenizers: docs/decisions/words-tokenised-once.md.
"""

from __future__ import annotations

import itertools
from typing import Any

# What the expressions of GPT-2, GPT-4, GPT-4o, Llama 3, Qwen and Mistral's Tekken are made of. In none of these can
# white space stand behind a character that is none, and none looks behind itself.
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ALTERNATIVES = {
    *_CONTRACTIONS.split("|"),
    *(f"(?i:{_CONTRACTIONS})", r"'(?i:[sdmt]|ll|ve|re)"),
    *(r" ?\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"),
    *(rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"),
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:{_CONTRACTIONS})?",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:{_CONTRACTIONS})?",
    *(r" ?\p{N}+", r"\p{N}", r"\p{N}{1,3}"),
    *(r" ?[^\s\p{L}\p{N}]+", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"),
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    *(r"\s*[\r\n]+", r"\s*[\r\n]", r"\s+(?!\S)", r"\s+"),
}
# About 40 MB. Longer pieces are mostly a word, an end of turn and another word, and seldom come again.
_MOST_WORDS = 131_072
_LONGEST_WORD_CHARS = 24
_CHECKED_TEXTS = 64


def can_be_cut(described: dict[str, Any]) -> bool:
    """Say whether a tokenizer (its JSON) gives the same tokens for a text and for what is cut off it at spaces."""
    model, added = described.get("model") or {}, described.get("added_tokens") or []
    if model.get("type") != "BPE" or model.get("dropout"):
        return False
    return not any(map(_reaches_over_spaces, added)) and _is_known(described.get("pre_tokenizer") or {})


def _reaches_over_spaces(token: dict[str, Any]) -> bool:
    """Say whether an added token holds white space, or depends on what stands beside it."""
    flags = any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word"))
    return flags or any(char.isspace() for char in token["content"])


def _is_known(cutter: dict[str, Any]) -> bool:
    """Say whether a pre-tokenizer is one of those that cut before every single space."""
    if cutter.get("type") == "Sequence":
        *splits, last = cutter.get("pretokenizers") or [{}]
        bare = last.get("type") == "ByteLevel" and not last.get("use_regex") and not last.get("add_prefix_space")
        return bare and len(splits) == 1 and _splits_at_known(splits[0])
    return cutter.get("type") == "ByteLevel" and cutter.get("use_regex", False) and not cutter.get("add_prefix_space")


def _splits_at_known(split: dict[str, Any]) -> bool:
    pattern = (split.get("pattern") or {}).get("Regex")
    if split.get("type") != "Split" or split.get("behavior") != "Isolated" or split.get("invert") or not pattern:
        return False
    return _ALTERNATIVES.issuperset(_alternatives(pattern))


def _alternatives(pattern: str) -> list[str]:
    """Cut a regular expression at the bars that stand in no group."""
    found, depth = [""], 0
    for char in pattern:
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            found.append("")
        else:
            found[-1] += char
    return found


class Words:
    """The tokens of words met before, for one backend (a `tokenizers.Tokenizer`) that can be cut."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._first: dict[str, list[int]] = {}  # at the beginning of a text
        self._later: dict[str, list[int]] = {}  # behind a space, which is not part of the key
        self._to_check = _CHECKED_TEXTS
        self._trusted = True

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of texts, as the backend alone would give them without special tokens of its own."""
        if not self._trusted:
            return self._plain(texts)
        found = self._by_words(texts)
        checked, self._to_check = texts[: self._to_check], max(0, self._to_check - len(texts))
        if self._plain(checked) != found[: len(checked)]:
            self._trusted = False
            return self._plain(texts)
        return found

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _by_words(self, texts: list[str]) -> list[list[int]]:
        """Look all words up, tokenise the missing ones together, and put the ids of each text together."""
        cut = [text.split(" ") for text in texts]
        looked = [[self._first.get(pieces[0]), *map(self._later.get, pieces[1:])] for pieces in cut]
        gaps = [_gaps(ids) if None in ids else [] for ids in looked]
        missing: dict[str, list[int]] = {}
        for text, pieces, places in zip(texts, cut, gaps, strict=True):
            missing.update({written: [] for written in _missing(text, pieces, places)})
        for piece, made in zip(missing, self._plain(list(missing)), strict=True):
            missing[piece] = made
        result = []
        for text, pieces, ids, places in zip(texts, cut, looked, gaps, strict=True):
            if places and text in missing:
                result.append(missing[text])
                continue
            for place in places:
                ids[place] = self._remembered(pieces[place], place, missing)
            result.append(list(itertools.chain.from_iterable(ids)))  # type: ignore[arg-type]
        return result

    def _remembered(self, piece: str, place: int, missing: dict[str, list[int]]) -> list[int]:
        """Return the ids of a piece that was missing; it is kept where it is a word that may come again."""
        found = missing[_written(piece, place)]
        if len(piece) <= _LONGEST_WORD_CHARS and not piece[-1].isspace():
            words = self._later if place else self._first
            if len(words) >= _MOST_WORDS:
                words.clear()
            words[piece] = found
        return found


def _gaps(ids: list[list[int] | None]) -> list[int]:
    """Return the places of the pieces that are not known."""
    return [place for place, known in enumerate(ids) if known is None]


def _missing(text: str, pieces: list[str], places: list[int]) -> list[str]:
    """Return what has to be tokenised: the unknown words, or the whole text where it may not be cut beside them."""
    last = len(pieces) - 1
    if last and not all(_may_stand_alone(pieces[place], place, last) for place in places):
        return [text]
    return [_written(pieces[place], place) for place in places]


def _written(piece: str, place: int) -> str:
    """Return a piece with the space that belongs to it."""
    return f" {piece}" if place else piece


def _may_stand_alone(piece: str, place: int, last: int) -> bool:
    """Say whether the spaces around a piece stand alone, between characters that are no white space."""
    return bool(piece) and (place == 0 or not piece[0].isspace()) and (place == last or not piece[-1].isspace())
