from __future__ import annotations

import json
from typing import Any

import pytest

from app.data.dataset.options import DataOptions
from app.data.formats.conversation import Conversation, ToolCall, Turn
from app.data.formats.conversions import conversation_of, parse_mapping
from app.data.formats.detection import detect, format_of
from app.data.reading.rows import BadRow, Row
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


KANE = {"question": "Who is it?", "answer": "Kane."}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


@pytest.mark.parametrize(
    "row",
    [
        {**KANE, "images": ["1.jpg"]},
        {**KANE, "image": {"bytes": b"\x89PNG....", "path": "1.png"}},
        {**KANE, "image": {"bytes": "\x89PNG....", "path": None}},
        {**KANE, "img": "a/b.png"},
        {**KANE, "Picture": "https://example.invalid/1"},
        {**KANE, "photo_url": "https://example.invalid/1"},
        {**KANE, "pixel_values": [[0.1, 0.2]]},
        {**KANE, "image_id": 262148},
        {**KANE, "question_image_1": "x"},
        {**KANE, "图片": "1.jpg"},
        {**KANE, "video_path": "clips/1"},
        {**KANE, "attachment": "scans/wrist left.PNG"},
        {**KANE, "file": "https://example.invalid/a.jpg?size=2"},
        {**KANE, "clip": ["a.mp4"]},
        {**KANE, "scan": PNG},
        {**KANE, "x": f"data:image/png;base64,{PNG}"},
        {**KANE, "recording": {"array": [0.1], "path": "a.wav", "sampling_rate": 16000}},
        {**KANE, "scan": {"bytes": b"II*..", "path": None}},
        {**KANE, "question": "<image>Who is it?"},
        {**KANE, "question": "Who is it?\n<image>"},
        {**KANE, "question": "<|vision_start|><|image_pad|><|vision_end|>Who?"},
        {**KANE, "question": f"Who? data:image/png;base64,{PNG}"},
        {"image": b"\x89PNG", "text": "A red bird on a branch."},
        {
            "messages": [
                {"role": "user", "content": "Who?", "images": ["a.png"]},
                {"role": "assistant", "content": "K."},
            ]
        },
        {"image": "1.jpg", "conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "K."}]},
    ],
)
def test_rows_about_pictures_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(BadRow) as bad:
        conversation_of(row)
    assert bad.value.kind == "media" and bad.value.fix


@pytest.mark.parametrize(
    "row",
    [
        {**KANE, "images": []},
        {**KANE, "image": None},
        {**KANE, "image": ""},
        {**KANE, "image": {"bytes": None, "path": None}},
        {**KANE, "has_image": True},
        {**KANE, "num_images": 3},
        {**KANE, "thumbnail": "https://example.invalid/a.jpg"},
        {**KANE, "video_id": "dQw4w9WgXcQ"},
        {**KANE, "source": "book.txt"},
        {**KANE, "question": "How do I use the <video> tag, and what is <image> in SVG?"},
        {**KANE, "imagination": "a.b"},
    ],
)
def test_words_about_pictures_are_text(row: dict[str, Any]) -> None:
    assert conversation_of(row).turns[1].content == "Kane."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"text": "Rome", "answer_start": 3}, "Rome"),
        ({"text": ["Rome", "Roma"], "answer_start": [3, 3]}, "Rome"),
        ({"value": "Rome", "aliases": ["Roma"], "normalized_value": "rome"}, "Rome"),
        ({"content": "Rome", "author": "me", "score": 3}, "Rome"),
        (["Rome"], "Rome"),
        ([{"text": "Rome"}], "Rome"),
        ({"message": {"role": "assistant", "content": "Rome"}}, "Rome"),
        ([{"text": "Paris", "score": 1}, {"text": "Rome", "score": 7}], "Rome"),
        ([{"text": "Paris", "rank": 2}, {"text": "Rome", "rank": 1}], "Rome"),
        ([{"body": "Paris", "is_accepted": False}, {"body": "Rome", "is_accepted": True}], "Rome"),
        ([{"type": "text", "text": "Ro"}, {"type": "text", "text": "me"}], "Rome"),
        (7, "7"),
        ('{"city": "Rome"}', '{"city": "Rome"}'),
    ],
)
@pytest.mark.parametrize("columns", [("instruction", "output"), ("question", "answer"), ("prompt", "completion")])
def test_the_text_of_an_answer_is_trained_and_not_its_record(answer: Any, said: str, columns: tuple[str, str]) -> None:
    assert conversation_of({columns[0]: "Which city?", columns[1]: answer}).turns[-1].content == said
    mapping = parse_mapping({"user": columns[0], "assistant": columns[1]})
    assert conversation_of({columns[0]: "Which city?", columns[1]: answer}, mapping=mapping).turns[-1].content == said
    turns = [{"role": "user", "content": "Which city?"}, {"role": "assistant", "content": answer}]
    assert conversation_of({"messages": turns}).turns[-1].content == said


@pytest.mark.parametrize(
    "answer",
    [
        {"name": "Rome", "country": "Italy"},
        {"text": "Rome", "explanation": "It is the capital."},
        ["Rome", "Milan"],
        [{"text": "Rome", "votes": "many"}, {"text": "Milan", "votes": "some"}],
        {"text": {"a": "b"}},
    ],
)
def test_an_answer_that_is_no_one_text_is_refused(answer: Any) -> None:
    for row in (
        {"instruction": "Which city?", "output": answer},
        {"prompt": "Which city?", "chosen": answer, "rejected": "Oslo"},
        {"messages": [{"role": "user", "content": "Which city?"}, {"role": "assistant", "content": answer}]},
    ):
        with pytest.raises(BadRow):
            conversation_of(row)


def test_of_ranked_answers_the_best_is_trained() -> None:
    answers = [
        {"answer_id": 11, "author": "someone", "pm_score": 1, "selected": False, "text": "Use dir."},
        {"answer_id": 12, "author": "another", "pm_score": 6, "selected": True, "text": "Use ls -a."},
    ]
    for listed in (answers, answers[::-1], [{**one, "selected": False} for one in answers], json.dumps(answers)):
        assert conversation_of({"question": "Hidden files?", "answers": listed}).turns[1].content == "Use ls -a."


@pytest.mark.parametrize(
    "flag",
    [
        *({"loss": False}, {"loss": 0}, {"train": False}, {"training": False}, {"weight": 0}, {"weight": 0.0}),
        *({"loss_weight": 0}, {"trainable": False}, {"loss": "false"}, {"weight": "0"}, {"Loss": False}),
        *({"loss_mask": 0}, {"masked": True}, {"ignore_loss": True}, {"loss_scale": 0.0}),
    ],
)
def test_an_answer_marked_as_context_is_not_trained(flag: dict[str, Any]) -> None:
    spoken = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "Draft.", **flag}]
    spoken += [{"role": "user", "content": "Again."}, {"role": "assistant", "content": "Right.", "loss": True}]
    shared = [{"from": turn["role"], "value": turn["content"], **turn} for turn in spoken]
    for turn in shared:
        del turn["role"], turn["content"]
    paired = [{"question": "A?", "answer": "Draft.", **flag}, {"question": "Again.", "answer": "Right."}]
    for turns in (spoken, shared, paired):
        assert [one.trained for one in conversation_of({"messages": turns}).answers()] == [False, True]


@pytest.mark.parametrize("flag", [{"loss": None}, {"weight": 1}, {"train": True}, {"weight": 0.5}, {"masked": False}])
def test_an_answer_is_trained_unless_it_is_marked(flag: dict[str, Any]) -> None:
    spoken = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "Yes.", **flag}]
    assert conversation_of({"messages": spoken}).answers()[0].trained


@pytest.mark.parametrize("given", ["", " ", None, {}, "{}", "null", [], "[]"])
def test_a_call_without_arguments_has_an_empty_object(given: Any) -> None:
    for function in ({"name": "now", "arguments": given}, {"name": "now"}, {"name": "now", "parameters": given}):
        call = {"type": "function", "function": function}
        spoken = [{"role": "user", "content": "Time?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        assert conversation_of({"messages": spoken}).turns[1].tool_calls[0].arguments == {}


@pytest.mark.parametrize(
    "given", ['{"city": "Köln"}', ' {"city":"Köln"}\n', '"{\\"city\\": \\"Köln\\"}"', "{'city': 'Köln'}"]
)
def test_arguments_are_one_object_however_they_are_written(given: str) -> None:
    call = {"function": {"name": "weather", "arguments": given}}
    spoken = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert conversation_of({"messages": spoken}).turns[1].tool_calls[0].arguments == {"city": "Köln"}


@pytest.mark.parametrize("blank", ["", "  ", "\n", None])
def test_a_blank_part_of_a_question_leaves_no_blank_lines(blank: str | None) -> None:
    for row in (
        {"instruction": blank, "input": "What?", "output": "That."},
        {"instruction": "What?", "input": blank, "output": "That."},
        {"instruction": "What?", "system": blank, "output": "That."},
        {"prompt": blank, "input": "What?", "completion": "That."},
        {"question": blank, "context": "What?", "answer": "That."},
        {"question": "What?", "context": blank, "answer": "That."},
        {"instruction": blank, "input": "What?", "chosen": "That.", "rejected": "This."},
        {
            "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}],
            "system": blank,
        },
    ):
        assert conversation_of(row).turns == (Turn("user", "What?"), Turn("assistant", "That."))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        *(("Frage", "Antwort"), ("pregunta", "respuesta"), ("질문", "답변"), ("質問", "回答"), ("вопрос", "ответ")),
        *(("question", "réponse"), ("domanda", "risposta"), ("pergunta", "resposta"), ("soru", "cevap")),
        *(("Anweisung", "Ausgabe"), ("instrucción", "salida"), ("инструкция", "вывод"), ("instruction", "réponse")),
    ],
)
def test_columns_are_known_in_many_languages(question: str, answer: str) -> None:
    assert conversation_of({question: "Wo?", answer: "Da."}).turns == (Turn("user", "Wo?"), Turn("assistant", "Da."))


@pytest.mark.parametrize("name", ["system_prompt", "system_message", "systemPrompt", "sys", "System Prompt"])
def test_a_system_text_is_known_by_its_names(name: str) -> None:
    turns = conversation_of({name: "Be brief.", "instruction": "q", "output": "a"}).turns
    assert (turns[0].role, turns[0].content) == ("system", "Be brief.")


@pytest.mark.parametrize(
    "thinking",
    [
        *({"reasoning_content": "t"}, {"thinking": "t"}, {"thought": "t"}, {"cot": "t"}, {"reasoning_text": ["t"]}),
        {"reasoning_details": [{"type": "reasoning.text", "text": "t"}, {"type": "reasoning.encrypted", "data": "x"}]},
    ],
)
def test_the_thinking_of_a_message_is_known_by_its_names(thinking: dict[str, object]) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **thinking}]
    assert conversation_of({"messages": said}).turns[-1].reasoning == "t"


def test_texts_in_a_list_are_not_glued_together() -> None:
    answer = {"role": "assistant", "content": "a"}
    turns = conversation_of({"messages": [{"role": "user", "content": ["Hello", "you"]}, answer]}).turns
    assert turns[0].content == "Hello\nyou"
