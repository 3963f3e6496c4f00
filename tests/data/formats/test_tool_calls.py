from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow

CALL = {"name": "f", "arguments": {"a": 1}}


def calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    said = {"role": "assistant", "content": "One moment.", **message}
    turn = conversation_of({"messages": [{"role": "user", "content": "q"}, said]}).turns[-1]
    return [(call.name, call.arguments) for call in turn.tool_calls]


@pytest.mark.parametrize(
    "spelled",
    [
        *({"tool_call": CALL}, {"toolCalls": [CALL]}, {"function_calls": [CALL]}, {"functionCall": CALL}),
        *({"toolCall": CALL}, {"tool_calls": None, "function_call": CALL}, {"tool_calls": [], "functionCalls": [CALL]}),
    ],
)
def test_calls_beside_a_text_are_kept_however_they_are_spelled(spelled: dict[str, Any]) -> None:
    assert calls(spelled) == [("f", {"a": 1})]


@pytest.mark.parametrize("given", ["undefined", [], "[]", "null", None])
def test_more_spellings_of_no_arguments(given: Any) -> None:
    assert calls({"tool_calls": [{"name": "f", "arguments": given}]}) == [("f", {})]


@pytest.mark.parametrize("given", ["{bad", '{"a": 1}}', [1, 2], 5, True, '[{"a": 1}]', '{"a":1}{"b":2}', '{"a": NaN}'])
def test_arguments_that_are_no_object_are_not_trained(given: Any) -> None:
    with pytest.raises(BadRow, match="no object"):
        calls({"tool_calls": [{"name": "f", "arguments": given}]})


@pytest.mark.parametrize("name", ["", " ", None, 5])
def test_a_call_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(BadRow, match="no name"):
        calls({"tool_calls": [{"name": name, "arguments": {}}]})
