"""The texts of the page, by key, in the languages of assets/locale.

English is complete; another language falls back to it where a text is missing. Labels and help of settings come from
RunConfig itself, what the planner says from the planner; a language may translate them under
`setting.<dotted name>.label` and `.help`, and under the planner's own keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.config import settings
from app.planner.phrases import ENGLISH as PLANNER
from app.planner.phrases import Phrase, Sentence, listed

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "locale"
ENGLISH = "en"
# Each language by its code, in its own words.
NAMES = {"en": "English", "zh": "中文"}


class Key(str):
    """The key of a text, where a text is wanted."""

    __slots__ = ()


@lru_cache(maxsize=len(NAMES))
def texts(language: str) -> dict[str, str]:
    """Return all texts of a language. An unknown language has none of its own."""
    if language not in NAMES:
        return {}
    found: dict[str, str] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


class Speech:
    """Says texts in one language."""

    def __init__(self, language: object = ENGLISH) -> None:
        # The code comes from the browser's storage: anything else than a known one is English.
        self.language = language if isinstance(language, str) and language in NAMES else ENGLISH

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text with its values filled in. With `count=1` the text's `.one` form is taken, where it has one.

        A language that knows no number has the plain form alone.
        """
        one, own = f"{key}.one", texts(self.language)
        if values.get("count") == 1 and (one in texts(ENGLISH) or one in PLANNER) and (one in own or key not in own):
            key = one
        text = texts(self.language).get(key) or texts(ENGLISH).get(key)
        if text is None:
            text = PLANNER.get(key) or _of_settings().get(key, key)
        return text.format(**values) if values else text

    def planned(self, said: str) -> str:
        """Return what the planner says in this language; a text that is none of its phrases stays as it is."""
        if isinstance(said, Sentence):
            return listed(map(self.planned, said.phrases), self("planner.comma"), self("planner.and"))
        if isinstance(said, Phrase):
            values = said.values.items()
            return self(
                said.key, **{name: self.planned(each) if isinstance(each, str) else each for name, each in values}
            )
        return said

    def known(self, key: str, otherwise: str) -> str:
        """Return a text that may not exist, such as the name of a new kind of part; else what is given."""
        return texts(self.language).get(key) or texts(ENGLISH).get(key) or otherwise


def spoken(language: object, headers: Mapping[str, str]) -> Speech:
    """Return the language that was chosen; on a first visit, when none was, the one that the browser asks for."""
    if language is None and headers.get("accept-language", "").lower().startswith("zh"):
        return Speech("zh")
    return Speech(language)


@lru_cache(maxsize=1)
def _of_settings() -> dict[str, str]:
    """Return RunConfig's own labels and helps under their keys."""
    found = {}
    for name, field in settings():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        label, unit = str(extra.get("label") or name), extra.get("unit")
        found[f"setting.{name}.label"] = f"{label} ({unit})" if unit and unit != label.lower() else label
        found[f"setting.{name}.help"] = field.description or ""
    return found
