"""Conversations as chat programs export them, in the shapes that their users publish converters for."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem

ASKED_AND_SAID = [("user", "Why is grass green?", ""), ("assistant", "Chlorophyll.", "")]


def claude(*messages: dict[str, Any], **rest: Any) -> dict[str, Any]:
    listed = [{"uuid": str(number), **one} for number, one in enumerate(messages)]
    return {"uuid": "u", "name": "Grass", "account": {"uuid": "me"}, "chat_messages": listed, **rest}


def block(sender: str, text: str, *before: dict[str, Any], **rest: Any) -> dict[str, Any]:
    content = [*before, {"type": "text", "text": text}]
    return {"sender": sender, "text": text, "content": content, "attachments": [], "files": [], **rest}


def deepseek(*fragments: list[dict[str, Any]]) -> dict[str, Any]:
    nodes: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": ["1"], "message": None}}
    for number, listed in enumerate(fragments, start=1):
        message = {"files": [], "model": "m", "inserted_at": f"2026-01-0{number}T10:00:00+08:00", "fragments": listed}
        parent = str(number - 1) if number > 1 else "root"
        nodes[str(number)] = {"id": str(number), "parent": parent, "children": [], "message": message}
    return {"id": "c", "title": "Grass", "inserted_at": "2026-01-01T10:00:00+08:00", "mapping": nodes}


def grok(*responses: dict[str, Any]) -> dict[str, Any]:
    about = {"id": "c", "title": "Grass", "create_time": "2026-01-01T10:00:00Z"}
    return {"conversation": about, "responses": [{"response": one, "share_link": None} for one in responses]}


def open_webui(*messages: dict[str, Any], **rest: Any) -> dict[str, Any]:
    nodes = {
        str(number): {"id": str(number), "parentId": str(number - 1) if number else None, "childrenIds": [], **one}
        for number, one in enumerate(messages)
    }
    history = {"messages": nodes, "currentId": str(len(nodes) - 1)}
    return {"id": "c", "title": "Grass", "chat": {"title": "Grass", "models": ["m"], "history": history, **rest}}


def lm_studio(*versions: dict[str, Any], **rest: Any) -> dict[str, Any]:
    listed = [{"versions": [one], "currentlySelected": 0} for one in versions]
    return {"name": "Grass", "createdAt": 1767225600000, "tokenCount": 9, "messages": listed, **rest}


def typed(text: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "singleStep", "role": "user", "content": [{"type": "text", "text": text}, *more]}


def stepped(text: str, *before: dict[str, Any]) -> dict[str, Any]:
    said = {"type": "contentBlock", "stepIdentifier": "1", "content": [{"type": "text", "text": text}]}
    return {"type": "multiStep", "role": "assistant", "steps": [*before, said, {"type": "debugInfoBlock"}]}


QUESTION, ANSWER = "Why is grass green?", "Chlorophyll."
ASKED, SAID = {"type": "REQUEST", "content": QUESTION}, {"type": "RESPONSE", "content": ANSWER}
PLAIN = {
    "claude": [claude(block("human", QUESTION), block("assistant", ANSWER))],
    "claude-text-alone": [
        claude({"sender": "human", "text": QUESTION}, {"sender": "assistant", "text": ANSWER}),
    ],
    "deepseek": [deepseek([ASKED], [SAID])],
    "grok": {
        "conversations": [
            grok({"sender": "human", "message": QUESTION}, {"sender": "ASSISTANT", "message": ANSWER}),
        ],
        "projects": [],
        "tasks": [],
    },
    "lm-studio": lm_studio(typed(QUESTION), stepped(ANSWER)),
    "open-webui": [open_webui({"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER})],
}


def read(tmp_path: Path, data: Any, name: str = "conversations.json") -> list[Row | RowProblem]:
    path = tmp_path / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return list(read_rows(path))


def turns(record: Row | RowProblem) -> list[tuple[str, str, str]]:
    assert isinstance(record, Row), record
    return [(turn.role, turn.content, turn.reasoning) for turn in conversation_of(record.fields).turns]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("file", ["conversations.json", "rows.jsonl", "export.txt"])
def test_the_plain_conversation_of_every_program(tmp_path: Path, name: str, file: str) -> None:
    (record,) = read(tmp_path, PLAIN[name], file)
    assert turns(record) == ASKED_AND_SAID


def test_thinking_goes_where_templates_look_for_it(tmp_path: Path) -> None:
    thinking = '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n'
    thought = {
        "type": "contentBlock",
        "content": [{"type": "text", "text": "Plants & light.\nSo."}],
        "style": {"type": "thinking", "ended": True, "title": "Thought for 2 seconds"},
    }
    answer = thinking + "&gt; Plants &amp; light.\n> So.\n</details>\n" + ANSWER
    for export in (
        [
            claude(
                block("human", QUESTION),
                block("assistant", ANSWER, {"type": "thinking", "thinking": "Plants & light.\nSo."}),
            )
        ],
        [deepseek([ASKED], [{"type": "THINK", "content": "Plants & light.\nSo."}, SAID])],
        [open_webui({"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer})],
        [lm_studio(typed(QUESTION), stepped(ANSWER, thought))],
    ):
        (record,) = read(tmp_path, export)
        assert turns(record) == [ASKED_AND_SAID[0], ("assistant", ANSWER, "Plants & light.\nSo.")]


def test_the_branch_that_was_shown_last_is_read(tmp_path: Path) -> None:
    times = ["2026-01-01", "2026-01-02", "2026-01-03"]
    parents = ["00000000-0000-4000-8000-000000000000", "0", "0"]
    said = [block("human", QUESTION), block("assistant", "Paint."), block("assistant", ANSWER)]
    messages = [
        {**one, "created_at": time, "parent_message_uuid": parent}
        for one, time, parent in zip(said, times, parents, strict=True)
    ]
    tree = deepseek([ASKED], [{"type": "RESPONSE", "content": "Paint."}], [SAID])
    tree["mapping"]["3"]["parent"] = "1"
    chat = open_webui(
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Paint."},
        {"role": "assistant", "content": ANSWER},
    )
    chat["chat"]["history"]["messages"]["2"]["parentId"] = "0"
    for record in read(tmp_path, [claude(*messages), tree, chat]):
        assert turns(record) == ASKED_AND_SAID
    shown = lm_studio(typed(QUESTION), stepped("Paint."))
    shown["messages"][1] = {"versions": [stepped("Paint."), stepped(ANSWER)], "currentlySelected": 1}
    (record,) = read(tmp_path, [shown])
    assert turns(record) == ASKED_AND_SAID
    (record,) = read(tmp_path, [claude(*messages, current_leaf_message_uuid="1")])
    assert turns(record)[1] == ("assistant", "Paint.", "")


def test_a_pasted_text_is_part_of_the_question_and_a_system_text_stands_in_front(tmp_path: Path) -> None:
    pasted = {"file_name": "", "file_type": "txt", "extracted_content": "the article"}
    asked = {**block("human", "Sum it up."), "attachments": [pasted]}
    chat = open_webui({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, params={"system": "S"})
    first, second = read(tmp_path, [claude(asked, block("assistant", "Short.")), chat])
    assert turns(first)[0] == ("user", "Sum it up.\n\nthe article", "")
    assert turns(second)[0] == ("system", "S", "")
    settings = {"fields": [{"key": "llm.prediction.systemPrompt", "value": "S"}]}
    for told in ({"systemPrompt": "S"}, {"systemPrompt": "", "perChatPredictionConfig": settings}):
        (record,) = read(tmp_path, [lm_studio(typed("q"), stepped("a"), **told)])
        assert turns(record) == [("system", "S", ""), ("user", "q", ""), ("assistant", "a", "")]


def test_what_no_text_says_is_refused_at_its_line(tmp_path: Path) -> None:
    asked, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    human, answer = {"sender": "human", "message": "q"}, {"sender": "assistant", "message": "a"}
    calls = '<details type="tool_calls" done="true" id="1">\n<summary>Tool</summary>\n</details>\na'
    rows = [
        ("tool_call", claude(block("human", "q"), block("assistant", "a", {"type": "tool_use", "name": "search"}))),
        ("media", claude(block("human", "q", files=[{"file_name": "cat.png"}]), block("assistant", "a"))),
        ("media", claude(block("human", "q", attachments=[{"file_name": "a.pdf"}]), block("assistant", "a"))),
        ("tool_call", deepseek([ASKED], [{"type": "SEARCH", "results": []}, SAID])),
        (
            "shape",
            {
                **deepseek(),
                "mapping": {
                    "root": {"message": None},
                    "1": {"parent": "root", "message": {"role": "u", "content": "q"}},
                },
            },
        ),
        ("tool_call", open_webui(asked, {**said, "content": calls})),
        ("tool_call", open_webui(asked, {**said, "sources": [{"source": {"name": "a.pdf"}}]})),
        ("media", open_webui({**asked, "files": [{"type": "image"}]}, said)),
        ("tool_call", grok(human, {**answer, "message": 'so <grok:render card_id="1">'})),
        ("media", grok({**human, "file_attachments": ["f"]}, answer)),
        ("media", lm_studio(typed("q", {"type": "file", "fileIdentifier": "1.png"}), stepped("a"))),
        ("tool_call", lm_studio(typed("q"), stepped("a", {"type": "toolStatus"}))),
        ("shape", lm_studio({"type": "x"}, stepped("a")) | {"messages": [{"versions": [], "currentlySelected": 0}]}),
        ("empty", claude()),
        ("shape", {"header": "Gemini Apps", "title": "Prompted q", "time": "2026-01-01"}),
    ]
    found = read(tmp_path, [row for _, row in rows])
    assert [record.kind if isinstance(record, RowProblem) else "read" for record in found] == [kind for kind, _ in rows]
    assert all(isinstance(record, RowProblem) and record.message and record.fix for record in found)


def test_rows_that_only_have_a_name_in_common_stay_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"chat": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"question": "q", "answer": "a", "mapping": {"x": 1}, "responses": ["a"], "header": "h"},
    ]
    assert [record.fields for record in read(tmp_path, rows) if isinstance(record, Row)] == rows


@pytest.mark.parametrize(
    ("name", "file", "beside"),
    [
        ("claude", "conversations.json", {"users.json": [{"uuid": "me", "full_name": "A"}], "projects.json": []}),
        ("deepseek", "conversations.json", {"user.json": {"user_id": "me", "email": "a@b.c"}}),
        ("grok", "ttl/30d/export_data/me/prod-grok-backend.json", {"prod-mc-billing.json": {"balance": 0}}),
    ],
)
def test_the_archive_of_an_export_is_read_without_what_lies_beside(
    tmp_path: Path, name: str, file: str, beside: dict[str, Any]
) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(file, json.dumps(PLAIN[name]))
        for other, data in beside.items():
            archive.writestr(other, json.dumps(data))
    (record,) = read_rows(path)
    assert turns(record) == ASKED_AND_SAID


def test_a_large_export_of_grok_is_read_chat_by_chat(tmp_path: Path) -> None:
    long = "leaf " * 30_000
    chats = [
        grok({"sender": "human", "message": f"{i} {long}"}, {"sender": "assistant", "message": "a"}) for i in range(40)
    ]
    found = read(tmp_path, {"conversations": chats, "projects": [], "tasks": []})
    assert len(found) == 40 and all(isinstance(record, Row) for record in found)
