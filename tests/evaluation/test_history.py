"""Earlier conversations: kept when the answers are in, found by what was said, opened and deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from app.errors import UsageError
from app.evaluation import history
from app.evaluation.conversation import Answer, Column, Conversation, from_browser, is_id, to_browser
from app.workspace import Workspace


def talk(*turns: tuple[str, str], system: str = "") -> Conversation:
    made = Conversation([Column("base", "Base"), Column("pirate-1", "Pirate")], system)
    for question, said in turns:
        answers = made.ask(question).answers
        answers["base"], answers["pirate-1"] = Answer("no idea", done=True), Answer(said, done=True)
    return made


def kept(workspace: Workspace, *turns: tuple[str, str], system: str = "") -> Conversation:
    made = talk(*turns, system=system)
    history.keep(workspace, made)
    return made


def aged(workspace: Workspace, made: Conversation, seconds: float) -> None:
    path = workspace.conversations / f"{made.id}.json"
    os.utime(path, (path.stat().st_atime - seconds,) * 2)


def test_a_conversation_gets_its_name_with_the_first_question_and_keeps_it() -> None:
    made, other = talk(("Where is the cheese?", "Arr, below")), talk(("Another", "one"))
    assert is_id(made.id) and is_id(other.id) and made.id != other.id and Conversation().id == ""
    first = made.id
    made.ask("And the bread?")
    assert made.id == first == from_browser(to_browser(made)).id


@pytest.mark.parametrize("name", ["", "../../etc/pass", "ABCDEF012345", "abc", "abcdef0123456", 7, None])
def test_what_is_no_name_names_no_conversation(workspace: Workspace, name: object) -> None:
    made = to_browser(talk(("q", "a"))) | {"id": name}
    assert from_browser(made).id == "" and from_browser(made).turns
    with pytest.raises(UsageError, match="not there any more"):
        history.find(workspace, str(name))
    history.remove(workspace, str(name))  # and nothing is deleted


def test_every_word_is_found_wherever_it_was_said_newest_first(workspace: Workspace) -> None:
    cheese = kept(workspace, ("Where is the CHEESE?", "Arr, below deck"), ("And why?", "For the rats"))
    spain = kept(workspace, ("Capital of Spain?", "Madrid, arr"), system="Be laconic")
    aged(workspace, cheese, 60)
    ids = lambda words: [one.id for one in history.look(workspace, words).shown]  # noqa: E731
    assert ids("") == [spain.id, cheese.id]
    assert ids("cheese") == ids("RATS below") == [cheese.id] and ids("laconic") == [spain.id]
    assert ids("arr") == [spain.id, cheese.id] and ids("cheese madrid") == []
    assert ids("Pirate") == [spain.id, cheese.id]  # a column's name
    found = history.look(workspace, "rats").shown[0]
    assert found.question == "Where is the CHEESE?" and found.turns == 2 and found.columns == ("Base", "Pirate")
    assert found.found == "For the rats" and history.look(workspace, "cheese").shown[0].found == ""


def test_the_words_around_what_is_found_are_cut_to_a_line(workspace: Workspace) -> None:
    kept(workspace, ("Question", "x " * 500 + "needle" + "\n y" * 500))
    found = history.look(workspace, "Needle").shown[0].found
    assert found.startswith("…") and found.endswith("…") and "needle" in found and len(found) < 150


def test_a_conversation_goes_on_in_its_own_file_and_leaves_with_its_last_turn(workspace: Workspace) -> None:
    made = kept(workspace, ("one", "two"))
    made.ask("three").answers["base"].done = True
    history.keep(workspace, made)
    assert [one.turns for one in history.look(workspace).shown] == [2]
    made.back_to(0)
    history.keep(workspace, made)
    assert history.look(workspace).shown == () and not list(workspace.conversations.iterdir())


def test_it_comes_back_as_it_was(workspace: Workspace) -> None:
    made = kept(workspace, ("häß \ud800 licht", "für \x00 dich"), system="kurz")
    back = history.find(workspace, made.id)
    assert back.turns[0].prompt == "häß ? licht" and back.turns[0].answers["pirate-1"].said == "für \x00 dich"
    assert back.system == "kurz" and back.id == made.id and back.columns == made.columns


def test_an_empty_conversation_is_not_kept(workspace: Workspace) -> None:
    history.keep(workspace, Conversation())
    assert not workspace.conversations.exists() and history.look(workspace).all == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"turns": 3}', b"\xff\xfe", b"null"])
def test_a_damaged_file_hides_itself_alone(workspace: Workspace, content: bytes) -> None:
    made = kept(workspace, ("one", "two"))
    (workspace.conversations / "0123456789ab.json").write_bytes(content)
    assert [one.id for one in history.look(workspace).shown] == [made.id]
    with pytest.raises(UsageError, match="not there any more"):
        history.find(workspace, "0123456789ab")


def test_what_is_deleted_is_gone_and_the_others_stay(workspace: Workspace) -> None:
    made, other = kept(workspace, ("one", "two")), kept(workspace, ("three", "four"))
    for _ in range(2):
        history.remove(workspace, made.id)
        assert [one.id for one in history.look(workspace).shown] == [other.id]
    history.remove(workspace, "../jobs/x")


def test_what_is_deleted_comes_back_only_when_it_goes_on(workspace: Workspace) -> None:
    """A click in the open conversation, such as one in a column's menu, keeps it anew; here it has changed nothing."""
    made = kept(workspace, ("a", "b"))
    before = from_browser(json.loads(json.dumps(to_browser(made))))
    history.remove(workspace, made.id)
    history.keep_changed(workspace, made, before)
    assert not history.look(workspace).all
    gone_on = talk(("a", "b"), ("c", "d"))
    gone_on.id = made.id
    history.keep_changed(workspace, gone_on, before)
    assert [one.turns for one in history.look(workspace).shown] == [2]


def test_only_so_many_are_shown_and_the_rest_is_counted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_SHOWN", 3)
    monkeypatch.setattr(history, "MOST_READ", 6)
    for number in range(8):
        kept(workspace, (f"question {number}", "answer"))
    look = history.look(workspace)
    assert (len(look.shown), look.matching, look.read, look.all) == (3, 6, 6, 8)


def test_the_file_is_plain_json_for_other_programs(workspace: Workspace) -> None:
    made = kept(workspace, ("one", "two"))
    raw = json.loads(Path(workspace.conversations / f"{made.id}.json").read_text("utf-8"))
    assert raw["turns"][0]["prompt"] == "one" and raw["columns"][1]["title"] == "Pirate"
