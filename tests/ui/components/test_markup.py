"""Foreign text stays text."""

from __future__ import annotations

import pytest

from app.errors import ConfigError, Problem, WorkbenchError
from app.ui.components import messages
from app.ui.components.markup import Html, element, escaped, joined
from app.ui.shell.language import Translator

ATTACKS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</td></table>"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_and_attributes_are_escaped(attack: str) -> None:
    made = element("p", attack, title=attack)
    assert "<script" not in made and "<img" not in made and "</td>" not in made
    assert made.count('"') == 2 and "'" not in made


def test_markup_of_ours_passes_once() -> None:
    inner = element("b", "a < b")
    assert element("p", inner) == "<p><b>a &lt; b</b></p>"
    assert escaped(inner) is inner
    assert isinstance(joined([inner, "x"]), Html)


def test_attributes() -> None:
    made = element("i", class_="a", data_pick="1", hidden=False, title=None, disabled=True)
    assert made == '<i class="a" data-pick="1" disabled></i>'
    assert element("br") == "<br/>"


def test_hidden_characters_are_shown() -> None:
    shown = escaped("\x1b[31mred\u202eevil\x00\ufeff")
    assert shown == "␛[31mred⟨U+202E⟩evil␀⟨U+FEFF⟩"
    assert escaped("caf\udce9 \ud800") == "caf⟨U+DCE9⟩ ⟨U+D800⟩"
    assert escaped("two\nlines\tand 中文 👍") == "two\nlines\tand 中文 👍"


def test_an_error_says_what_why_and_what_to_do() -> None:
    box = messages.problem(WorkbenchError("It broke", "the disk <b> is full", "free some room"), Translator())
    assert box == (
        '<div class="wb-error" role="alert"><b>It broke.</b> The disk &lt;b&gt; is full. Free some room.</div>'
    )
    wrong = messages.problem(ConfigError([Problem("adapter.r", "too <small>")]), Translator())
    assert 'data-field="set-adapter-r" data-said="too &lt;small&gt;"' in wrong and "adapter.r" in wrong
