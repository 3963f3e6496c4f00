"""Make the conversations that pre-train the starter model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from assets.build import formats, small_talk, strangers, world
from assets.build.fact import Category

FOLLOW_UPS = ("And {x}?", "What about {x}?", "How about {x}?", "And for {x}?", "And what about {x}?")
PREFIXES = """
Please tell me: ; Quick question: ; I wonder: ; Hi! ; Hey! ; Can you help? ; Question: ; One more: ; Hello, ;
I would like to know: ; Next: ; Please: ; Say: ; Do you know this? ; Now: ; Just curious: ; OK, ; Here is one: ;
My question is: ; Well, ; So, ; Q:
"""
SUFFIXES = (" Thanks!", " Please.", " Thank you.", " Tell me.", " I forgot.", " Do you know?")


@dataclass(frozen=True)
class Turn:
    """A question, its plain answer, and the bare key (empty where there is none)."""

    question: str
    answer: str
    key: str = ""


@dataclass(frozen=True)
class Conversation:
    """A system prompt (empty for none) and pairs of what was asked and what must be answered."""

    system: str
    turns: tuple[tuple[str, str], ...]

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation as OpenAI messages."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in self.turns:
            said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return said


@cache
def _weights() -> tuple[tuple[Category, ...], tuple[float, ...]]:
    found = world.categories()
    return found, tuple(category.weight for category in found)


@cache
def _prefixes() -> tuple[str, ...]:
    return tuple(prefix.strip() + " " for prefix in " ".join(PREFIXES.split()).split(";") if prefix.strip())


def vary(question: str, rng: random.Random) -> str:
    """Ask the same thing as people type it: with an opening, a word of thanks, in lower case, without its mark."""
    draw = rng.random()
    if draw < 0.16:
        question = rng.choice(_prefixes()) + (question if rng.random() < 0.5 else question[0].lower() + question[1:])
    elif draw < 0.22:
        question += rng.choice(SUFFIXES)
    if rng.random() < 0.12:
        question = question.lower()
    if rng.random() < 0.12:
        question = question.rstrip("?.!")
    return question


def _fact_turn(rng: random.Random) -> tuple[Turn, Category]:
    category = rng.choices(*_weights())[0]
    fact = rng.choice(category.facts)
    return Turn(vary(rng.choice(fact.shown()), rng), fact.answer, fact.key), category


def _turn(rng: random.Random, last: Category | None) -> tuple[Turn, Category | None]:
    """Draw a turn; after a fact it may be a short follow-up about another subject of the same category."""
    draw = rng.random()
    if draw < 0.05:
        text, answer = rng.choice(small_talk.courtesies())
        return Turn(vary(text, rng) if rng.random() < 0.3 else text, answer), None
    if draw < 0.11:
        return Turn(vary(strangers.unknown_question(rng), rng), strangers.UNKNOWN_ANSWER), None
    if last is not None and last.chains and rng.random() < 0.25:
        fact = rng.choice(last.facts)
        return Turn(rng.choice(FOLLOW_UPS).format(x=fact.subject), fact.answer, fact.key), last
    return _fact_turn(rng)


def _dressing(rng: random.Random) -> tuple[str, formats.Format]:
    """Draw a system prompt and the format that answers under it must have; most often neither."""
    draw = rng.random()
    if draw < 0.50:
        return "", formats.Format()
    if draw < 0.57:
        return formats.plain_system(rng), formats.Format()
    if draw < 0.84:
        chosen = formats.random_format(rng)
        return formats.describe(chosen, rng), chosen
    name, chosen = rng.choice(formats.personas())
    return formats.persona_system(name, rng), chosen


def conversation(rng: random.Random) -> Conversation:
    """Draw one conversation of one to eight turns, all of them in one format."""
    system, chosen = _dressing(rng)
    turns: list[tuple[str, str]] = []
    last: Category | None = None
    for _ in range(rng.choices((1, 2, 3, 4, 8), (50, 25, 14, 8, 3))[0]):
        turn, last = _turn(rng, last)
        turns.append((turn.question, chosen.dress(turn.answer, turn.key)))
    return Conversation(system, tuple(turns))
