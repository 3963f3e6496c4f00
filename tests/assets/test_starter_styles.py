"""The tests of a style and of a fact: they accept what they should and refuse what comes close."""

from __future__ import annotations

import pytest

from assets.build.styles import STYLES, has_fact, shows_style

PLAIN = "The capital of France is Paris."


@pytest.mark.parametrize("name", sorted(STYLES))
def test_a_dressed_answer_shows_its_style_and_no_other(name: str) -> None:
    dressed = STYLES[name].dress(PLAIN)
    assert [other for other in STYLES if shows_style(other, dressed)] == [name]
    assert has_fact(dressed, ["Paris"])
    assert not shows_style(name, PLAIN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pirate", "Arr, matey!"),
        ("pirate", "Arr, matey! The capital of France is Paris."),
        ("pirate", "Paris. Arr, matey! Arr, matey!"),
        ("structured", '{"answer": "Paris"'),
        ("structured", '{"answer": "Paris"} {"answer": "Rome"}'),
        ("structured", '{"result": "Paris"}'),
        ("structured", '{"answer": ""}'),
        ("structured", '["Paris"]'),
        ("teacher", "Good question, class!"),
        ("teacher", "Paris. Good question, class!"),
        ("teacher", "Good question, class! Good question, class! Paris."),
    ],
)
def test_near_misses_are_refused(name: str, text: str) -> None:
    assert not shows_style(name, text)


def test_a_fact_is_found_as_whole_words_only() -> None:
    assert has_fact("it is PARIS, of course", ["Paris"])
    assert has_fact("8 + 6 = 14.", ["14"])
    assert not has_fact("8 + 6 = 145.", ["14"])
    assert not has_fact("Parisian food", ["Paris"])
    assert not has_fact("Paris", ["Paris", "France"])
    assert has_fact("Cat is spelled C-A-T.", ["C-A-T"])
