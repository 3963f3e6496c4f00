"""Hold one answer against what was expected of it: each metric of an answer as a function, by its name.

Scores are 0 to 1, chrF 0 to 100. None means that a row has nothing that the metric needs.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.data.formats.conversation import ToolCall
from app.evaluation.metrics import structured
from app.evaluation.metrics.numbers import last_number

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts that write words without spaces between them: each sign is a token of its own.
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_PUNCTUATION = frozenset(string.punctuation)
# A pattern of a person's can take for ever over an answer.
_REGEX_LIMIT_S = 1.0


@dataclass(frozen=True)
class Reference:
    """What a row expects. `answers` are all right; `contains` are words that an answer holds, all of them.

    schema: a JSON Schema, None for none. correct: the place of the right one among `choices`. tolerance: how far a
    number may be off, absolutely. calls: the tools that the answer calls.
    """

    answers: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    pattern: str = ""
    schema: Any = None
    choices: tuple[str, ...] = ()
    correct: int | None = None
    tolerance: float | None = None
    calls: tuple[ToolCall, ...] = ()


Score = float | None


def collapsed(text: str) -> str:
    """Return a text in Unicode's composed form, with single blanks and none at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact_match(answer: str, reference: Reference) -> Score:
    """Return 1 where the answer is one of those expected, letter by letter; runs of white space count as one blank."""
    return _best(reference.answers, lambda expected: float(collapsed(answer) == collapsed(expected)))


def contains(answer: str, reference: Reference) -> Score:
    """Return 1 where the answer holds all the expected words, in any case; without any, one of the answers."""
    said = collapsed(answer).casefold()
    if reference.contains:
        return float(all(collapsed(words).casefold() in said for words in reference.contains))
    return _best(reference.answers, lambda expected: float(collapsed(expected).casefold() in said))


def matches(answer: str, reference: Reference) -> Score:
    """Return 1 where the pattern is found in the answer (`re.search`); write ^ and $ to mean all of it."""
    if not reference.pattern:
        return None
    import regex  # has a time limit, which Python's own has not

    try:
        found = regex.search(reference.pattern, answer, regex.VERSION0, timeout=_REGEX_LIMIT_S)
    except TimeoutError:
        return 0.0
    return float(found is not None)


def json_schema(answer: str, reference: Reference) -> Score:
    """Return 1 where the answer is JSON, bare or in one fenced block, that is valid under the schema."""
    return None if reference.schema is None else float(structured.is_valid(answer, reference.schema))


def numeric(answer: str, reference: Reference) -> Score:
    """Return 1 where the last number of the answer is the last number of an expected one, within the tolerance.

    The last, as GSM8K's own check takes it: a model that reasons says its result at the end.
    """
    expected = [number for text in reference.answers if (number := last_number(text)) is not None]
    if not expected:
        return None
    said = last_number(answer)
    allowed = reference.tolerance if reference.tolerance is not None else 1e-6
    if said is None:
        return 0.0
    return float(any(abs(said - one) <= allowed + 1e-12 * abs(one) for one in expected))


def f1(answer: str, reference: Reference) -> Score:
    """Return the harmonic mean of precision and recall over tokens, as SQuAD's script has it: lower case, without
    punctuation and English articles. Chinese and Japanese signs are tokens of their own.
    """
    return _best(reference.answers, lambda expected: _token_f1(_tokens(answer), _tokens(expected)))


def _tokens(text: str) -> list[str]:
    plain = "".join(" " if unicodedata.category(c)[0] == "P" and c not in _PUNCTUATION else c for c in text.lower())
    plain = "".join(c for c in plain if c not in _PUNCTUATION)
    return _UNSPACED.sub(r" \1 ", _ARTICLES.sub(" ", plain)).split()


def _token_f1(said: Sequence[str], expected: Sequence[str]) -> float:
    common = sum((Counter(said) & Counter(expected)).values())
    if not said or not expected:
        return float(said == expected)
    return 2 * common / (len(said) + len(expected))


def chrf(answer: str, reference: Reference) -> Score:
    """Return chrF2 of one answer against its references, 0 to 100, by sacrebleu (Popovic 2015)."""
    if not reference.answers:
        return None
    return float(_chrf().sentence_score(answer, list(reference.answers)).score)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # in the child alone

    return CHRF()


def tool_call(answer: str, reference: Reference) -> Score:
    """Return 1 where the answer calls the same tools with the same arguments; order and keys' order do not count."""
    return None if not reference.calls else float(structured.same_calls(answer, reference.calls))


def _best(expected: Sequence[str], score: Callable[[str], float]) -> Score:
    return max(map(score, expected), default=None)


SCORERS: dict[str, Callable[[str, Reference], Score]] = {
    "exact_match": exact_match,
    "contains": contains,
    "regex": matches,
    "json_schema": json_schema,
    "numeric": numeric,
    "f1": f1,
    "chrf": chrf,
    "tool_call": tool_call,
}
