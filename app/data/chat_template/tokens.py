"""Tokenise texts and tell which tokens stand for which characters.

Keeping offsets costs the tokenizer a third of its time. Where every token of a vocabulary stands for a known number of
bytes, adding these up says the same, and the sum says whether it holds: a text whose tokens do not add up to its bytes
(the tokenizer rewrote it, or put tokens of its own in) is tokenised again with offsets.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

# Larger than any text: a token of unknown length never adds up.
_UNKNOWN_BYTES = 1 << 40


@dataclass(frozen=True)
class Cover:
    """Tokens `first` to `last` stand for some characters, and for what lies `before` and `after` these characters."""

    first: int
    last: int
    before: str
    after: str


class Tokens(Protocol):
    """The tokens of one text."""

    @property
    def ids(self) -> list[int]:
        """Return the ids."""

    def cover(self, start: int, end: int) -> Cover | None:
        """Return the tokens of the characters from `start` to before `end`, None where they have none."""

    def places(self) -> list[tuple[int, int]]:
        """Return the characters of every token, first and behind last; (0, 0) where it stands for none."""

    def own_count(self) -> int:
        """Return how many tokens the tokenizer itself has put in front."""


class OffsetTokens:
    """Tokens whose places the tokenizer has kept."""

    def __init__(self, text: str, encoding: Any) -> None:
        self._text = text
        self._encoding = encoding
        self.ids: list[int] = encoding.ids

    def places(self) -> list[tuple[int, int]]:
        """Return the characters of every token."""
        return list(self._encoding.offsets)

    def own_count(self) -> int:
        """Return how many tokens in front stand for no text."""
        return next((i for i, (_, end) in enumerate(self._encoding.offsets) if end > 0), 0)

    def cover(self, start: int, end: int) -> Cover | None:
        """Return the tokens of some characters; characters that the tokenizer drops at the edges have none."""
        covered = self._encoding.char_to_token
        first = next((token for char in range(start, end) if (token := covered(char)) is not None), None)
        last = next((token for char in range(end - 1, start - 1, -1) if (token := covered(char)) is not None), None)
        if first is None or last is None:
            return None
        last = self._last_piece(last)
        begins, ends = self._chars(first)[0], self._chars(last)[1]
        return Cover(first, last, self._text[begins:start], self._text[end:ends])

    def _last_piece(self, token: int) -> int:
        """Return the last of the tokens that one character is spread over."""
        while token + 1 < len(self.ids) and self._chars(token + 1) == self._chars(token):
            token += 1
        return token

    def _chars(self, token: int) -> Any:
        return self._encoding.token_to_chars(token)


class ByteTokens:
    """Tokens whose places follow from their bytes: `ends` holds how many bytes there are up to behind each of them."""

    def __init__(self, text: str, ids: list[int], ends: Any) -> None:
        self._text = text
        self.ids = ids
        self._ends = ends

    def cover(self, start: int, end: int) -> Cover | None:
        """Return the tokens of some characters."""
        if start == end:
            return None
        begin_byte, end_byte = self._byte(start), self._byte(end)
        first = int(self._ends.searchsorted(begin_byte, side="right"))
        last = int(self._ends.searchsorted(end_byte))
        covered_from = int(self._ends[first - 1]) if first else 0
        return Cover(first, last, self._cut(covered_from, begin_byte), self._cut(end_byte, int(self._ends[last])))

    def places(self) -> list[tuple[int, int]]:
        """Return the characters of every token; those that share a character all have it."""
        chars = list(itertools.chain.from_iterable([i] * len(char.encode()) for i, char in enumerate(self._text)))
        ends = self._ends.tolist()
        return [(chars[start], chars[end - 1] + 1) for start, end in zip([0, *ends], ends, strict=False)]

    def own_count(self) -> int:
        """Return 0: with tokens of its own in front the bytes would not add up."""
        return 0

    @cached_property
    def _bytes(self) -> bytes:
        return self._text.encode()

    def _byte(self, char: int) -> int:
        return char if self._text.isascii() else len(self._text[:char].encode())

    def _cut(self, start: int, end: int) -> str:
        """Return the text of some bytes; a character that is cut through shows as one that is no white space."""
        if start == end:
            return ""
        return self._bytes[start:end].decode(errors="replace")


class Encoder:
    """Tokenise with one backend (a `tokenizers.Tokenizer`)."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def encode(self, texts: list[str], special: bool) -> list[Tokens]:
        """Tokenise a batch; `special` lets the tokenizer put its own tokens around each text.

        Holds no Python lock while it tokenises.
        """
        if special or self._byte_lengths is None:
            return self._with_offsets(texts, special)
        tokens: list[Tokens | None] = [None] * len(texts)
        kept = [i for i, text in enumerate(texts) if self._is_kept(text)]
        for i, found in zip(kept, self._by_bytes([texts[i] for i in kept]), strict=True):
            tokens[i] = found
        rest = [i for i, found in enumerate(tokens) if found is None]
        for i, placed in zip(rest, self._with_offsets([texts[i] for i in rest], special), strict=True):
            tokens[i] = placed
        return [found for found in tokens if found is not None]

    def _with_offsets(self, texts: list[str], special: bool) -> list[Tokens]:
        encodings = self._backend.encode_batch(texts, add_special_tokens=special) if texts else []
        return [OffsetTokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def _by_bytes(self, texts: list[str]) -> list[ByteTokens | None]:
        """Return the tokens of texts, None where their bytes do not add up."""
        import numpy as np

        if not texts:
            return []
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        counts = [len(one) for one in ids]
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64, sum(counts))
        assert self._byte_lengths is not None  # the caller has looked
        ends = np.cumsum(self._byte_lengths[flat])
        made: list[ByteTokens | None] = []
        at = base = 0
        for text, one, count in zip(texts, ids, counts, strict=True):
            own = ends[at : at + count] - base
            size_bytes = len(text) if text.isascii() else len(text.encode())
            made.append(ByteTokens(text, one, own) if count and own[-1] == size_bytes else None)
            at += count
            base = int(ends[at - 1]) if at else 0
        return made

    def _is_kept(self, text: str) -> bool:
        """Say whether the tokenizer's normaliser leaves a text as it is."""
        return self._normaliser is None or text.isascii() or unicodedata.is_normalized("NFC", text)

    @cached_property
    def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self._backend.to_str())
        return described

    @cached_property
    def _normaliser(self) -> str | None:
        normaliser = self._described.get("normalizer")
        return normaliser["type"] if normaliser else None

    @cached_property
    def _byte_lengths(self) -> Any:
        """Return how many bytes each token stands for, None where tokens are not known to stand for bytes.

        Byte-level vocabularies write every byte as one printable character (GPT-2's `bytes_to_unicode`, kept by
        `tokenizers.pre_tokenizers.ByteLevel.alphabet`), so a token has as many bytes as its name has characters.
        """
        import numpy as np
        from tokenizers.pre_tokenizers import ByteLevel

        decoder = self._described.get("decoder") or {}
        if decoder.get("type") != "ByteLevel" or self._normaliser not in (None, "NFC"):
            return None
        alphabet = frozenset(ByteLevel.alphabet())
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        lengths = np.full(max(vocabulary.values(), default=0) + 1, _UNKNOWN_BYTES, np.int64)
        for name, token_id in vocabulary.items():
            if alphabet.issuperset(name):
                lengths[token_id] = len(name)
        for token_id, added in self._backend.get_added_tokens_decoder().items():
            lengths[token_id] = len(added.content.encode())
        return lengths
