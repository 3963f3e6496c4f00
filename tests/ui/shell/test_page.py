"""The built page: the language switch says in the browser what the framework would, and no change is lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import get_type_hints

import gradio as gr
import pytest
from gradio.blocks import postprocess_update_dict

from app.jobs import supervisor
from app.ui.components.handlers import Updates, handler, text
from app.ui.shell import page
from app.ui.shell.language import NAMES
from app.workspace import open_workspace


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    workspace = open_workspace(tmp_path_factory.mktemp("built") / "workspace")

    async def build() -> gr.Blocks:  # outside of a loop the framework opens one and leaves it open
        return page.build(workspace)

    return asyncio.run(build())


@pytest.mark.parametrize("odd", [None, 5, "x", ["a", None], {"a": 1}], ids=repr)
def test_every_handler_answers_whatever_the_browser_sends(
    blocks: gr.Blocks, odd: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name and not by position: each names its controls, and none of them another than it may show."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    request = SimpleNamespace(headers={}, session_hash="s")
    asked = 0
    for fn in blocks.fns.values():
        if fn.fn is None or (any(isinstance(one, gr.State) for one in fn.inputs) and odd is not None):
            continue
        values = [one.value if isinstance(one, gr.State) or odd is None else odd for one in fn.inputs]
        wanted = [hint for hint in get_type_hints(fn.fn).values() if hint in (gr.EventData, gr.Request)]
        special = [gr.EventData(None, {"value": odd}) if hint is gr.EventData else request for hint in wanted]
        found = fn.fn(*special, *values)
        for shown in found if isinstance(found, Iterator) else [found]:
            if len(fn.outputs) > 1:
                assert isinstance(shown, list) and len(shown) == len(fn.outputs), fn.targets
        asked += 1
    assert asked > 40


def test_a_handler_shows_no_control_that_is_not_its_own() -> None:
    mine, other = gr.HTML(), gr.HTML()
    event = handler(lambda: Updates({other: "x"}), shows=[mine])
    with pytest.raises(LookupError):
        event["fn"]()
    two = handler(lambda value, more: Updates({other: value + more}), [text(mine), text(other)], [mine, other])
    assert two["fn"]("a", None) == [gr.skip(), "a"] and two["inputs"] == [mine, other]


def test_no_change_is_lost_while_its_handler_works(blocks: gr.Blocks) -> None:
    """Two runs ticked one after the other on a busy machine were compared as one: the second tick was dropped."""
    heard = [fn for fn in blocks.fns.values() if any(event in ("change", "input", "then") for _, event in fn.targets)]
    assert len(heard) > 20 and {fn.trigger_mode for fn in heard} <= {"always_last", "multiple"}


def test_what_is_typed_into_a_list_of_several_or_taken_out_is_heard(blocks: gr.Blocks) -> None:
    # The framework tells of it by the list's change alone: the plan of before stood as if nothing had changed.
    several = {one._id for one in blocks.blocks.values() if getattr(one, "multiselect", False)}
    heard = {(target, event) for fn in blocks.fns.values() for target, event in fn.targets if target in several}
    assert len(several) > 3 and not [target for target, event in heard if event == "input"]


def test_what_is_wrong_with_a_question_stands_where_it_is_asked(blocks: gr.Blocks) -> None:
    # Above the modes of the playground it stood over every other mode, too, which cannot mend it.
    (error,) = [one for one in blocks.blocks.values() if getattr(one, "elem_id", "") == "wb-play-error"]
    assert error.parent is not None and error.parent.elem_id == "wb-composer"


def test_each_choice_in_a_list_is_asked_for_itself(blocks: gr.Blocks) -> None:
    """Run once more, as for a change, the framework would repeat the first choice in place of the last."""
    chosen = [
        fn
        for fn in blocks.fns.values()
        for target, event in fn.targets
        if event == "select" and isinstance(blocks.blocks[target], gr.HTML)
    ]
    assert len(chosen) > 5 and {fn.trigger_mode for fn in chosen} == {"multiple"}


def test_the_switch_is_the_browsers_and_says_what_the_framework_would(blocks: gr.Blocks) -> None:
    switch = next(one for one in blocks.blocks.values() if getattr(one, "elem_id", "") == "wb-language")
    [turn] = [fn for fn in blocks.fns.values() if (switch._id, "click") in fn.targets]
    # On the server each switch builds every control anew: 0.1 s of work, which made it the slowest click of all.
    assert turn.fn is None and not turn.queue
    written = re.search(r"const texts = (\{.*\}), known", str(turn.js))
    assert written is not None and "</" not in written[1]
    texts = json.loads(written[1])
    assert list(texts) == list(NAMES)
    language, *controls = turn.outputs
    assert isinstance(language, gr.BrowserState) and len(controls) > 200
    for updates in texts.values():
        for control, update in zip(controls, updates, strict=True):
            properties = {name: value for name, value in update.items() if name != "__type__"}
            arguments = {**control.constructor_args, **properties, "render": False}
            parse_value = postprocess_update_dict(type(control)(**arguments), dict(update), postprocess=True)
            parse_value.pop("props", None)  # of an HTML block, for its template; empty here
            assert update == json.loads(json.dumps(parse_value)), control
