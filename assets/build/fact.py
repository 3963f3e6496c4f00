"""Say what a fact and a category of facts are, and build a category from a table and its phrasings."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

HELD_OUT_SHARE = 0.08  # share of (fact, phrasing) pairs that pre-training never shows


@dataclass(frozen=True)
class Fact:
    """One thing to know: its phrasings, the plain answer, and the key that a right answer must contain."""

    category: str
    subject: str
    key: str
    answer: str
    questions: tuple[str, ...]

    def shown(self) -> tuple[str, ...]:
        """Return the phrasings that pre-training shows."""
        kept = tuple(question for question in self.questions if not is_held_out(question))
        return kept or self.questions[:1]


@dataclass(frozen=True)
class Category:
    """Facts of one kind. `weight` is how often it is asked; `chains` allows `And X?` after a question of its kind."""

    name: str
    facts: tuple[Fact, ...]
    weight: float
    chains: bool


def is_held_out(question: str) -> bool:
    """Say whether pre-training keeps this phrasing of its fact back (stable across runs)."""
    return zlib.crc32(question.encode()) % 1000 < 1000 * HELD_OUT_SHARE


def with_article(noun: str) -> str:
    """Return the noun with `a` or `an`."""
    return f"{'an' if noun[0].lower() in 'aeiou' and not noun.startswith(('uni', 'eu')) else 'a'} {noun}"


def capitalised(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def category(
    name: str,
    pairs: Iterable[tuple[str, str]],
    answer: str,
    questions: str,
    boost: float = 1.0,
    chains: bool = True,
) -> Category:
    """Build a category from (subject, key) pairs and templates (one question a line).

    Fields: `{a}` subject, `{k}` key, `{an}` and `{kn}` the same with an article; the sentence is capitalised.
    """
    templates = [line.strip() for line in questions.strip().splitlines()]
    found: list[Fact] = []
    for subject, key in pairs:
        fields = {"a": subject, "k": key, "an": with_article(subject), "kn": with_article(key)}
        asked = tuple(capitalised(template.format(**fields)) for template in templates)
        found.append(Fact(name, subject, key, capitalised(answer.format(**fields)), asked))
    weight = boost * min(len(found), 130) ** 0.7
    return Category(name, tuple(found), weight, chains)
