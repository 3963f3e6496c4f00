"""An error is one line of whole sentences."""

from __future__ import annotations

import pytest

from app.errors import WorkbenchError


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
