"""Controls whose texts follow the language switch.

`Wording.make` builds a control from properties in which texts are keys, and remembers them; when the language changes,
`updates` says every text again.
"""

from __future__ import annotations

from typing import Any, TypeVar

import gradio as gr

from app.ui.language import Key, Speech

Control = TypeVar("Control")


class Wording:
    """Every control of the page that shows a text, in the order it was made."""

    def __init__(self) -> None:
        self._english = Speech()
        self._made: list[tuple[Any, dict[str, Any]]] = []

    def make(self, kind: type[Control], **properties: Any) -> Control:
        """Build a control; a property may be a Key, or a list of choices `(Key, value)`."""
        spoken = {name: value for name, value in properties.items() if _has_key(value)}
        control = kind(**{**properties, **{name: _said(value, self._english) for name, value in spoken.items()}})
        if spoken:
            self._made.append((control, spoken))
        return control

    @property
    def controls(self) -> list[Any]:
        """Return the controls that `updates` speaks for, in its order."""
        return [control for control, _ in self._made]

    def updates(self, speech: Speech) -> list[Any]:
        """Return one update a control, in the language of `speech`."""
        return [gr.update(**{name: _said(value, speech) for name, value in spoken.items()}) for _, spoken in self._made]


def _has_key(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(choice, tuple) and isinstance(choice[0], Key) for choice in value)
    return isinstance(value, Key)


def _said(value: Any, speech: Speech) -> Any:
    if isinstance(value, list):
        return [(speech(text) if isinstance(text, Key) else text, choice) for text, choice in value]
    return speech(value)
