"""Handlers are plain functions: what each answers, and that nothing a browser can send gets past them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.data.formats import mappings
from app.errors import DataError, ModelError, UsageError, WorkbenchError, WorkspaceError
from app.jobs import directory as jobs
from app.runs import current, dataset_selection, draft, request_paths
from app.runs.on_disk import artifacts, exports
from app.runs.submission import start
from app.ui.components import forms
from app.ui.components.markup import Html
from app.ui.shell import status_bar, tour
from app.ui.shell.language import Translator
from app.ui.tabs.data import mapping_form, tab, view
from app.ui.tabs.data.mapping_form import NamedMapping
from app.ui.tabs.export import tab as export
from app.ui.tabs.plan import tab as plan
from app.ui.tabs.plan.view import PlanView
from app.ui.tabs.train import live_panel
from app.ui.tabs.train import tab as train
from app.workspace import Workspace
from tests.pace import at_most

T = Translator("en")
BASE = RunConfig()


def filled(**changes: Any) -> forms.FormValues:
    return forms.FormValues.showing(BASE.changed(changes) if changes else BASE)


def finished_run(workspace: Workspace, name: str = "pirate on starter") -> jobs.JobDirectory:
    config = presets.load("cpu-starter").config.changed({"data.file": str(request_paths.SAMPLES / "pirate.json")})
    job = jobs.create(workspace, "train", config.as_dict(), name=name)
    (job.result / "adapter").mkdir(parents=True)
    (job.result / "adapter" / "adapter_config.json").write_text("{}")
    job.write_status(jobs.Status(state="finished", step=10, of=10))
    return job


# The form


@pytest.mark.parametrize("preset", presets.all_presets(), ids=lambda preset: preset.name)
def test_every_preset_survives_the_form(preset: presets.Preset) -> None:
    wanted = preset.config.changed({"memory.vram_gb": None})
    assert forms.FormValues.showing(wanted).config(wanted) == wanted


def test_the_form_shows_every_setting_but_those_set_elsewhere() -> None:
    elsewhere = {"model.name", "adapter.method", "quantization.load_in_4bit", "quantization.load_in_8bit"}
    data_tab = ("file", "format", "mapping", "drop", "repair", "over_length")
    elsewhere |= {"memory.vram_gb", *(f"data.{name}" for name in data_tab)}
    assert set(forms.ORDER) | elsewhere == set(forms.fields())
    assert len(set(forms.ORDER)) == len(forms.ORDER)


@pytest.mark.parametrize("method", forms.METHODS)
def test_methods_are_what_they_say(method: str) -> None:
    config = forms.FormValues("starter", method, 0, {}).config(BASE)
    assert forms.method_of(config) == method


def test_values_of_controls_are_understood() -> None:
    assert forms.parse_value("adapter.target_modules", "q_proj, v_proj") == ["q_proj", "v_proj"]
    assert forms.parse_value("adapter.target_modules", "all-linear") == "all-linear"
    assert forms.parse_value("adapter.target_modules", ["all-linear"]) == "all-linear"
    assert forms.parse_value("adapter.target_modules", ["q_proj, k_proj", "k_proj"]) == ["q_proj", "k_proj"]
    assert forms.parse_value("training.sample_prompts", "What, then?\n\n Why? ") == ["What, then?", "Why?"]
    assert forms.parse_value("training.report_to", ["wandb"]) == ["wandb"]
    assert forms.parse_value("adapter.init_lora_weights", "true") is True
    assert forms.parse_value("model.revision", "") is None
    assert forms.parse_value("training.neftune_noise_alpha", None) is None
    assert forms.parse_value("adapter.r", 8.0) == 8


def test_targets_are_picked_from_the_model(workspace: Workspace) -> None:
    offered = [value for _, value in plan.targets(workspace, "gpt2", T)]
    assert offered == ["all-linear", "c_attn, attn.c_proj", "c_attn", "c_proj", "c_fc"]
    assert [value for _, value in plan.targets(workspace, "no such model", T)] == ["all-linear"]


def test_answers_to_fixed_prompts_are_a_table_over_steps(workspace: Workspace) -> None:
    job = finished_run(workspace)
    assert live_panel.live(workspace, job.id, T).samples == ""
    rows = [{"step": step, "prompt": "<b>Who?</b>", "answer": f"answer {step}"} for step in (0, 20, 40)]
    job.samples_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = live_panel.live(workspace, job.id, T).samples
    assert "<b>Who" not in shown and "&lt;b&gt;Who?" in shown
    assert [shown.index(text) for text in ("before training", "answer 0", "answer 20", "answer 40")] == sorted(
        shown.index(text) for text in ("before training", "answer 0", "answer 20", "answer 40")
    )


# Plan


def test_a_plan_is_one_sentence_and_its_parts(workspace: Workspace) -> None:
    found = plan.answer(workspace, filled(**{"model.name": "Qwen/Qwen3-8B", "memory.vram_gb": 12}), BASE, T)
    assert isinstance(found, PlanView)
    assert "Fits." in found.sentence and "GB" in found.sentence and "wb-part-base-weights" in found.bars


def test_the_preset_that_holds_is_told_on_any_card_until_a_setting_differs(workspace: Workspace) -> None:
    for preset in presets.all_presets():
        form = plan.preset_form(workspace, preset.name)
        assert plan.preset_of(workspace, form.changed(card_gb=24)) == preset.name
    assert plan.preset_of(workspace, form.changed(adapter__r=form.values["adapter.r"] + 1)) is None
    assert plan.preset_of(workspace, form.changed(adapter__r="many")) is None  # not a setting at all


def test_a_plan_that_does_not_fit_offers_changes_that_do(workspace: Workspace) -> None:
    large = forms.FormValues.showing(
        presets.load("24gb").config.changed({"model.name": "Qwen/Qwen3-14B", "memory.vram_gb": 12})
    )
    found = plan.answer(workspace, large, BASE, T)
    assert isinstance(found, PlanView) and "Does not fit:" in found.sentence
    start = found.remedies.index('data-pick="') + len('data-pick="')
    picked = found.remedies[start : found.remedies.index('"', start)].replace("&quot;", '"')
    with_repair = plan.changed_form(workspace, large, BASE, picked)
    again = plan.answer(workspace, with_repair, BASE, T)
    assert isinstance(again, PlanView) and "Fits." in again.sentence


@pytest.mark.parametrize(
    "changes",
    ["", "no json", "[]", "1", '{"a": 1}', '{"model.name": "/etc"}', '{"adapter.r": "x"}', '{"adapter.r": 1e99}'],
)
def test_odd_changes_do_not_get_into_the_form(workspace: Workspace, changes: str) -> None:
    with suppress(WorkbenchError):
        assert plan.changed_form(workspace, filled(), BASE, changes) == filled()


def test_wrong_values_are_said_with_their_names(workspace: Workspace) -> None:
    values = filled().changed(adapter__r=0, training__learning_rate=1e308)
    found = plan.answer(workspace, values, BASE, T)
    assert isinstance(found, Html) and "adapter.r" in found and "training.learning_rate" in found


@pytest.mark.parametrize(
    "name",
    ["/etc", "../..", "~/models", "C:\\models", "\\\\host\\share", "file:///etc", "http://169.254.169.254/x", ""],
)
@pytest.mark.fault("A10")
def test_models_outside_the_workspace_are_refused(workspace: Workspace, name: str) -> None:
    found = plan.answer(workspace, filled().changed(model=name), BASE, T)
    assert isinstance(found, Html) and "wb-error" in found
    with pytest.raises(WorkbenchError):
        plan.use(workspace, filled().changed(model=name), draft.first())


def test_a_model_inside_the_workspace_is_allowed(workspace: Workspace) -> None:
    inside = str(workspace.outputs / "merged")
    assert request_paths.model_name(workspace, inside) == inside
    with pytest.raises(ModelError):
        request_paths.model_name(workspace, str(workspace.outputs / ".." / ".." / "elsewhere"))
    assert request_paths.model_name(workspace, "Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"


def test_the_plan_answers_fast(workspace: Workspace) -> None:
    form = filled(**{"model.name": "Qwen/Qwen3-8B", "memory.vram_gb": 12})
    plan.answer(workspace, form, BASE, T)
    with at_most(5 * 0.25):  # 0.06 to 0.1 s each on an idle core
        for _ in range(5):
            plan.answer(workspace, form, BASE, T)


# Draft and data


def test_the_draft_goes_to_the_browser_and_back() -> None:
    seen = dataset_selection.DatasetSelection(
        "/x/rows.jsonl", "rows.jsonl", "alpaca", {"user": "q", "assistant": "a"}, ("duplicate",)
    )
    made = draft.first().with_config(BASE.changed({"adapter.r": 64})).with_data(seen, 12)
    stored = json.loads(json.dumps(made.to_browser()))
    assert draft.from_browser(stored) == made
    replanned = made.with_config(BASE)
    assert replanned.config.data.file == "/x/rows.jsonl" and replanned.config.data.drop == ["duplicate"]
    assert dataset_selection.from_browser(json.loads(json.dumps(seen.to_browser()))) == seen


@pytest.mark.parametrize(
    "stored", [None, 1, "x", [], {}, {"config": 1}, {"config": {"adapter": {"r": -1}}}, {"config": {"x": 1}}]
)
def test_a_strangers_draft_is_forgotten(stored: Any) -> None:
    assert draft.from_browser(stored) == draft.first()
    assert isinstance(dataset_selection.from_browser(stored), dataset_selection.DatasetSelection)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.jsonl", "http://127.0.0.1/", "\\\\host\\share\\x"])
@pytest.mark.fault("A10")
def test_files_outside_the_workspace_are_refused(workspace: Workspace, path: str) -> None:
    with pytest.raises(WorkspaceError):
        request_paths.data_file(workspace, path)
    with pytest.raises(WorkbenchError):
        start.start(workspace, draft.first().with_data(dataset_selection.DatasetSelection(path, "x"), 1), queue=False)
    assert jobs.all_jobs(workspace) == []


def test_no_file_is_no_folder_of_this_machine(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="No data is chosen yet"):
        request_paths.data_file(workspace, "")


def test_an_upload_is_kept_under_its_content(workspace: Workspace, tmp_path: Path) -> None:
    incoming = tmp_path / "-rf \u202e..rows.jsonl"
    incoming.write_text('{"instruction": "a", "output": "b"}\n')
    kept = dataset_selection.keep_upload(workspace, str(incoming))
    assert Path(kept.file).is_relative_to(workspace.uploads) and not incoming.exists()
    assert Path(kept.file).name == "rows.jsonl" or not Path(kept.file).name.startswith(("-", "."))
    assert request_paths.data_file(workspace, kept.file)
    with pytest.raises(DataError):
        dataset_selection.keep_upload(workspace, str(tmp_path / "nothing"))


def test_pasted_rows_are_read(workspace: Workspace) -> None:
    kept = dataset_selection.keep_pasted(
        workspace, '{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}'
    )
    rows = dataset_selection.rows(kept, 0, 10)
    assert [row.conversation.turns[1].content for row in rows if row.conversation] == ["b", "d"]
    for text in ("", " \n ", "x" * (dataset_selection.MOST_PASTED_CHARS + 1)):
        with pytest.raises(DataError):
            dataset_selection.keep_pasted(workspace, text)


def chosen(**roles: str) -> dict[str, object]:
    return {role: roles.get(role, "") for role in mapping_form.ROLES}


def test_a_mapping_is_shown_before_it_is_used(workspace: Workspace) -> None:
    kept = dataset_selection.keep_pasted(workspace, '{"ask": "<b>a", "reply": "b", "x": 1}\n' * 5)
    assert dataset_selection.columns(kept) == ["ask", "reply", "x"]
    half, whole = (
        mapping_form.mapping_of(chosen(user="ask")),
        mapping_form.mapping_of(chosen(user="ask", assistant="x")),
    )
    assert "Choose the column of the answer" in mapping_form.preview(workspace, kept, half, T)
    shown = mapping_form.preview(workspace, kept, whole, T)
    assert "&lt;b&gt;a" in shown and shown.count("<tr>") == 4
    assert mapping_form.read_by(kept, whole).mapping == {"user": "ask", "assistant": "x"}
    for wrong in ({}, half, {"assistant": "nothing"}):
        if wrong.get("assistant"):
            assert "no column nothing" in mapping_form.preview(workspace, kept, wrong, T)
        else:
            with pytest.raises(UsageError):
                mapping_form.read_by(kept, wrong)
    outside = dataset_selection.DatasetSelection("/etc/passwd", "x")
    assert "no file of this workspace" in mapping_form.preview(workspace, outside, whole, T)
    assert mapping_form.filled(workspace, outside).columns == []


def test_another_mapping_of_the_name_is_asked_about_and_kept(workspace: Workspace) -> None:
    first, second = {"text": "body"}, {"text": "title"}
    assert mapping_form.saved_or_asked(workspace, NamedMapping("mine", first), T).name == "mine"
    other = NamedMapping("mine", second)
    found = mapping_form.saved_or_asked(workspace, other, T)
    assert not found.wrong and found.asked is not None and "mine" in found.asked.text and found.asked.about == other
    assert mappings.load(workspace, "mine") == first
    found = mapping_form.saved_or_asked(workspace, NamedMapping("", second), T)
    assert "no name" in found.wrong and found.asked is None
    assert mapping_form.saved_or_asked(workspace, other, T, replace=True).name == "mine"
    assert mappings.load(workspace, "mine") == second


def test_rows_show_thinking_and_calls_of_tools(workspace: Workspace) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    turns = [
        {"role": "user", "content": "Is it dry?"},
        {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "dry"},
        {"role": "assistant", "content": "It is."},
    ]
    seen = dataset_selection.keep_pasted(workspace, json.dumps({"messages": turns}))
    table = view.rows_table(dataset_selection.rows(seen, 0, 5), T)
    assert "I look." in table
    assert "weather({&quot;city&quot;: &quot;Köln&quot;})" in table


def test_the_way_a_long_row_is_treated_reaches_the_run() -> None:
    seen = tab.with_repair(dataset_selection.DatasetSelection("f", "f"), '{"action": "length", "kind": "split"}')
    assert seen.over_length == "split" and dataset_selection.from_browser(seen.to_browser()) == seen
    chosen_data = draft.Draft(BASE).with_data(seen, 3)
    assert chosen_data.config.data.over_length == "split"
    assert chosen_data.with_config(BASE).config.data.over_length == "split"
    mixed = tab.with_repair(
        tab.with_repair(seen, '{"action": "repair", "kind": "email"}'), '{"action": "undo", "kind": ""}'
    )
    assert mixed == dataset_selection.DatasetSelection("f", "f")
    assert dataset_selection.from_browser({**seen.to_browser(), "over_length": "burn"}).over_length == ""


def test_mendings() -> None:
    seen = dataset_selection.DatasetSelection("f", "f")
    once = tab.with_repair(seen, '{"action": "drop", "kind": "duplicate"}')
    assert once.drop == ("duplicate",)
    assert tab.with_repair(once, '{"action": "drop", "kind": "duplicate"}') == seen
    for choice in (
        "",
        "[]",
        '{"action": "format", "kind": "x"}',
        '{"action": 1}',
        '{"action": "drop", "kind": "json"}',
    ):
        assert tab.with_repair(seen, choice) == seen


def test_samples_by_name_only() -> None:
    assert Path(dataset_selection.sample("pirate.json").file).is_file()
    with pytest.raises(DataError):
        dataset_selection.sample("../../README.md")


# Train


def test_nothing_runs_yet(workspace: Workspace) -> None:
    found = live_panel.live(workspace, "", T)
    assert "No runs yet" in found.head and not found.can_stop and not found.can_remove
    assert "Choose the data first" in train.sentence(workspace, draft.Draft(BASE), T)
    with pytest.raises(UsageError):
        start.start(workspace, draft.Draft(BASE), queue=False)


def test_the_sentence_says_what_would_run(workspace: Workspace) -> None:
    said = train.sentence(workspace, tour.draft(), T)
    assert "QLoRA r=8 on starter with 300 rows of pirate.json" in said


def test_a_run_is_shown_as_its_directory_says(workspace: Workspace) -> None:
    job = finished_run(workspace)
    found = live_panel.live(workspace, job.id, T)
    assert "finished" in found.head and found.can_try and found.can_remove and not found.can_resume
    assert hash(found) == hash(live_panel.live(workspace, job.id, T))
    assert train.act(workspace, "remove", job.id, T) == ""
    assert not job.path.exists()


@pytest.mark.parametrize("selected", [None, 5, "../..", "x" * 500, ["a"], {"a": 1}])
def test_an_odd_selection_shows_the_newest(workspace: Workspace, selected: Any) -> None:
    job = finished_run(workspace)
    shown = current.shown_run(workspace, selected)
    assert shown is not None and shown.id == job.id


# Playground, take away, tour, strip


@pytest.mark.parametrize("values", [None, [], "x", ["../.."], ["nothing-train-000000"], [None], [{"a": 1}]])
def test_adapters_that_are_not_there_are_refused(workspace: Workspace, values: Any) -> None:
    with pytest.raises(WorkbenchError):
        artifacts.together(workspace, values)


def test_adapters_of_one_base_stand_together(workspace: Workspace) -> None:
    one, two = finished_run(workspace, "one"), finished_run(workspace, "one")
    found = artifacts.together(workspace, [one.id, two.id])
    assert len({artifact.column for artifact in found}) == 2
    assert artifacts.held_out_prompts(found[0])
    rows = (request_paths.SAMPLES / "pirate.json").read_text(encoding="utf-8")
    assert not any(json.dumps(prompt) in rows for prompt in artifacts.held_out_prompts(found[0]))


def test_a_result_comes_before_its_checkpoints_and_damage_is_not_offered(workspace: Workspace) -> None:
    job = finished_run(workspace)
    for step in (5, 10):
        (job.checkpoints / f"step-{step}").mkdir(parents=True)
    (job.checkpoints / "step-10" / "complete.json").write_text('{"step": 10, "files": {}}')
    values = [artifact.value for artifact in artifacts.all_artifacts(workspace)]
    assert values[0] == job.id and f"{job.id}:5" not in values


def test_export_shows_the_adapter_and_its_size(workspace: Workspace) -> None:
    assert "Nothing to export yet" in export.view(workspace, None, T).sentence
    job = finished_run(workspace)
    found = export.view(workspace, job.id, T)
    assert list(found.cards) == ["adapter", "model", "gguf", "ollama", "lmstudio", "nf4", "vllm", "hub"]
    for card in found.cards.values():
        assert card.can_make and not card.can_stop and "outputs" in card.html and "about" in card.html
    half = export.view(workspace, job.id, T, "q8_0")
    assert half.cards["gguf"] != found.cards["gguf"] and half.cards["vllm"] == found.cards["vllm"]


def test_export_stands_when_the_base_has_moved(workspace: Workspace, tmp_path: Path) -> None:
    config = presets.load("cpu-starter").config.changed({"model.name": str(tmp_path / "gone")})
    job = jobs.create(workspace, "train", config.as_dict(), name="moved")
    (job.result / "adapter").mkdir(parents=True)
    (job.result / "adapter" / "adapter_config.json").write_text("{}")
    job.write_status(jobs.Status(state="finished", step=10, of=10))
    cards = export.view(workspace, job.id, T).cards
    assert all(card.can_make for card in cards.values()) and "that of the base" in cards["model"].html


def test_an_export_shows_its_progress_and_then_the_line_that_runs_it(workspace: Workspace) -> None:
    job = finished_run(workspace)
    asked = {"adapter": str(job.result / "adapter"), "out": "/x", "to": "ollama"}
    made = jobs.create(workspace, "export", asked)
    found = export.view(workspace, job.id, T)
    assert found.cards["ollama"].can_stop and not found.cards["gguf"].can_stop
    assert "/x" in found.cards["ollama"].html and "A GGUF file and a Modelfile" in found.cards["ollama"].html
    made.stop_file.write_text("")
    asked_to_stop = export.view(workspace, job.id, T).cards["ollama"]
    assert "stopping" in asked_to_stop.html and not asked_to_stop.can_stop
    figures = {"out": "/x", "to": "ollama", "bytes": 5, "run": "ollama run <x>", "verdict": "pass", "notes": ["mind"]}
    made.write_status(jobs.Status(state="finished", result=figures))
    card = export.view(workspace, job.id, T).cards["ollama"]
    assert card.can_make and "ollama run &lt;x&gt;" in card.html and "wb-good" in card.html and "mind" in card.html
    assert card.html.index("wb-receipt") < card.html.index("ollama run")
    made.write_status(jobs.Status(state="failed", reason="The disk is full."))
    card = export.view(workspace, job.id, T).cards["ollama"]
    assert card.can_make and "The disk is full." in card.html


def test_a_merged_model_can_be_taken_away_too(workspace: Workspace) -> None:
    job, out = finished_run(workspace), workspace.output_dir("mine-merged")
    out.mkdir()
    (out / "config.json").write_text("{}")
    merge = jobs.create(workspace, "merge", {"adapter": str(job.result / "adapter"), "out": str(out)})
    merge.write_status(jobs.Status(state="finished", result={"model": str(out), "verdict": "pass"}))
    value = f"model:{merge.id}"
    assert ("mine-merged", value) in exports.choices(workspace)
    cards = export.view(workspace, value, T).cards
    assert [target for target, card in cards.items() if card.can_make] == ["gguf", "ollama", "lmstudio", "nf4", "hub"]
    assert exports.newest_jobs(workspace, exports.find(workspace, job.id))["model"].id == merge.id


def test_a_merge_shows_its_receipt(workspace: Workspace) -> None:
    job = finished_run(workspace)
    merge = jobs.create(workspace, "merge", {"adapter": str(job.result / "adapter"), "out": "/x"})
    assert export.view(workspace, job.id, T).cards["model"].can_stop
    receipt = job.result / "receipt.json"
    receipt.write_text('{"reasons": ["mean KL <is> high"]}')
    figures = {"model": "/x", "receipt": str(receipt), "verdict": "warn", "greedy_agreement": 0.5, "mean_kl": None}
    merge.write_status(jobs.Status(state="finished", result=figures))
    found = export.view(workspace, job.id, T).cards["model"]
    assert "warn" in found.html and "50.0 %" in found.html and "wb-good" not in found.html
    assert "mean KL &lt;is&gt; high" in found.html
    assert not found.can_make


def test_the_tour_goes_on_from_its_file(workspace: Workspace) -> None:
    assert tour.read(workspace) is None
    standing = tour.advance(workspace, tour.begin(workspace))
    assert tour.read(workspace) == standing and standing.tab == "data"
    job = finished_run(workspace)
    at_train = tour.Tour(step=2, run=job.id)
    assert tour.state(workspace, at_train) == "ready"
    assert tour.advance(workspace, at_train).tab == "playground"
    assert tour.state(workspace, tour.Tour(step=2, run="20260101-000000-train-abcdef")) == "failed"
    with pytest.raises(UsageError):
        tour.advance(workspace, tour.Tour(step=2, run="20260101-000000-train-abcdef"))
    tour.end(workspace)
    assert tour.read(workspace) is None


@pytest.mark.parametrize("text", ["", "[]", '{"step": 9}', '{"step": "x"}', '{"other": 1}'])
def test_a_damaged_tour_is_none(workspace: Workspace, text: str) -> None:
    (workspace.root / "tour.json").write_text(text)
    assert tour.read(workspace) is None


def test_the_strip_says_what_the_machine_has(workspace: Workspace) -> None:
    text = status_bar.content(workspace, T)
    assert "LoRA Workbench" in text and "Nothing runs" in text and "data-job" not in text
    waiting = jobs.create(workspace, "selftest", {"steps": 1}, name="<b>mine</b>")
    assert current.current_job(workspace) is None
    assert waiting.status().state == "queued"


def test_a_job_is_followed_while_it_lives_and_until_its_end_was_seen(workspace: Workspace) -> None:
    assert not current.is_busy(workspace)
    job = jobs.create(workspace, "selftest", {"steps": 1})
    for state, ended, busy in (("running", None, True), ("finished", time.time(), True), ("finished", 1.0, False)):
        job.write_status(jobs.Status(state=state, ended=ended))
        assert current.is_busy(workspace) is busy


@pytest.fixture(autouse=True)
def leave_nothing_queued(workspace: Workspace) -> Iterator[None]:
    """Jobs made by hand here never start; mark them ended, so that nothing waits for them."""
    yield
    for job in jobs.all_jobs(workspace):
        if not job.status().final:
            job.write_status(jobs.Status(state="stopped"))


def test_the_note_of_a_model_has_its_size_as_markup(workspace: Workspace) -> None:
    note = plan.model_note(workspace, "Qwen/Qwen3.5-27B", T)
    assert '<span class="wb-number"' in note and "&lt;" not in note and "51.7" in note
