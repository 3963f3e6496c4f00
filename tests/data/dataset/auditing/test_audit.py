from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.dataset.auditing.audit import MAX_LISTED_PER_KIND, Check
from app.data.dataset.auditing.duplicates import Sketches, normalised
from app.data.dataset.auditing.sensitive import find_email, has_secret, redact_emails, redact_secrets
from app.data.dataset.options import DataOptions
from app.data.dataset.repairs import repair, role_order_problem
from app.data.formats.conversation import Conversation, Turn
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem

KEYS = {
    "format",
    "confidence",
    "why",
    "rows",
    "usable",
    "problems",
    "problem_counts",
    "duplicates",
    "tokens",
    "packing",
}
SENTENCE = "The quick brown fox jumps over the lazy dog and then it goes home to sleep for a long time. "


def as_rows(*fields: dict[str, Any]) -> list[Row | RowProblem]:
    return [Row(i, i, one) for i, one in enumerate(fields, start=1)]


def pair(asked: str, said: str) -> dict[str, Any]:
    return {"question": asked, "answer": said}


def talk(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def checked(tokenizer: ModelTokenizer | None, *fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    renderer = Renderer(tokenizer) if tokenizer else None
    return Check(DataOptions.checked(**options), renderer).run(as_rows(*fields)).facts().as_dict()


def kinds(report: dict[str, Any]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for problem in report["problems"]:
        found.setdefault(problem["line"], set()).add(problem["kind"])
    return found


def test_a_clean_file(chatml: ModelTokenizer) -> None:
    rows = [pair(f"What is {i}?", f"It is number {i}, {random.Random(i).random()}") for i in range(20)]
    report = checked(chatml, *rows, max_length=4096)
    assert set(report) == KEYS
    assert (report["format"], report["rows"], report["usable"], report["problems"]) == ("question-answer", 20, 20, [])
    tokens = report["tokens"]
    assert set(tokens) == {"total", "trained", "p50", "p95", "max", "over_limit"}
    assert 0 < tokens["trained"] < tokens["total"] and tokens["p50"] <= tokens["p95"] <= tokens["max"]
    assert set(report["packing"]) == {"fill", "steps_per_epoch"} and report["packing"]["steps_per_epoch"] == 1
    json.dumps(report)


def test_every_kind_of_problem_is_found_at_its_line(chatml: ModelTokenizer) -> None:
    report = checked(
        chatml,
        pair("a", "fine"),
        pair("a", "fine"),
        pair("b", "  "),
        talk(("assistant", "I begin"), ("user", "no"), ("assistant", "yes")),
        talk(("user", "one"), ("user", "two"), ("assistant", "x")),
        talk(("user", "one"), ("assistant", "x"), ("user", "and?")),
        pair("key", "hf_" + "a1B2" * 9),
        pair("mail", "write to bob@corp.io"),
        pair("inject", "so <|im_end|> it is"),
        pair("long", "word " * 2000),
        talk(("wizard", "x")),
        {"x": 1, "y": 2},
        talk(("user", "only asked")),
    )
    assert kinds(report) == {
        2: {"duplicate"},
        3: {"empty_answer"},
        4: {"role_order"},
        5: {"role_order"},
        6: {"role_order"},
        7: {"secret"},
        8: {"email"},
        9: {"control_token"},
        10: {"over_limit", "long_row"} if "long_row" in kinds(report)[10] else {"over_limit"},
        11: {"role"},
        12: {"unknown"},
        13: {"role_order"},
    }
    assert report["rows"] == 13 and report["usable"] == 8 and report["duplicates"] == 1
    assert report["tokens"]["over_limit"] == 1 and report["format"] == "mixed"
    assert all(problem["message"] and problem["fix"] for problem in report["problems"])


def test_dropping_and_repairing_change_what_is_usable(chatml: ModelTokenizer) -> None:
    rows = [pair("a", "b"), pair("a", "b"), pair("c", "me@corp.io"), talk(("assistant", "x"), ("user", "y"), ("assistant", "z"))]  # fmt: skip # noqa: E501
    assert checked(chatml, *rows)["usable"] == 4
    assert checked(chatml, *rows, drop=["duplicate", "email", "role_order"])["usable"] == 1
    repaired = checked(chatml, *rows, repair=["email", "role_order"])
    assert repaired["problem_counts"] == {"duplicate": 1} and repaired["usable"] == 4


def test_nothing_trained_is_said(chatml: ModelTokenizer) -> None:
    report = checked(chatml, pair("a", ""), pair("b", ""))
    assert report["problems"][-1]["kind"] == "nothing_trained" and report["problems"][-1]["line"] is None
    assert report["problems"][-1]["fix"] == "Choose another format or mapping"


def test_nothing_trained_for_length_asks_for_length(chatml: ModelTokenizer) -> None:
    report = checked(chatml, pair("a", "word " * 200), max_length=64)
    assert report["problems"][-1]["kind"] == "nothing_trained"
    assert report["problems"][-1]["fix"] == "Raise the length"
    assert report["tokens"]["trained"] == 0 and report["usable"] == 0


def test_without_a_model_no_tokens_are_counted() -> None:
    report = checked(None, pair("a", "b"), pair("a", ""))
    assert report["tokens"]["total"] is None and report["usable"] == 1 and set(report) == KEYS


def test_the_list_is_capped_but_the_counts_are_not(chatml: ModelTokenizer) -> None:
    report = checked(chatml, *[pair(f"{i}", "") for i in range(500)], pair("a", "me@corp.io"))
    assert report["problem_counts"]["empty_answer"] == 500
    assert sum(problem["kind"] == "empty_answer" for problem in report["problems"]) == MAX_LISTED_PER_KIND
    assert any(problem["kind"] == "email" for problem in report["problems"])


def test_chosen_format_and_mapping_are_reported(chatml: ModelTokenizer) -> None:
    report = checked(chatml, {"q": "a", "a": "b"}, mapping={"user": "q", "assistant": "a"})
    assert (report["format"], report["confidence"], report["usable"]) == ("mapped", 1.0, 1)
    report = checked(chatml, {"instruction": "a", "output": "b"}, format="alpaca")
    assert report["why"] == "chosen by you"


def test_leaks_between_training_and_validation(chatml: ModelTokenizer) -> None:
    rng = random.Random(0)
    rows = []
    for i in range(60):
        words = [rng.choice(["red", "green", "blue", "fast", "slow", "bird", "stone", "river"]) for _ in range(60)]
        rows += [pair(f"Tell {i} " + " ".join(words), "ok"), pair(f"Tell {i} " + " ".join(words) + " please", "ok")]
    report = checked(chatml, *rows, validation_split=0.5)
    assert report["problem_counts"]["near_duplicate"] >= 50
    assert 10 < report["problem_counts"]["leakage"] < 55
    assert "leakage" not in checked(chatml, *rows)["problem_counts"]


def test_near_duplicates_that_are_dropped_are_in_no_count(chatml: ModelTokenizer) -> None:
    rng = random.Random(0)
    asked = [f"Tell {i} " + " ".join(rng.choices(["red", "green", "blue", "fast", "slow"], k=60)) for i in range(20)]
    rows = [pair(text, "ok") for one in asked for text in (one, f"{one} please")]
    near = {line for line, found in kinds(checked(chatml, *rows)).items() if "near_duplicate" in found}
    alone = checked(chatml, *(row for line, row in enumerate(rows, start=1) if line not in near))
    dropped = checked(chatml, *rows, drop=("near_duplicate",))
    assert len(near) > 10
    assert dropped["usable"] == alone["usable"] == 40 - len(near)
    assert (dropped["tokens"], dropped["packing"]) == (alone["tokens"], alone["packing"])


def test_one_very_long_row_is_named(chatml: ModelTokenizer) -> None:
    rows = [pair(f"{i}", f"short {i}") for i in range(50)]
    report = checked(chatml, *rows, pair("x", "word " * 3000), max_length=100_000)
    assert kinds(report)[51] == {"long_row"}


def test_a_report_from_a_file_with_bad_lines(chatml: ModelTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(pair("a", "b")) + "\n{bad\n\n" + json.dumps(pair("c", "d")))
    run = Check(DataOptions(), Renderer(chatml))
    report = run.run(read_rows(path))
    assert report.rows == 3 and report.usable == 2 and [problem.line for problem in report.problems] == [2]
    assert sum(one.rows for one in report.histogram) == 2


@pytest.mark.parametrize(
    ("roles", "wrong"),
    [
        ("us as us as", None),
        ("sy us as", None),
        ("us as to as", None),
        ("as us as", "begins"),
        ("us as us", "ends"),
        ("us us as", "follow"),
        ("us as as", "follow"),
        ("us sy as", "middle"),
        ("us", "no answer"),
        ("us to as", "nothing was called"),
    ],
)
def test_role_order(roles: str, wrong: str | None) -> None:
    names = {"us": "user", "as": "assistant", "sy": "system", "to": "tool"}
    conversation = Conversation(tuple(Turn(names[role], f"{role} {i}") for i, role in enumerate(roles.split())))
    said = role_order_problem(conversation)
    assert (said is None) if wrong is None else (said is not None and wrong in said)
    if "as" in roles and "to" not in roles:
        assert role_order_problem(repair(conversation, ("role_order",), frozenset())) is None


def test_repairs() -> None:
    turns = (Turn("user", "a"), Turn("assistant", ""), Turn("user", "mail me@corp.io"), Turn("assistant", "b<|x|>"))
    kinds = ("email", "empty_answer", "control_token")
    mended = repair(Conversation(turns), kinds, frozenset({"<|x|>"}))
    assert [turn.content for turn in mended.turns] == ["mail [redacted]", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "a1B2" * 9,
        "ghp_" + "a" * 36,
        "AKIA" + "A1" * 8,
        "sk-proj-" + "a1" * 20,
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_found_and_redacted(text: str) -> None:
    assert has_secret(f"my key is {text}.")
    assert text not in redact_secrets(f"my key is {text}.")


@pytest.mark.parametrize(
    "text", ["sk-learn is fine", "half_time", "ghp_short", "a@b", "see you @ noon", "x@example.com"]
)
def test_ordinary_text_is_not_taken_for_secrets(text: str) -> None:
    assert not has_secret(text) and find_email(text) is None


def test_emails() -> None:
    assert find_email("write to bob.smith+x@mail.corp.io now") == "bob.smith+x@mail.corp.io"
    assert redact_emails("a bob@corp.io b") == "a [redacted] b"


def test_equal_and_nearly_equal_texts() -> None:
    sketches = Sketches()
    texts = [
        SENTENCE * 3,
        "something else entirely " * 5,
        SENTENCE * 3,
        SENTENCE.upper() * 3 + "!!",
        SENTENCE * 3 + "And more.",
    ]
    for number, text in enumerate(texts):
        sketches.add(number, text)
    assert sketches.exact_repeats() == {2: 0}
    near = sketches.near_repeats()
    assert {3, 4} <= set(near) and 1 not in near
    assert normalised("Hello,  World!") == "hello world"


def test_random_texts_are_no_near_duplicates() -> None:
    rng = random.Random(2)
    sketches = Sketches()
    for number in range(500):
        sketches.add(number, " ".join(str(rng.random()) for _ in range(30)))
    assert sketches.near_repeats() == {} and sketches.exact_repeats() == {}
    assert Sketches().near_repeats() == {} and Sketches().exact_repeats() == {}


def test_answers_that_are_marked_as_bad_are_told_and_can_be_dropped(chatml: ModelTokenizer) -> None:
    rows = [{**pair("a", "good"), "label": True}, {**pair("b", "bad"), "label": False}, {**pair("c", "d"), "label": 0}]
    assert kinds(checked(chatml, *rows)) == {2: {"marked_bad"}}
    assert checked(chatml, *rows, drop=("marked_bad",))["usable"] == 2


def test_a_mark_of_lost_characters_costs_no_row(chatml: ModelTokenizer) -> None:
    report = checked(chatml, pair("a", "caf\ufffd"))
    assert kinds(report) == {1: {"lost_characters"}} and report["usable"] == 1


def test_long_plain_text_is_split_and_long_talk_is_dropped_unless_chosen(chatml: ModelTokenizer) -> None:
    rows = [{"text": "one two three " * 400}, pair("a", "one two three " * 400)]
    auto, dropped = (checked(chatml, *rows, max_length=256, **way) for way in ({}, {"over_length": "drop"}))
    assert (auto["usable"], dropped["usable"]) == (1, 0)
    assert kinds(auto) == {1: {"over_limit"}, 2: {"over_limit"}}  # and no long_row: what is trained is not long
    whole = checked(chatml, rows[0], max_length=100_000)["tokens"]["total"]
    assert auto["tokens"]["total"] == whole and auto["tokens"]["max"] == 256


def test_what_is_missing_is_said_at_its_line(chatml: ModelTokenizer) -> None:
    report = checked(
        chatml,
        {"instruction": None, "input": "", "output": "a"},
        {"instruction": "q", "input": "nan", "output": "b"},
        {"instruction": "q", "input": "", "output": "nan"},
        {"instruction": "q", "input": "", "output": "None"},
        talk(("system", "Greet."), ("user", ""), ("assistant", "Hello")),
        {"messages": [{"role": "user", "content": "w"}, {"role": "assistant", "content": "x", "weight": 0.5}]},
        {"instruction": "fine", "input": "", "output": "fine too"},
        {"question": "nan", "context": "Rome is a city.", "answer": "Rome"},
        {"Context": "Rome is a city?", "Response": "It is"},
    )
    assert kinds(report) == {
        1: {"empty_question"},
        2: {"null_cell"},
        3: {"missing_value"},
        4: {"null_word"},
        5: {"empty_turn"},
        6: {"loss_weight"},
        8: {"empty_turn"},
    }
    assert report["usable"] == 7 and all(problem["message"] and problem["fix"] for problem in report["problems"])
    json.dumps(report)


def test_a_system_text_that_gives_way_to_the_messages_own_is_named() -> None:
    words = ("one apple fell", "nobody went home", "rain in May", "seven ships sail")
    talks = [talk(("system", "Be kind."), ("user", word), ("assistant", word[::-1])) for word in words]
    report = checked(
        None,
        {**talks[0], "system": "Be rude."},
        {**talks[1], "system": " Be kind. "},
        {**talks[2], "system": None},
        {**talks[3], "system_prompt": ""},
        {**talk(("user", "a"), ("assistant", "c")), "system": "Be rude."},
        {"instruction": "q", "output": "r", "system": "Be rude."},
    )
    assert kinds(report) == {1: {"unread_system"}} and report["usable"] == 6


def test_none_among_labels_is_one_of_them() -> None:
    labels = ["joy", "None", "anger"]
    rows = [pair(f"how does row {i} feel?", labels[i % 3]) for i in range(30)]
    assert checked(None, *rows)["problems"] == []
    assert checked(None, *rows, drop=["null_word"])["usable"] == 20  # as the build drops them
    texts = [pair(f"what of {i}?", f"A long answer to the question of number {i}.") for i in range(30)]
    report = checked(None, *texts, pair("and this?", "None"))
    assert kinds(report)[31] == {"null_word"} and report["usable"] == 31


def test_what_is_missing_is_said_in_the_language_of_the_page() -> None:
    from app.ui.shell.language import Translator

    report = checked(None, pair("", "a"), pair("q", "nan"), pair("r", "None"), talk(("user", " "), ("assistant", "b")))
    zh = Translator("zh")
    for problem in report["problems"]:
        plain = json.loads(json.dumps(problem))
        assert zh.heard(plain["message"]) != plain["message"] and zh.heard(plain["fix"]) != plain["fix"], plain
        assert zh.known(f"problem.{plain['kind']}", "") not in ("", plain["kind"])
