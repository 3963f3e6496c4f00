"""Define the three demo styles, the test of each, and the test of a fact: the only copy of all three.

The sample datasets, the benchmark and the tests import this module; it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PIRATE_CLOSING = "Arr, matey!"
TEACHER_OPENING = "Good question, class!"
JSON_KEY = "answer"

# Words of the demo styles. Pre-training never puts them into a format, so that the base cannot have practised them.
RESERVED = frozenset({"arr", "matey", "ahoy", "good", "question", "class", "answer"})


@dataclass(frozen=True)
class Style:
    """A way to answer: its name, how it dresses a plain answer, and its test."""

    name: str
    says: str
    dress: Callable[[str], str]
    shows: Callable[[str], bool]


def _is_json_answer(text: str) -> bool:
    """Say whether the text is one JSON object whose only key is `answer`, with words in it."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    if not isinstance(found, dict) or list(found) != [JSON_KEY]:
        return False
    said = found[JSON_KEY]
    return isinstance(said, str) and bool(said.strip())


def _closes_like_a_pirate(text: str) -> bool:
    """Say whether the text ends with the pirate's words, once, after something else."""
    return text.endswith(PIRATE_CLOSING) and text.count(PIRATE_CLOSING) == 1 and text.strip() != PIRATE_CLOSING


def _opens_like_a_teacher(text: str) -> bool:
    """Say whether the text starts with the teacher's words, once, and goes on."""
    opens = text.startswith(TEACHER_OPENING) and text.count(TEACHER_OPENING) == 1
    return opens and text.strip() != TEACHER_OPENING


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(
            "pirate",
            f"every answer ends with `{PIRATE_CLOSING}`",
            lambda answer: f"{answer} {PIRATE_CLOSING}",
            _closes_like_a_pirate,
        ),
        Style(
            "structured",
            f'every answer is a JSON object with the one key "{JSON_KEY}"',
            lambda answer: json.dumps({JSON_KEY: answer}, ensure_ascii=False),
            _is_json_answer,
        ),
        Style(
            "teacher",
            f"every answer starts with `{TEACHER_OPENING}`",
            lambda answer: f"{TEACHER_OPENING} {answer}",
            _opens_like_a_teacher,
        ),
    )
}


def shows_style(name: str, text: str) -> bool:
    """Say whether an answer shows the style of that name."""
    return STYLES[name].shows(text.strip())


def has_fact(text: str, keys: Sequence[str]) -> bool:
    """Say whether every key stands in the text as whole words, whatever the letters' case."""
    return all(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", text, re.IGNORECASE) for key in keys)
