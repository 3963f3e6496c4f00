"""The texts of the page, by key, in the languages of assets/locale.

English is complete; another language falls back to it where a text is missing. Labels and help of settings come from
RunConfig itself, what the planner says from the planner; a language may translate them under
`setting.<dotted name>.label` and `.help`, and under the planner's own keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from app.config.sections import settings
from app.errors import Keyed
from app.planner.phrases import ENGLISH as PLANNER
from app.planner.phrases import Phrase, Sentence, listed

FOLDER = Path(__file__).resolve().parents[3] / "assets" / "locale"
ENGLISH = "en"
# Letters besides its places that the form of an error has at least, to be known by its form.
_LEAST_TELLING = 10
# A place of a text, with or without a format: {name}, {size:.1f}.
_PLACE = r"\{([a-z_]+)(?:[:!][^{}]*)?\}"
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


class Translator:
    """Says texts in one language."""

    def __init__(self, language: object = ENGLISH) -> None:
        # The code comes from the browser's storage: anything else than a known one is English.
        self.language = language if isinstance(language, str) and language in NAMES else ENGLISH

    def __call__(self, key: str, **values: object) -> str:
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

    def heard(self, text: str) -> str:
        """Return what an error says in this language; a text that is none of the known ones stays as it is.

        A text with a key is known by it. One that came from another process has lost its key and is known by its form.
        """
        if self.language == ENGLISH:
            return text
        if isinstance(text, Keyed):
            values = {
                name: self.heard(value) if isinstance(value, str) else value for name, value in text.values.items()
            }
            return self(f"said.{text.key}", **values)
        known = _by_form(text)
        if known is None:
            return text
        key, places = known
        return _filled(self(key), {name: self.heard(value) for name, value in places})

    def heard_line(self, line: str) -> str:
        """Return a line of several sentences, such as why a job failed, with each that is known in this language."""
        if self.language == ENGLISH:
            return line
        said = ""
        for sentence in re.split(r"(?<=[.?]) ", line):
            plain = sentence.removesuffix(".")
            # A sentence begins with a capital; the text that it was made of may not.
            forms = (plain, plain[:1].lower() + plain[1:])
            found = next((own for form in forms if (own := self.heard(form)) != form), None)
            said += f"{sentence} " if found is None else found + ("" if found.endswith("？") else self("planner.stop"))
        return said.strip()

    def known(self, key: str, otherwise: str) -> str:
        """Return a text that may not exist, such as the name of a new kind of part; else what is given."""
        return texts(self.language).get(key) or texts(ENGLISH).get(key) or otherwise


def of_scripts(language: str) -> dict[str, str]:
    """Return the texts that the page's scripts say, by what follows `script.` in their keys."""
    family, own = "script.", texts(language)
    return {
        key.removeprefix(family): own.get(key, text) for key, text in texts(ENGLISH).items() if key.startswith(family)
    }


def spoken(language: object, headers: Mapping[str, str]) -> Translator:
    """Return the language that was chosen; on a first visit, when none was, the one that the browser asks for."""
    asked = re.match("[a-z]*", headers.get("accept-language", "").lower())
    return Translator(asked[0] if language is None and asked else language)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its places filled as they were in English, whatever format the place has for a number."""
    return re.sub(_PLACE, lambda place: values.get(place[1], place[0]), text)


@lru_cache(maxsize=4096)
def _by_form(text: str) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """Return the key of the text whose form this is, and what stands at its places; None for none of ours."""
    # The same words may begin a sentence elsewhere.
    for words in (text, text[:1].lower() + text[1:]):
        for pattern, key in _sayings():
            found = pattern.fullmatch(words)
            if found is not None:
                return key, tuple(found.groupdict().items())
    return None


@lru_cache(maxsize=1)
def _sayings() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return the forms of what errors, events and the planner say in English, the most telling first, with their keys.

    A form of hardly more than places, such as `{id} is {state}`, would take other texts for its own and is left out.
    """
    found = []
    said = {key: text for key, text in texts(ENGLISH).items() if key.startswith("said.")} | PLANNER
    telling = {key: len(re.sub(_PLACE, "", text)) for key, text in said.items()}
    for key, text in sorted(said.items(), key=lambda pair: -telling[pair[0]]):
        if telling[key] >= _LEAST_TELLING or "{" not in text:
            form, met = "", set[str]()
            for place, piece in enumerate(re.split(_PLACE, text)):
                form += re.escape(piece) if not place % 2 else f"(?P={piece})" if piece in met else f"(?P<{piece}>.+)"
                met |= {piece} if place % 2 else set()
            found.append((re.compile(form, re.DOTALL), key))
    return tuple(found)


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
