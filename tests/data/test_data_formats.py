from __future__ import annotations

import json
from typing import Any

import pytest

from app.data.conversation import Conversation, ToolCall, Turn
from app.data.conversions import conversation_of, parse_mapping
from app.data.formats import detect, format_of
from app.data.options import DataOptions
from app.data.rows import BadRow, Row
from app.errors import UsageError

ASKED = (Turn("user", "Say hi"), Turn("assistant", "hi"))
CHATML = "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>\n"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("alpaca", {"instruction": "Say hi", "input": "", "output": "hi"}),
    ("alpaca", {"指令": "Say hi", "输入": "", "输出": "hi"}),
    ("alpaca", {"Instruction": "Say hi", "Response": "hi"}),
    ("prompt-completion", {"prompt": "Say hi", "completion": "hi"}),
    ("prompt-completion", {"input": "Say hi", "output": "hi"}),
    (
        "prompt-completion",
        {"prompt": [{"role": "user", "content": "Say hi"}], "completion": [{"role": "assistant", "content": "hi"}]},
    ),
    ("question-answer", {"question": "Say hi", "answer": "hi"}),
    ("question-answer", {"问题": "Say hi", "回答": "hi"}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Say hi"}, {"from": "gpt", "value": "hi"}]}),
    ("messages", {"messages": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "hi"}]}),
    (
        "messages",
        {"messages": json.dumps([{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "hi"}])},
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Say hi"}]},
                {"role": "assistant", "content": "hi"},
            ]
        },
    ),
    ("chatml-text", {"text": CHATML}),
    ("preference", {"prompt": "Say hi", "chosen": "hi", "rejected": "no"}),
    (
        "preference",
        {"chosen": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "hi"}], "rejected": []},
    ),
    (
        "preference",
        {
            "conversations": [{"from": "human", "value": "Say hi"}],
            "chosen": {"from": "gpt", "value": "hi"},
            "rejected": {"from": "gpt", "value": "no"},
        },
    ),
    (
        "preference",
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": "Say hi"}]},
                {"role": "assistant", "content": [{"type": "text", "value": "hi"}], "loss_weight": 1.0},
            ],
            "rejected_messages": [],
        },
    ),
    ("text", {"text": "### Instruction:\nSay hi\n\n### Response:\nhi"}),
    ("text", {"text": "下面是一个指令。\n\n### 指令：\nSay hi\n\n### 回答：\nhi"}),
]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_each_format_is_named_and_becomes_the_same_conversation(name: str, fields: dict[str, Any]) -> None:
    assert format_of(fields)[0] == name
    assert conversation_of(fields) == Conversation(ASKED)
    assert format_of(fields)[1]


def test_plain_text_stays_text() -> None:
    assert format_of({"text": "Once upon a time"})[0] == "text"
    assert conversation_of({"text": "Once upon a time"}) == Conversation(text="Once upon a time")


def test_the_input_goes_below_the_instruction() -> None:
    turns = conversation_of({"instruction": "Sum", "input": "1 2", "output": "3", "system": "Be short"}).turns
    assert [(turn.role, turn.content) for turn in turns] == [
        ("system", "Be short"),
        ("user", "Sum\n\n1 2"),
        ("assistant", "3"),
    ]


def test_history_and_reasoning_are_kept() -> None:
    fields = {"instruction": "c", "output": "d", "history": [["a", "b"]], "reasoning": "why"}
    turns = conversation_of(fields).turns
    assert [turn.content for turn in turns] == ["a", "b", "c", "d"] and turns[-1].reasoning == "why"


def test_tool_calls_come_in_three_spellings() -> None:
    call = ToolCall("get", {"city": "Paris"}, "1")
    openai = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "get", "arguments": '{"city": "Paris"}'}}],
    }
    turn = conversation_of({"messages": [{"role": "user", "content": "x"}, openai]}).turns[1]
    assert turn.tool_calls == (call,) and turn.content == ""
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "x"},
            {"from": "function_call", "value": '{"name": "get", "arguments": {"city": "Paris"}}'},
            {"from": "observation", "value": "ok"},
        ]
    }
    turns = conversation_of(sharegpt).turns
    assert turns[1].tool_calls[0].arguments == {"city": "Paris"} and turns[2].role == "tool"
    tools = conversation_of({"messages": [{"role": "user", "content": "x"}], "tools": '[{"name": "get"}]'}).tools
    assert tools == ({"type": "function", "function": {"name": "get"}},)


def test_answers_can_be_context_only() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    assert conversation_of({"messages": messages}).turns[1].trained is False


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"a": 1, "b": 2}, "unknown"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "media"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"x": 1}]}]}, "tool_call"),
        ({"prompt": "x", "completion": "y", "tools": "nonsense"}, "tools"),
        ({"chosen": "hi", "rejected": "no"}, "shape"),
        ({"text": "   "}, "empty"),
    ],
)
def test_rows_that_lack_a_part_say_which(fields: dict[str, Any], kind: str) -> None:
    with pytest.raises(BadRow) as caught:
        conversation_of(fields)
    assert caught.value.kind == kind and caught.value.fix


def as_rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(i, i, one) for i, one in enumerate(fields, start=1)]


def test_detection_of_a_whole_file() -> None:
    alpaca, qa = {"instruction": "a", "output": "b"}, {"question": "a", "answer": "b"}
    one = detect(as_rows(*[alpaca] * 10))
    assert (one.format, one.confidence) == ("alpaca", 1.0) and "10 of 10 rows" in one.why
    assert detect(as_rows(*[alpaca] * 5, *[qa] * 5)).format == "mixed"
    stray = detect(as_rows(*[alpaca] * 199, {"x": 1}))
    assert stray.format == "alpaca" and 0.99 < stray.confidence < 1
    assert detect(as_rows({"x": 1, "y": 2})).format == "unknown"
    assert detect([]).format == "unknown"


def test_a_mapping_names_the_columns() -> None:
    mapping = parse_mapping({"user": "ask", "assistant": "say", "system": "sys"})
    turns = conversation_of({"ask": "a", "say": "b", "sys": "c", "more": 1}, "", mapping).turns
    assert [(turn.role, turn.content) for turn in turns] == [("system", "c"), ("user", "a"), ("assistant", "b")]
    with pytest.raises(BadRow, match="no column say"):
        conversation_of({"ask": "a"}, "", mapping)
    for wrong in ({"wizard": "x"}, {"user": "x"}, {"answer": "x", "output": "y"}):
        with pytest.raises(UsageError):
            parse_mapping(wrong)


def test_a_chosen_format_is_held_to() -> None:
    with pytest.raises(BadRow, match="no question"):
        conversation_of({"instruction": "a", "output": "b"}, "question-answer")


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "xml"},
        {"train_on": "some"},
        {"over_length": "squeeze"},
        {"max_length": 1},
        {"validation_split": 0.9},
        {"drop": ["nonsense"]},
        {"nonsense": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DataOptions.checked(**wrong)


def test_equal_options_hash_equally() -> None:
    one = DataOptions.checked(mapping={"user": "a", "assistant": "b"}, drop=["email", "duplicate"], format="auto")
    other = DataOptions.checked(mapping={"assistant": "b", "user": "a"}, drop=("duplicate", "email"))
    assert one.as_json() == other.as_json()


def test_messages_in_parts() -> None:
    call = {"name": "look", "arguments": {"at": "clock"}}
    spellings = (
        [{"type": "thinking", "thinking": "When?"}, {"type": "tool_use", "name": "look", "input": {"at": "clock"}}],
        [{"type": "reasoning", "value": "When?"}, {"type": "tool_call", "value": json.dumps(call)}],
    )
    for parts in spellings:
        turn = conversation_of({"messages": [{"role": "assistant", "content": [*parts, "Now."]}]}).turns[0]
        assert (turn.content, turn.reasoning) == ("Now.", "When?")
        assert turn.tool_calls == (ToolCall("look", {"at": "clock"}),)


def test_a_weight_of_the_loss_is_heeded() -> None:
    said = {"role": "assistant", "content": "hi"}
    conversation = conversation_of({"messages": [{**said, "loss_weight": 0.0}, {**said, "loss_weight": 1.0}, said]})
    assert [turn.trained for turn in conversation.turns] == [False, True, True]


def test_rows_about_pictures_are_refused_and_tags_in_text_are_not() -> None:
    asked = {"question": "<image>Who is it?", "answer": "Kane."}
    with pytest.raises(BadRow) as bad:
        conversation_of({**asked, "images": ["1.jpg"]})
    assert bad.value.kind == "media"
    for other in (asked, {**asked, "images": []}, {"question": "Who?", "answer": "Kane.", "image": "1.jpg"}):
        assert conversation_of(other).turns[1].content == "Kane."
