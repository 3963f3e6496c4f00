"""Nothing that a handler returns or a browser keeps can break an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from types import SimpleNamespace
from typing import Any

import gradio as gr
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.runs import draft
from app.runs.dataset_selection import DatasetSelection
from app.ui.components import forms, messages
from app.ui.components.markup import Html
from app.ui.shell.language import Translator
from app.ui.shell.serving.blocks import Described, plain_text, sendable
from app.ui.shell.stored_state import settled
from app.workspace import Workspace
from tests.ui.running_page import RunningPage

ANY_TEXT = some.text(some.characters(), max_size=20)  # lone surrogates too
ANY_VALUE = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | ANY_TEXT,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_VALUE)
def test_everything_can_be_sent(value: Any) -> None:
    sent = orjson.loads(orjson.dumps(sendable(value)))
    assert "\0" not in json.dumps(sent) and "\\u0000" not in json.dumps(sent)


@given(some.text())
def test_what_can_be_sent_is_sent_as_it_is(text: str) -> None:
    if "\0" not in text:
        assert sendable(text) is text and sendable(Html(text)) == text


def test_halves_and_nul_become_signs() -> None:
    assert plain_text("caf\udce9") == "caf\ufffd" and plain_text("a\0b") == "a\u2400b"
    assert plain_text("\ud83d\udc4d") == "👍"
    assert sendable({"\ud800": [10**30, float("nan")]}) == {"\ufffd": ["1" + "0" * 30, None]}
    kept = ["a", {"b": 1}]
    assert sendable(kept) == kept
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    orjson.dumps(sendable(deep))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningPage, dict[str, Any]]]:
    """The page, and what it tells the browser about itself."""
    with RunningPage(tmp_path_factory.mktemp("blocks") / "workspace") as running:
        yield running, json.loads(running.get("/config").body)


GOOD = draft.first().to_browser()
STORED = {
    "lone surrogates": {**GOOD, "label": "caf\udce9\ud800", "config": {**GOOD["config"], "seed": "\udc80"}},
    "a surrogate in the file": {**GOOD, "config": {**GOOD["config"], "data": {"file": "/tmp/caf\udce9.csv"}}},
    "a surrogate in the selection": {
        **DatasetSelection("/tmp/caf\udce9.csv", "\udce9").to_browser(),
        "mapping": {"\ud800": "\0"},
    },
    "nul": {**DatasetSelection("/tmp/a\0b.csv", "a\0b").to_browser(), "config": GOOD["config"], "rows": 10**40},
    "another version": {"config": {"version": 99, "nothing": []}, "turns": [{}], "columns": [1]},
    "a list": [1, [2, [3]]],
    "a text": "\ud800" * 100,
    "a number": 10**400,
    "huge": {"label": "x" * 3_000_000, "file": "y" * 3_000_000, "format": "", "mapping": {"a" * 10_000: "b"}},
}  # fmt: skip


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_no_stored_state_breaks_what_the_page_asks_when_it_opens(
    served: tuple[RunningPage, dict[str, Any]], stored: Any
) -> None:
    running, config = served
    kinds = {one["id"]: one["type"] for one in config["components"]}
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    asked = 0
    for one in config["dependencies"]:
        kept = [kinds[each] == "browserstate" for each in one["inputs"]]
        if (
            not any(kept)
            or not any(event in ("load", "change") for _, event in one["targets"])
            or one["queue"]
            or not one["backend_fn"]
        ):
            continue
        data = [stored if is_kept else values[each] for each, is_kept in zip(one["inputs"], kept, strict=True)]
        body = json.dumps({"fn_index": one["id"], "data": data, "session_hash": "s"})
        answer = running.get(
            "/gradio_api/run/predict", "Content-Type: application/json", method="POST", body=body.encode()
        )
        assert answer.status == 200, (one["targets"], answer.body[:300], running.said[-1500:])
        asked += 1
    assert asked > 8


def test_no_page_holds_a_heartbeat(served: tuple[RunningPage, dict[str, Any]]) -> None:
    assert served[1]["connect_heartbeat"] is False


def test_quick_handlers_answer_directly_and_those_that_yield_go_through_the_queue(
    served: tuple[RunningPage, dict[str, Any]],
) -> None:
    made = [one for one in served[1]["dependencies"] if one["backend_fn"]]
    queued = [one for one in made if one["queue"]]
    assert len(queued) < len(made) / 2
    assert all(not one["types"]["generator"] for one in made if not one["queue"])


def test_what_changes_a_state_that_others_follow_goes_through_the_queue(
    served: tuple[RunningPage, dict[str, Any]],
) -> None:
    """The framework tells the browser of a changed state in the queue's messages alone; the followers never ran."""
    states = {one["id"] for one in served[1]["components"] if one["type"] == "state"}
    made = served[1]["dependencies"]
    followed = {target for one in made for target, event in one["targets"] if event == "change"} & states
    assert len(followed) > 5
    assert [one["id"] for one in made if one["backend_fn"] and not one["queue"] and followed & {*one["outputs"]}] == []


@pytest.mark.parametrize("kind", [gr.Dropdown, gr.Radio, gr.CheckboxGroup])
def test_what_a_list_no_longer_offers_reaches_the_handler(kind: Any) -> None:
    one = kind(choices=["kept"])
    assert one.preprocess("gone") == "gone"
    assert one.preprocess(["gone", "kept"]) == ["gone", "kept"]


def test_what_cannot_be_shown_is_set_aside_with_a_line() -> None:
    for language in ("en", "zh"):
        t = Translator(language)
        stored = {"draft": STORED["another version"], "look": {"file": 5}, "conversation": {"turns": 3}}
        found = settled(stored, t)
        assert all(t(f"kept.{name}") in found.line for name in ("draft", "look", "conversation"))
        assert (
            found.fresh["draft"] == draft.first().to_browser()
            and found.fresh["look"] == DatasetSelection().to_browser()
        )
        assert found.fresh["conversation"]["turns"] == []  # type: ignore[index]


def test_what_can_be_shown_is_left_alone(workspace: Workspace) -> None:
    talk = {"columns": [], "system": "", "turns": []}
    found = settled(
        {"draft": GOOD, "look": DatasetSelection("/tmp/x", "x").to_browser(), "conversation": talk}, Translator()
    )
    assert found.line == "" and found.fresh == {}
    assert settled({"draft": None, "look": None, "conversation": None}, Translator()).line == ""


def test_an_open_page_describes_no_component() -> None:
    """The page's own description is whole; the copy that each open page has is spared it, for each is kept."""
    box = gr.Textbox(label="Name", render=False)
    box.rendered_in = None  # as where it stands in a page
    known = Described(SimpleNamespace(renderables=[]))
    known.blocks = {box._id: box}
    assert known.config_for_block(box._id, [], box)["props"]["label"] == "Name"
    of_a_page = copy(known)
    assert of_a_page.config_for_block(box._id, [], box) == {}
    assert of_a_page.blocks == {box._id: box} and of_a_page.blocks is not known.blocks
    assert known.config_for_block(box._id, [], box) != {}


def test_the_form_stands_as_the_first_draft_fills_it(served: tuple[RunningPage, dict[str, Any]]) -> None:
    """What fills the form when the page opens sends only what is another than it was built."""
    shown = forms.FormValues.showing(draft.first().config)
    values = {part["props"].get("elem_id"): part["props"].get("value") for part in served[1]["components"]}
    built = {name: values[messages.element_id(name)] for name in forms.ORDER}
    wanted = {name: value for name, value in shown.values.items() if value not in (None, "")}
    assert {name: built[name] for name in wanted} == wanted
    assert all(built[name] in (None, "") for name in forms.ORDER if name not in wanted)
    assert (values["wb-model"], values["wb-method"]) == (shown.model, shown.method)
