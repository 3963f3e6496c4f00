"""Rows as public data sets have them, written from their shapes with invented words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.data.formats.conversation import ToolCall, Turn
from app.data.formats.conversions import conversation_of
from app.data.formats.detection import format_of
from app.data.reading.rows import BadRow

Q, A = Turn("user", "q"), Turn("assistant", "a")
TWICE = (Q, A, Turn("user", "q2"), Turn("assistant", "a2"))
CALL = ToolCall("get", {"city": "Paris"})


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SHAPES: dict[str, tuple[str, dict[str, Any], tuple[Turn, ...]]] = {
    "LIMA": ("messages", {"conversations": ["q", "a", "q2", "a2"], "source": "x"}, TWICE),
    "UltraChat": ("messages", {"id": "1", "data": ["q", "a", "q2", "a2"]}, TWICE),
    "Firefly": ("messages", {"conversation": [{"human": "q", "assistant": "a"}], "category": "x"}, (Q, A)),
    "Firefly 1.1": ("prompt-completion", {"kind": "x", "input": "q", "target": "a"}, (Q, A)),
    "Capybara": (
        "messages",
        {"conversation": [{"input": "q", "output": "a"}, {"input": "q2", "output": "a2"}]},
        TWICE,
    ),
    "Belle": ("alpaca", {"instruction": "Human:q\nAssistant:a\nHuman:q2\nAssistant:", "output": "a2"}, TWICE),
    "Python text": ("messages", {"messages": str([user("q"), answer("a")])}, (Q, A)),
    "speakers": (
        "messages",
        {"dialogue": [{"speaker": "human", "text": "q"}, {"speaker": "bot", "text": "a"}]},
        (Q, A),
    ),
    "角色": ("messages", {"对话": [{"角色": "用户", "内容": "q"}, {"角色": "助手", "内容": "a"}]}, (Q, A)),
    "nested": ("messages", {"messages": [[user("q"), answer("a")]]}, (Q, A)),
    "Gemini": (
        "messages",
        {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
        },
        (Turn("system", "s"), Q, A),
    ),
    "thinking": (
        "messages",
        {"messages": [user("q"), answer([{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}])]},
        (Q, Turn("assistant", "a", reasoning="t")),
    ),
    "Gemini calls": (
        "messages",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {
                    "role": "model",
                    "parts": [{"text": "t", "thought": True}, {"functionCall": {"name": "get", "args": {}}}],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "get", "response": {"sky": "blue"}}}]},
                {"role": "model", "parts": [{"text": "a"}]},
            ]
        },
        (Q, Turn("assistant", "", "t", (ToolCall("get", {}),)), Turn("tool", '{"sky": "blue"}'), A),
    ),
    "Claude tools": (
        "messages",
        {
            "messages": [
                user("q"),
                answer([{"type": "tool_use", "id": "1", "name": "get", "input": {"city": "Paris"}}]),
                user([{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "sun"}]}]),
                answer("a"),
            ]
        },
        (
            *(Q, Turn("assistant", "", tool_calls=(ToolCall("get", {"city": "Paris"}, "1"),))),
            *(Turn("tool", "sun", tool_call_id="1"), A),
        ),
    ),
    "Glaive": (
        "messages",
        {"system": "s", "chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>\n\n"},
        (Turn("system", "s"), Q, A),
    ),
    "xLAM": (
        "messages",
        {"query": "q", "answers": '[{"name": "get", "arguments": {"city": "Paris"}}]', "tools": '[{"name": "get"}]'},
        (Q, Turn("assistant", "", tool_calls=(CALL,))),
    ),
    "SQuAD": (
        "question-answer",
        {"context": "c", "question": "q", "answers": {"text": ["a", "b"], "answer_start": [0, 1]}},
        (Turn("user", "c\n\nq"), A),
    ),
    "Huatuo": ("question-answer", {"questions": [["q", "q?"]], "answers": ["a"]}, (Q, A)),
    "MMLU": (
        "question-answer",
        {"question": "q", "choices": ["x", "y"], "answer": 1},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y")),
    ),
    "ARC": (
        "question-answer",
        {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"},
        (Turn("user", "q\n1. x\n2. y"), Turn("assistant", "1. x")),
    ),
    "MedQA": (
        "question-answer",
        {"question": "q", "options": {"A": "x", "B": "y", "C": None}, "answer": "y", "answer_idx": "B"},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y")),
    ),
    "MedMCQA": (
        "question-answer",
        {"question": "q", "opa": "x", "opb": "y", "cop": 1},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y")),
    ),
    "C-Eval": (
        "question-answer",
        {"id": "0", "question": "q", "A": "x", "B": "y", "answer": "A"},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "A. x")),
    ),
    "HellaSwag": (
        "question-answer",
        {"ctx": "q", "endings": ["x", "y"], "label": "1"},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y")),
    ),
    "numbers as choices": (
        "question-answer",
        {"question": "q", "choices": ["1", "0"], "answer": 1},
        (Turn("user", "q\nA. 1\nB. 0"), Turn("assistant", "B. 0")),
    ),
    "choices as records": (
        "question-answer",
        {"question": "q", "options": [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}], "answer": "(b)"},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y")),
    ),
    "choices with their letters": (
        "question-answer",
        {"context": "c", "question": "q", "options": "A) x\nB) y", "answer": "B"},
        (Turn("user", "c\n\nq\nA) x\nB) y"), Turn("assistant", "B) y")),
    ),
    "choices of an instruction": (
        "question-answer",
        {"instruction": "i", "input": "q", "choices": ["x", "y"], "output": "x"},
        (Turn("user", "i\n\nq\nA. x\nB. y"), Turn("assistant", "A. x")),
    ),
    "an answer in other words": (
        "question-answer",
        {"question": "q", "choices": ["x", "y"], "answer": "It is y, because x is none."},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "It is y, because x is none.")),
    ),
    "an answer in other words beside a mark": (
        "question-answer",
        {"prompt": "q", "choices": ["x", "y"], "completion": "z", "correct": "B"},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "z")),
    ),
    "a mark for none of the choices beside an answer": (
        "question-answer",
        {"question": "q", "choices": ["x", "y"], "output": "It is y.", "label": 7},
        (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "It is y.")),
    ),
    "HotpotQA": (
        "question-answer",
        {
            "question": "q",
            "context": {"title": ["T", "U"], "sentences": [["One.", " Two."], ["Three."]]},
            "answer": "a",
        },
        (Turn("user", "T\nOne. Two.\n\nU\nThree.\n\nq"), A),
    ),
    "HotpotQA as it was published": (
        "question-answer",
        {"question": "q", "context": [["T", ["One.", " Two."]], ["U", ["Three."]]], "answer": "a"},
        (Turn("user", "T\nOne. Two.\n\nU\nThree.\n\nq"), A),
    ),
    "MS MARCO": (
        "question-answer",
        {"query": "q", "passages": {"is_selected": [0, 1], "passage_text": ["p", "p2"]}, "answers": ["a"]},
        (Turn("user", "p\n\np2\n\nq"), A),
    ),
    "PubMedQA": (
        "question-answer",
        {"question": "q", "context": {"contexts": ["c", "c2"], "labels": ["x", "y"]}, "answer": "a"},
        (Turn("user", "c\n\nc2\n\nq"), A),
    ),
    "retrieved documents": (
        "question-answer",
        {"question": "q", "documents": [{"title": "T", "text": "x"}, {"text": "y"}], "answer": "a"},
        (Turn("user", "T\nx\n\ny\n\nq"), A),
    ),
    "a context that is no passages": (
        "question-answer",
        {"question": "q", "context": {"a": 1}, "answer": "a"},
        (Turn("user", '{"a": 1}\n\nq'), A),
    ),
    "CoQA": (
        "messages",
        {"story": "s", "questions": ["q", "q2"], "answers": {"input_text": ["a", "a2"], "answer_start": [0, 1]}},
        (Turn("user", "s\n\nq"), A, Turn("user", "q2"), Turn("assistant", "a2")),
    ),
    "self-instruct": ("alpaca", {"instruction": "q", "instances": [{"input": "", "output": "a"}]}, (Q, A)),
    "R1 distilled": (
        "prompt-completion",
        {"input": "q", "content": "a", "reasoning_content": "t"},
        (Q, Turn("assistant", "a", reasoning="t")),
    ),
    "Numina": ("question-answer", {"problem": "q", "solution": "a", "answer": "42"}, (Q, A)),
    "summary": ("prompt-completion", {"document": "q", "summary": "a", "id": "1"}, (Q, A)),
    "FLAN": ("prompt-completion", {"inputs": "q", "targets": "a", "task": "x"}, (Q, A)),
    "user column": ("question-answer", {"system": "s", "user": "q", "assistant": "a"}, (Turn("system", "s"), Q, A)),
    "pairs below a conversation": (
        "preference",
        {"conversations": [{"from": "human", "value": "q"}], "chosen": answer("a"), "rejected": answer("b")},
        (Q, A),
    ),
    "pairs with an input": (
        "preference",
        {"instruction": "i", "input": "q", "chosen": "a", "rejected": "b"},
        (Turn("user", "i\n\nq"), A),
    ),
    "OpenAI pairs": (
        "preference",
        {"input": {"messages": [user("q")]}, "preferred_output": [answer("a")], "non_preferred_output": [answer("b")]},
        (Q, A),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_public_sets_become_what_they_mean(name: str) -> None:
    expected, fields, turns = SHAPES[name]
    assert format_of(fields)[0] == expected and format_of(fields)[1]
    assert conversation_of(fields).turns == turns


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"message_id": "1", "text": "hi there", "role": "prompter"}, "unknown", "one message of a longer"),
        ({"messages": "[{'role': 'user'} {'role': 'assistant'}]"}, "unknown", "not JSON"),
        ({"instruction": ["a", "b"], "output": ["c", "d"]}, "unknown", "one row a line"),
        ({"instruction": {"0": "a"}, "output": {"0": "c"}}, "unknown", "one row a line"),
        ({"version": "1", "data": [{"instruction": "a", "output": "b"}]}, "unknown", "version, data"),
        ({"messages": [user([{"type": "image"}]), answer("a")]}, "media", "image"),
        ({"question": "q", "choices": ["x", "y"], "answer": 2}, "shape", "none of the 2 choices"),
        ({"question": "q", "A": "x", "B": "y", "answer": "E"}, "shape", "none of the 2 choices"),
        ({"messages": "[" * 50_000}, "unknown", "not JSON"),
        ({"messages": "[{'" + "[" * 50_000}, "unknown", "not JSON"),
    ],
)
def test_rows_that_would_train_something_else_are_refused(fields: dict[str, Any], kind: str, said: str) -> None:
    with pytest.raises(BadRow, match=said) as caught:
        conversation_of(fields)
    assert caught.value.kind == kind and caught.value.fix


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "q", "answer": 1, "choices": ["only one"]},
        {"question": "Is it x or y?", "answer": "B", "choices": ["x", "y"]},
        {"data": "text", "question": "q", "answer": "a"},
    ],
)
def test_what_only_looks_like_a_shape_is_left_as_it_is(fields: dict[str, Any]) -> None:
    told = conversation_of(fields).turns[-1].content
    value = fields.get("output", fields.get("answer"))
    assert told == (value if isinstance(value, str) else json.dumps(value))
