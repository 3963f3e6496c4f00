"""Numbers and errors of forms: exact, or refused at the field in both languages; and no run of other settings."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.errors import BusyError, ConfigError, UsageError
from app.jobs import directory as jobs
from app.jobs import requests
from app.runs import dataset_selection, draft
from app.runs.draft import Draft
from app.runs.submission import submit
from app.ui.components import forms, messages
from app.ui.components.forms import FormValues
from app.ui.components.markup import Html
from app.ui.components.numbers import Misread, real, whole, written
from app.ui.shell.language import Translator, _sayings, texts
from app.ui.tabs.data import tab
from app.ui.tabs.plan import tab as plan
from app.ui.tabs.train import sweep_panel, unplanned
from app.ui.tabs.train import tab as train
from app.ui.tabs.train.run_box import run_panel
from app.workspace import Workspace

EN, ZH = Translator("en"), Translator("zh")
BASE = RunConfig()


def form(config: RunConfig = BASE, **values: Any) -> FormValues:
    """Return a filled form with some controls changed, by the settings' names with __ for the dot."""
    return FormValues.showing(config).changed(**values)


# Numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("0,0002", 2e-4),
        (",5", 0.5),
        ("1,5e-4", 1.5e-4),
        (" 0.0015 ", 0.0015),
        ("２ｅ-4", 2e-4),
        ("\u22121", -1.0),
        ("3.", 3.0),
        (0.0015, 0.0015),
        (3, 3.0),
        ("1e400", math.inf),
        (10**400, math.inf),
    ],
)
def test_numbers_are_read_exactly(text: Any, number: float) -> None:
    assert real(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16", 16),
        ("1e3", 1000),
        ("1,024", 1024),
        ("1,024,000", 1024000),
        (16.0, 16),
        ("16.0", 16),
        ("-1", -1),
        ("１６", 16),
    ],
)
def test_whole_numbers_are_read_exactly(text: Any, number: int) -> None:
    found = whole(text)
    assert found == number and isinstance(found, int)


@pytest.mark.parametrize(
    "value", ["", "  ", None, "nan", "inf", "x", "1 2", "1_0", "0x10", True, [], {}, "1.2.3", "--1", "e5"]
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    for read in (real, whole):
        with pytest.raises(Misread):
            read(value)


@pytest.mark.parametrize("value", [1.5, "1.5", "1,5", "1.024", "1e-3", "16.0000000001", "1e-400"])
def test_no_whole_number_is_made_of_a_broken_one(value: Any) -> None:
    with pytest.raises(Misread) as refused:
        whole(value)
    assert refused.value.key == "wrong.whole"


def test_a_comma_that_could_be_either_is_asked_about() -> None:
    with pytest.raises(Misread) as refused:
        real("1,024")
    assert refused.value.key == "wrong.comma"


@pytest.mark.parametrize("value", [2e-4, 1e-7, 3.0, 0.1 + 0.2, 1e6, 0.0])
def test_what_a_field_shows_is_read_as_it_was(value: float) -> None:
    assert real(written(value)) == value


@pytest.mark.parametrize("name", [name for name in forms.ORDER if forms._limits(name)])
@pytest.mark.parametrize(
    "value", ["", None, "nan", "inf", "-inf", "1e400", "9" * 5000, -(10**400), -3, "x", 1.5, [], "1e999999999"]
)
def test_no_value_of_a_number_gets_past_its_setting(name: str, value: Any) -> None:
    """Whatever is typed is either the very number that the run would have, or said at the field in both languages."""
    filled = form(**{name.replace(".", "__"): value})
    said = {t.language: filled.faults(t).get(name, "") for t in (EN, ZH)}
    if not said["en"]:
        config = filled.config(BASE)
        mine = getattr(getattr(config, name.partition(".")[0]), name.partition(".")[2])
        assert mine == value or (mine is None and not value)
        return
    assert said["zh"] and said["zh"] != said["en"] and len(said["en"]) < 200
    with pytest.raises(ConfigError) as refused:
        filled.config(BASE)
    assert name in [problem.field for problem in refused.value.problems]


def test_a_rank_of_one_and_a_half_is_not_two() -> None:
    control = forms._kind("adapter.r")
    assert control[1].get("precision") is None  # gradio rounds with a precision, before any check
    with pytest.raises(ConfigError, match=r"1\.5 is no whole number"):
        form(adapter__r=1.5).config(BASE)


def test_small_numbers_have_no_arrows_that_step_by_one() -> None:
    import gradio as gr

    for name in forms.ORDER:
        kind, properties = forms._kind(name)
        if float in forms._types(name):
            assert kind is gr.Textbox
        elif kind is gr.Number:
            assert properties["step"] == 1


def test_a_number_that_may_be_left_open_stands_in_a_field_that_can_be_empty() -> None:
    # The framework's number field turns an empty value into 0 when it is drawn: opening the fold changed the plan.
    import gradio as gr

    left_open = [name for name in forms.ORDER if type(None) in forms._types(name) and int in forms._types(name)]
    assert {"training.early_stopping_patience", "memory.dequantized_layers"} <= set(left_open)
    for name in left_open:
        assert forms._kind(name)[0] is gr.Textbox
        assert forms.shown(name, None) == "" and forms.parse_value(name, "") is None
        assert forms.shown(name, 12) == "12" and forms.parse_value(name, "12") == 12


def test_all_that_is_wrong_is_said_at_once(workspace: Workspace) -> None:
    values = form(
        adapter__r="", training__max_steps=10**9, training__learning_rate="0.2.1", memory__checkpointing="every-0"
    )
    values = values.changed(model=" ", method="other", card_gb=7)
    found = plan.answer(workspace, values, BASE, ZH)
    assert isinstance(found, Html)
    for place in ("set-adapter-r", "set-training-max-steps", "set-training-learning-rate", "set-memory-checkpointing"):
        assert f'data-field="{place}"' in found
    assert all(f'data-field="{place}"' in found for place in ("wb-model", "wb-method", "wb-card"))


# The answer


def test_an_invalid_form_leaves_no_answer_of_before(workspace: Workspace) -> None:
    good = plan.shown(workspace, form(), BASE, EN)
    assert good.view is not None and "Peak" in good.view.sentence and good.wrong == ""
    for values in (form(adapter__r=None), form(training__max_steps=10**9), form(model="no-such/../model")):
        for t in (EN, ZH):
            bad = plan.shown(workspace, values, BASE, t)
            assert "wb-error" in bad.wrong and "data-field" in bad.wrong
            assert bad.view is None
            assert "wb-good" not in plan.outdated(t) and t("plan.outdated") in plan.outdated(t)


def test_what_cannot_be_planned_is_said_at_its_field_with_the_reason_in_both_languages(workspace: Workspace) -> None:
    long = form(data__max_length=2000)
    said = plan.shown(workspace, long.changed(model="starter"), BASE, EN).wrong
    assert 'data-field="set-data-max-length" data-said="rows of 2,000 tokens are longer than the 1,024' in said
    assert "Choose at most 1,024 tokens." in said and "seq_len" not in said
    chinese = plan.shown(workspace, long.changed(model="starter"), BASE, ZH).wrong
    assert 'data-said="2,000 个词元的行' in chinese and "最多选择 1,024 个词元。" in chinese
    other = plan.shown(workspace, form(adapter__target_modules=["nonsense"]).changed(model="starter"), BASE, EN).wrong
    assert 'data-said="starter has no module nonsense. Use all-linear."' in other


def test_an_empty_choice_is_said_to_be_empty() -> None:
    for given, said in ((" ", "Nothing stands here. Write auto"), ("x", "x is no choice. Write auto")):
        assert form(memory__checkpointing=given).faults(EN)["memory.checkpointing"].startswith(said)


def test_the_error_of_a_model_stands_at_the_model_and_leaves_with_it(workspace: Workspace) -> None:
    bad = plan.shown(workspace, form(model="/nowhere"), BASE, EN)
    assert 'data-field="wb-model"' in bad.wrong and bad.about == ""
    good = plan.shown(workspace, form(), BASE, EN)
    assert good.wrong == "" and good.about != ""


def test_what_the_planner_refuses_stands_at_its_setting(workspace: Workspace) -> None:
    found = plan.answer(workspace, form(adapter__target_modules=["nosuch"]), BASE, EN)
    assert isinstance(found, Html) and 'data-field="set-adapter-target-modules"' in found


# What is shown and what would be trained


def with_data(config: RunConfig | None = None) -> tuple[Draft, dataset_selection.DatasetSelection]:
    seen = dataset_selection.sample("pirate.json")
    return Draft(config or presets.load("cpu-starter").config).with_data(seen, 300), seen


def test_a_form_as_the_run_has_it_says_nothing() -> None:
    mine, seen = with_data()
    assert not unplanned.found(mine, seen, form(mine.config))
    for preset in presets.all_presets():
        for card in (None, 10, 12):  # a card that the form does not offer is no difference
            mine, seen = with_data(preset.config.changed({"memory.vram_gb": card}))
            assert not unplanned.found(mine, seen, form(mine.config))


def test_what_is_edited_and_not_taken_over_is_said_and_not_trained(workspace: Workspace) -> None:
    mine, seen = with_data()
    values = form(mine.config, adapter__r=4, training__learning_rate="1e-3")
    values = values.changed(method="full", card_gb=12)
    differing = unplanned.found(mine, seen, values)
    assert {name for name, _, _ in differing.settings} >= {
        "adapter.r",
        "training.learning_rate",
        "method",
        "memory.vram_gb",
    }
    said = unplanned.notice(differing, mine, EN)
    assert "Rank: 4 is shown, the run has 8" in said and "0.001" in said
    assert "Rank" not in unplanned.notice(differing, mine, ZH)
    refused = train.refusal(workspace, mine, differing, queue=True)
    assert isinstance(refused, UsageError) and "other settings" in refused.why
    with pytest.raises(UsageError):
        unplanned.refuse(differing)


def test_an_invalid_form_and_other_data_are_said() -> None:
    mine, seen = with_data()
    assert unplanned.found(mine, seen, form(mine.config, adapter__r="")).unusable
    other = dataset_selection.sample("teacher.json")
    assert unplanned.found(mine, other, form(mine.config)).data == other.label
    assert unplanned.found(mine, dataset_selection.DatasetSelection(), form(mine.config)).data == ""
    with_repair = seen.with_repair("drop", "duplicate")
    assert unplanned.found(mine, with_repair, form(mine.config)).data
    unused = Draft(mine.config.changed({"data.file": ""}))
    found = unplanned.found(unused, seen, form(unused.config))
    assert "not taken over yet" in unplanned.notice(found, unused, EN)


def test_a_clone_without_its_data_shows_what_it_would_train(workspace: Workspace) -> None:
    mine, seen = with_data()
    mine = mine.with_data(seen.with_repair("drop", "duplicate").with_repair("length", "split"), 3)
    job = jobs.create(workspace, "train", mine.config.changed({"data.file": "/etc/passwd"}).as_dict(), name="x")
    copied, shown = run_panel.cloned(workspace, job, mine)
    assert not unplanned.found(copied, shown, form(copied.config))


# Errors that leave with their cause


def test_an_error_of_start_leaves_when_the_start_would_be_taken(workspace: Workspace) -> None:
    nothing = unplanned.Unplanned()
    empty = Draft(presets.load("cpu-starter").config)
    refused = train.refusal(workspace, empty, nothing, queue=False)
    assert refused is not None and "No training data is named" in refused.what
    shown = messages.problem(refused, EN, cause="started")
    again = train.standing(workspace, shown, empty, nothing, ZH)
    assert again and "没有指定训练数据" in again and messages.cause_of(again) == "started"
    mine, _ = with_data()
    assert train.standing(workspace, shown, mine, nothing, EN) == ""
    assert train.standing(workspace, messages.note("an engine gave way"), mine, nothing, EN) is None


def test_a_busy_accelerator_is_said_until_it_is_free(workspace: Workspace) -> None:
    mine, _ = with_data()
    owner = jobs.create(workspace, "train", mine.config.as_dict(), name="other")
    assert isinstance(requests.busy(workspace), BusyError)
    with pytest.raises(BusyError) as refused:
        submit.start(workspace, mine.config)
    shown = messages.problem(refused.value, EN, cause="started")
    nothing = unplanned.Unplanned()
    assert train.standing(workspace, shown, mine, nothing, EN) == shown
    assert train.standing(workspace, messages.problem(refused.value, EN, cause="queued"), mine, nothing, EN) == ""
    owner.write_status(jobs.Status(state="stopped"))
    assert requests.busy(workspace) is None
    assert train.standing(workspace, shown, mine, nothing, EN) == ""


def test_a_sweep_says_what_is_wrong_in_both_languages() -> None:
    _, shown = sweep_panel.preview(draft.first(), {"adapter.r": "0"}, ZH)
    assert "无法使用" in shown


def test_a_row_that_is_none_is_refused(workspace: Workspace) -> None:
    for number, said in ((1.5, "1.5 is no whole number"), (None, "Nothing stands here"), (0, "0 is out of range")):
        assert said in tab.row_number_fault(number, EN)
        assert tab.row_number_fault(number, ZH)
    assert tab.row_number_fault(2, EN) == ""


def test_what_errors_say_is_known_in_chinese() -> None:
    keys = [key for _, key in _sayings() if key in texts("en")]
    assert len(keys) > 10
    for key in keys:
        english = texts("en")[key]
        # Not by `format`: some texts show JSON, whose braces are no places.
        filled, chinese = (re.sub(r"\{[a-z_]+\}", "X1", text) for text in (english, texts("zh")[key]))
        assert ZH.heard(filled) == chinese
    assert ZH.heard("Something that nobody has translated") == "Something that nobody has translated"
