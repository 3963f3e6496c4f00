"""Whatever a chat template raises is a refusal of the template, in one line."""

from __future__ import annotations

import pytest
from jinja2 import TemplateSyntaxError, UndefinedError

from app.data.chat_template.templates import EndlessTemplateError, RenderingError, rendering
from app.errors import TemplateError


class OddError(Exception):
    """Of no library that is known here."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UndefinedError("'x' is undefined"), "'x' is undefined"),
        (TemplateSyntaxError("unexpected\n end", 3), "unexpected end line 3"),
        (KeyError("role"), "'role'"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (RecursionError(), "RecursionError"),
        (OddError(), "OddError"),
    ],
)
def test_what_it_raises_is_the_reason(error: Exception, reason: str) -> None:
    with pytest.raises(RenderingError) as caught, rendering():
        raise error
    assert caught.value.why == reason and not isinstance(caught.value, EndlessTemplateError)


def test_a_full_memory_is_no_template_to_be_asked_again() -> None:
    with pytest.raises(EndlessTemplateError, match="fills the memory"), rendering():
        raise MemoryError


def test_a_refusal_of_ours_stays_as_it_is() -> None:
    ours = TemplateError("the mask cannot be proven")
    with pytest.raises(TemplateError) as caught, rendering():
        raise ours
    assert caught.value is ours
