"""Controls whose texts follow the language switch.

`Wording.make` builds a control from properties in which texts are keys, and remembers them; when the language changes,
`updates` says every text again. The switch itself does so in the browser, by the script of `switching`: on the server
the framework builds each of more than two hundred controls anew for every page that is switched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import gradio as gr

from app.ui.components.handlers import Control
from app.ui.shell.language import NAMES, Key, Translator

Kind = TypeVar("Kind")


class TranslatedComponents:
    """Every control of the page that shows a text, in the order it was made."""

    def __init__(self) -> None:
        self._english = Translator()
        self._made: list[tuple[Control, dict[str, object]]] = []

    def make(self, kind: type[Kind], **properties: object) -> Kind:
        """Build a control; a property may be a Key, or a list of choices `(Key or words, value)`.

        Words are a function that says a text in a language, for one that has values in it.
        """
        spoken = {name: value for name, value in properties.items() if _has_key(value)}
        control = kind(**{**properties, **{name: _said(value, self._english) for name, value in spoken.items()}})
        if spoken:
            self._made.append((control, spoken))
        return control

    @property
    def controls(self) -> list[Control]:
        """Return the controls that `updates` speaks for, in its order."""
        return [control for control, _ in self._made]

    def updates(self, speech: Translator) -> list[object]:
        """Return one update a control, in the language of `speech`."""
        return [gr.update(**{name: _said(value, speech) for name, value in spoken.items()}) for _, spoken in self._made]

    def switching(self, languages: Sequence[str] = tuple(NAMES)) -> str:
        """Return a script that takes the page's language and returns the next one, then the updates to it."""
        texts = {language: self.updates(Translator(language)) for language in languages}
        # A tag that ends a script would end the page's own, in which this stands.
        said = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        return f"""(language) => {{
  const texts = {said}, known = Object.keys(texts);
  const next = known[(Math.max(0, known.indexOf(language)) + 1) % known.length];
  return [next, ...texts[next]];
}}"""


def _has_key(value: object) -> bool:
    if isinstance(value, list):
        return any(
            isinstance(choice, tuple) and (isinstance(choice[0], Key) or callable(choice[0])) for choice in value
        )
    return isinstance(value, Key)


def _said(value: Any, speech: Translator) -> Any:
    if isinstance(value, list):
        return [(_in(text, speech), choice) for text, choice in value]
    return speech(value)


def _in(text: Any, speech: Translator) -> str:
    if isinstance(text, Key):
        return speech(text)
    return str(text(speech) if callable(text) else text)
