"""An error is one line of whole sentences."""

from __future__ import annotations

import pytest

from app.errors import BusyError, DataError, ModelError, UsageError, WorkbenchError, foreign_code, one_line
from app.ui.components import messages
from app.ui.shell.language import Translator


def test_the_page_has_its_own_words_where_they_differ() -> None:
    both = BusyError("another run goes", "one at a time", "wait, or add --queue", on_page="wait, or press Queue")
    assert both.line() == "Another run goes. One at a time. Wait, or add --queue."
    assert both.line(on_page=True) == "Another run goes. One at a time. Wait, or press Queue."
    assert "press Queue" in messages.problem(both, Translator()) and "--queue" not in messages.problem(
        both, Translator()
    )
    same = UsageError("the file is gone", "", "look again")
    assert same.line(on_page=True) == same.line()


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("the file is gone", "somebody took it", "look again"), "The file is gone. Somebody took it. Look again."),
        (("qwen3-8b has no nope", "", "did you mean o_proj?"), "qwen3-8b has no nope. Did you mean o_proj?"),
        (("training.max_steps is 0.", "owner/name asks", ""), "training.max_steps is 0. owner/name asks."),
        (("two\nlines  and   gaps",), "Two lines and gaps."),
    ],
)
def test_a_line_is_whole_sentences_and_leaves_names_alone(parts: tuple[str, ...], line: str) -> None:
    assert WorkbenchError(*parts).line() == line


class OddError(Exception):
    """Of no library that is known here."""


def refusal(error: Exception) -> ModelError:
    return ModelError("it cannot be read", one_line(error))


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), StopIteration(), RecursionError("deep"), OddError()])
def test_whatever_foreign_code_raises_is_a_refusal_with_its_reason(error: Exception) -> None:
    with pytest.raises(ModelError, match=r"^It cannot be read\. \S") as caught, foreign_code(refusal):
        raise error
    assert caught.value.__cause__ is error


def test_what_is_ours_or_an_interruption_passes_as_it_is() -> None:
    ours = DataError("line 3 is no row")
    for error in (ours, KeyboardInterrupt(), SystemExit(2)):
        with pytest.raises(type(error)) as caught, foreign_code(refusal):
            raise error
        assert caught.value is error
    with pytest.raises(OddError), foreign_code(refusal, OddError):
        raise OddError
    with pytest.raises(ModelError, match="Line 3"), foreign_code(refusal, passing=()):
        raise ours
