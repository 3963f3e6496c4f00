"""The Train tab's parts without a browser: cards and filter, live curves, comparison, sweep, one run's box."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from app.config import presets
from app.errors import UsageError, WorkbenchError
from app.jobs import directory as jobs
from app.jobs import queue, requests, supervisor
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory, Status
from app.jobs.lock import FileLock
from app.jobs.metrics import MetricsWriter
from app.runs import dataset_selection, draft, request_paths
from app.runs.current import Filter
from app.runs.draft import Draft
from app.runs.submission import start
from app.ui.components.axes import Span
from app.ui.components.questions import Question
from app.ui.shell import status_bar
from app.ui.shell.language import Translator
from app.ui.tabs.train import (
    compare_panel,
    history_panel,
    live_panel,
    live_view,
    run_cards,
    sweep_panel,
    tab,
)
from app.ui.tabs.train.compare_panel import Choices
from app.ui.tabs.train.live_view import View
from app.ui.tabs.train.run_box import run_panel
from app.workspace import Workspace

T = Translator("en")
SAMPLE = request_paths.SAMPLES / "pirate.json"


def run(workspace: Workspace, name: str = "run", state: str = "finished", **facts: Any) -> JobDirectory:
    changes = {"data.file": str(SAMPLE), **facts.pop("changes", {})}
    config = presets.load("cpu-starter").config.changed(changes)
    job = jobs.create(workspace, "train", config.as_dict(), name=name, **facts)
    job.write_status(Status(state=state, step=10, of=10))  # type: ignore[arg-type]
    return job


def log(job: JobDirectory, losses: list[float]) -> None:
    writer = MetricsWriter(job.metrics_file)
    for step, loss in enumerate(losses, start=1):
        writer.write({"step": step, "loss": loss, "time": float(step), "rss_bytes": 6.5e8, "tokens_per_s": 10.0})
    writer.close()


@pytest.fixture(autouse=True)
def nothing_starts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The supervisor is not called, and what was queued is ended."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    yield
    for job in jobs.all_jobs(workspace):
        job.write_status(Status(state="stopped"))


# Cards and filter


def test_a_card_says_what_a_run_was_and_what_came_of_it(workspace: Workspace) -> None:
    job = run(workspace, changes={"adapter.r": 4})
    log(job, [3.0, 1.25])
    drawn = run_cards.card(job, T, chosen=True, ticked=True)
    for said in ("finished", "QLoRA r=4", "starter", "10/10", "loss 1.250", "0.6 GB", 'aria-checked="true"', "<svg"):
        assert said in drawn, said
    assert 'aria-checked="false"' in run_cards.card(job, T, chosen=False, ticked=False)


@pytest.mark.parametrize(
    ("words", "states", "found"),
    [
        ("", "all", {"one", "two", "three"}),
        ("r=4", "all", {"one"}),
        ("PIRATE starter", "all", {"one", "two", "three"}),
        ("good note", "all", {"two"}),
        ("ranks", "all", {"three"}),
        ("", "failed", {"two"}),
        ("", "paused", {"three"}),
        ("nowhere", "all", set()),
        (["x"], 5, {"one", "two", "three"}),
    ],
)
def test_runs_are_found_by_words_and_state(workspace: Workspace, words: Any, states: Any, found: set[str]) -> None:
    one = run(workspace, "one", changes={"adapter.r": 4})
    two = run(workspace, "two", state="failed")
    requests.relabel(two, note="a good one, take note")
    three = run(workspace, "three", state="stopped", sweep="ranks")
    only = Filter.of(words, states)
    assert {job.name for job in (one, two, three) if only.takes(job)} == found


def test_a_filter_that_finds_nothing_says_so(workspace: Workspace) -> None:
    assert T("train.no_match") in run_cards.cards([], "", (), T)


def test_a_name_that_is_taken_gets_a_number() -> None:
    mine = Draft(presets.load("cpu-starter").config)
    name = start.run_name(mine)
    assert start.run_name(mine, {name}) == f"{name} 2"
    assert start.run_name(mine, {name, f"{name} 2", "other"}) == f"{name} 3"


def test_runs_of_a_sweep_stand_together(workspace: Workspace) -> None:
    members = [run(workspace, f"ranks: m{n}", sweep="ranks") for n in range(2)]
    drawn = run_cards.cards([*members, run(workspace, "alone")], "", (), T)
    assert ">m0</b>" in drawn
    assert drawn.count("wb-sweep-head") == 1 and "2 of 2 finished" in drawn and 'data-pick="sweep:ranks"' in drawn
    assert set(compare_panel.members_of(workspace, "ranks")) == {job.id for job in members}


def test_the_queue_is_changed_by_its_buttons(workspace: Workspace) -> None:
    first, second = run(workspace, "first", state="queued"), run(workspace, "second", state="queued")
    assert "Waiting: 2" in run_cards.waiting(workspace, T)
    assert history_panel.queue_action(workspace, "up", second.id, T) == ""
    assert [job.name for job in queue.waiting(workspace)] == ["second", "first"]
    assert history_panel.queue_action(workspace, "out", second.id, T) == ""
    assert second.status().state == "stopped"
    assert "does not wait" in history_panel.queue_action(workspace, "up", second.id, T)
    for odd in ("../..", "", "x" * 500):
        assert "wb-error" in history_panel.queue_action(workspace, "out", odd, T)
    assert history_panel.queue_action(workspace, "boom", first.id, T) == "" and first.status().state == "queued"


def test_a_removed_run_is_in_the_trash_and_comes_back(workspace: Workspace) -> None:
    job = run(workspace, "<b>mine</b>")
    assert tab.act(workspace, "remove", job.id, T) == ""
    listed = run_cards.bin_list(workspace, T)
    assert f"restore:{job.id}" in listed and "<b>mine" not in listed
    removed.restore(workspace, job.id)
    assert "The trash is empty" in run_cards.bin_list(workspace, T)


@pytest.mark.parametrize("action", ["stop", "pause", "resume", "remove"])
def test_what_is_meant_for_a_run_that_is_gone_happens_to_no_other(workspace: Workspace, action: str) -> None:
    gone, other = run(workspace, "gone"), run(workspace, "other", state="paused" if action == "resume" else "running")
    removed.move_to_trash(workspace, gone)
    before = other.recorded_status()
    assert f"The run {gone.id} is no longer here" in tab.act(workspace, action, gone.id, T)
    assert other.recorded_status() == before and not other.stop_requested() and other.path.is_dir()


def test_the_box_of_a_run_that_is_gone_names_and_starts_no_other(workspace: Workspace) -> None:
    gone, other = run(workspace, "gone"), run(workspace, "other")
    removed.move_to_trash(workspace, gone)
    done: list[JobDirectory] = []
    assert "is no longer here" in run_panel._said(done.append, workspace, gone.id, T, "run.saved") and not done
    assert "wb-error" not in run_panel._said(done.append, workspace, "", T, "run.saved") and [
        job.id for job in done
    ] == [other.id]


def test_deleting_asks_with_names_and_sizes_and_deletes_what_was_asked_about(workspace: Workspace) -> None:
    first, second, third = (run(workspace, name) for name in ("<b>first</b>", "second", "third"))
    (first.result).mkdir(exist_ok=True)
    (first.result / "weights").write_bytes(bytes(3 * 1024**2))
    for job in (first, second):
        tab.act(workspace, "remove", job.id, T)
    asked = history_panel.delete_question(workspace, [first.id, second.id], T)
    assert asked is not None and "2 runs" in asked.text and "3.0 MB" in asked.text
    assert set(asked.about) == {first.id, second.id}  # type: ignore[call-overload]
    tab.act(workspace, "remove", third.id, T)  # thrown away by another page while the question stands
    assert "third" in history_panel.delete_for_good(workspace, asked.about, T)
    assert [job.id for job in removed.trashed(workspace)] == [third.id]
    asked = history_panel.delete_question(workspace, [third.id], Translator("zh"))
    assert asked is not None and "third" in asked.text and "永久删除" in asked.text and asked.about == [third.id]
    assert history_panel.delete_question(workspace, [first.id], T) is None
    for odd in (None, "", [], [None], ["../.."], {}, third.id):
        history_panel.delete_for_good(workspace, odd, T)
    assert [job.id for job in removed.trashed(workspace)] == [third.id]


def test_one_run_is_asked_about_by_its_name_which_stays_text(workspace: Workspace) -> None:
    job = run(workspace, "<img src=x onerror=alert(1)>")
    asked = history_panel.remove_question(workspace, job, T)
    assert asked.about == job.id
    shown = a_question().asking(asked)
    text = next(value for value in shown.values() if "img" in str(value))
    assert "&lt;img" in text and "<img" not in text
    assert jobs.find(workspace, job.id).status().state == "finished"
    tab.act(workspace, "remove", job.id, T)
    assert f"delete:{job.id}" in run_cards.bin_list(workspace, T)
    again = history_panel.delete_question(workspace, [job.id], T)
    assert again is not None and not [one for one in a_question().asking(again).values() if "<img" in str(one)]


def a_question() -> Question:
    return Question(*"rtynh")  # its controls are keys alone


# Live


def test_a_paused_run_says_so_and_can_be_resumed_behind_others(workspace: Workspace) -> None:
    job = run(workspace, state="stopped")
    job.stop_file.write_text("1 pause\n")
    found = live_panel.live(workspace, job.id, T)
    assert "paused" in found.head and "Paused at step 10" in found.head
    assert found.can_resume and not found.can_pause
    assert tab.act(workspace, "resume", job.id, T) == "" and job.status().state == "queued"
    assert not job.pause_requested()


@pytest.mark.parametrize(("asked", "said"), [("1\n", "stopping"), ("1 pause\n", "pausing")])
def test_what_a_run_was_asked_is_said_before_it_does_it(workspace: Workspace, asked: str, said: str) -> None:
    # While its libraries load, a run looks for nothing for seconds: the click seemed to be lost.
    job = run(workspace)
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    job.write_status(Status(state="running", phase="loading libraries", step=1, of=10).with_heartbeat())
    assert live_panel.live(workspace, job.id, T).can_stop
    job.stop_file.write_text(asked)
    found = live_panel.live(workspace, job.id, T)
    assert said in found.head and said in found.cards and said in status_bar.progress(job, job.status(), T)
    assert found.can_stop is (said == "pausing") and not found.can_pause
    lock.release()


def test_only_what_has_changed_is_sent(workspace: Workspace) -> None:
    job = run(workspace)
    log(job, [3.0, 2.0])
    marks, first = live_panel.changed(live_panel.live(workspace, job.id, T), None)
    again, second = live_panel.changed(live_panel.live(workspace, job.id, T), marks)
    assert again == marks and len(json.dumps(second)) < 1000 < len(json.dumps(first))
    requests.relabel(job, name="another")
    _, third = live_panel.changed(live_panel.live(workspace, job.id, T), marks)
    assert "another" in third["head"] and "another" in third["cards"] and "charts" not in third
    assert set(first) == {field.name for field in fields(live_panel.Live)}


def test_a_poll_of_a_long_run_is_small(workspace: Workspace) -> None:
    for number in range(run_cards.MOST_CARDS):
        log(run(workspace, f"run {number}"), [3.0 - step % 7 / 10 for step in range(100)])
    job = run(workspace, "long")
    names = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "vram_bytes", "rss_bytes")
    rows = ({"step": step, "time": step, **dict.fromkeys(names, 1.0 + step % 13)} for step in range(1, 100_001))
    job.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job.write_status(Status(state="finished", step=100_000, of=100_000))
    _, sent = live_panel.changed(live_panel.live(workspace, job.id, T), None)
    assert len(json.dumps(sent)) < 200_000
    (loss,) = re.findall(r' d="([^"]+)" class="wb-line wb-line-faint"', sent["charts"])
    assert 400 < len(re.findall("[ML]", loss)) <= 1000


@pytest.mark.parametrize(
    ("text", "ends"),
    [("20-60", (20, 60)), ("20-", (20, None)), (" -60 ", (None, 60)), ("", (None, None)), ("x", (None, None))],
)
def test_steps_are_typed(text: str, ends: tuple[float | None, float | None]) -> None:
    view = View.of(text, False)
    assert (view.low, view.high) == ends
    assert View.of(view.steps, False) == view
    assert View.of(5, True) == View(log=True) and View.of("9" * 400 + "-", False) == View()


def test_a_part_is_drawn_with_the_mouse() -> None:
    assert (
        View.of("", False, 90) == View(smoothing=90) and View.of("", False, "much") == View.of("", False, 100) == View()
    )
    assert View(smoothing=90).zoomed("0.25:0.5", Span(0, 200)) == View(50, 100, smoothing=90)
    view = View().zoomed("0.25:0.5", Span(0, 200))
    assert (view.low, view.high) == (50, 100)
    assert view.zoomed("0.9:0.1", Span(50, 100)) == View(55, 95)
    assert view.zoomed("all", Span(50, 100)) == View()
    for odd in ("0.5:0.5", "-1:2", "nan:1", "0.1:0.1001"):
        assert view.zoomed(odd, Span(50, 100)) == view


def test_a_loss_that_is_not_finite_is_a_gap_with_a_mark(workspace: Workspace) -> None:
    job = run(workspace)
    log(job, [3.0, 2.0, float("nan"), float("nan"), 1.0, float("inf"), 0.5])
    drawn = live_view.charts(job, View(), T)
    assert drawn.count("The loss at step 3 is not") == 1 and "The loss at step 6 is not" in drawn
    (path,) = re.findall(r' d="([^"]+)" class="wb-line wb-line-faint"', drawn)
    assert path.count("M") == 3 and "nan" not in path


def test_events_are_marks_with_their_text(workspace: Workspace) -> None:
    job = run(workspace)
    log(job, [3.0, 2.0, 1.0])
    job.add_event("memory step", "micro-batch 4 -> 2 <script>")
    job.add_event("checkpoint", "checkpoint at step 10")
    drawn = live_view.charts(job, View(), T)
    assert "memory step" in drawn and "micro-batch 4 -&gt; 2 &lt;script&gt;" in drawn
    assert drawn.count("wb-mark-foot") == 1


def test_what_was_foreseen_stands_beside_what_is(workspace: Workspace) -> None:
    job = run(workspace)
    log(job, [3.0, 2.0])
    assert "planned" in live_view.charts(job, View(), T)
    assert 4e8 < (live_view.planned_bytes(job.job_file, False) or 0) < 2e9
    broken = run(workspace, changes={"model.name": "gone/away"})
    assert live_view.planned_bytes(broken.job_file, True) is None


def test_an_engine_that_gives_way_is_named(workspace: Workspace) -> None:
    engine = jobs.create(workspace, "engine", {"model": "starter"}, name="playground: starter")
    started = start.start(workspace, draft.first().with_data(dataset_selection.sample("pirate.json"), 300), queue=False)
    assert engine.status().state == "stopped"
    assert "playground: starter was unloaded" in tab.unloaded(started)
    assert tab.unloaded(run(workspace)) == ""


# Side by side


def test_two_ticks_make_a_comparison(workspace: Workspace) -> None:
    one, two = run(workspace, "one", changes={"adapter.r": 4}), run(workspace, "two", changes={"adapter.r": 8})
    log(one, [3.0, 1.0])
    log(two, [3.0, 2.0])
    ticked = compare_panel.toggled(compare_panel.toggled([], one.id), two.id)
    found = compare_panel.content(workspace, ticked, Choices(by_time=True, log_scale=True), T)
    table = found.table
    assert found.shown and found.chart.count("wb-line-strong") == 2 and "00:01" in found.chart
    assert "Rank" in table and "Learning rate" not in table and table.count("wb-best") == 2
    everything = compare_panel.content(workspace, ticked, Choices(only_differences=False), T).table
    assert "Learning rate" in everything
    assert compare_panel.toggled(ticked, one.id) == [two.id]
    file = compare_panel.csv_file(workspace, ticked, "curves", False)
    assert file is not None and file["text"].count("\n") == 5


@pytest.mark.parametrize("ticked", [None, "x", [], [5], ["../.."], ["20260101-000000-train-abcdef", None, {}]])
def test_odd_ticks_compare_nothing(workspace: Workspace, ticked: Any) -> None:
    assert not compare_panel.content(workspace, ticked, Choices(), T).shown
    assert compare_panel.csv_file(workspace, ticked, "table", True) is None


# Sweep


def typed(*texts: str) -> dict[str, str]:
    return dict(zip(sweep_panel.AXES, [*texts, *[""] * 4], strict=False))


def test_a_sweep_is_counted_before_it_is_queued(workspace: Workspace) -> None:
    made = draft.first().with_data(dataset_selection.sample("pirate.json"), 300)
    texts = typed("4, 8", "1e-4, 2e-4", "", "all-linear; q_proj+v_proj")
    count, shown = sweep_panel.preview(made, texts, T)
    assert count == 8 and "8 runs" in shown and "r=4 lr=0.0001 targets=all-linear" in shown
    with pytest.raises(UsageError, match="8 runs now"):
        sweep_panel.launch(workspace, made, texts, 7, "")
    found = sweep_panel.launch(workspace, made, texts, 8, "grid")
    assert len(found) == 8 and {job.status().state for job in found} == {"queued"}


def test_a_wrong_sweep_says_why_and_starts_nothing(workspace: Workspace) -> None:
    made = draft.first()
    assert sweep_panel.preview(made, typed(), T)[0] == 0
    for texts in (typed("0,4"), typed("4", "x"), typed(", ".join(map(str, range(1, 99))))):
        count, shown = sweep_panel.preview(made, texts, T)
        assert count == 0 and "wb-error" in shown
    with pytest.raises(WorkbenchError):
        sweep_panel.launch(
            workspace,
            Draft(made.config).with_data(dataset_selection.DatasetSelection("/etc/passwd", "x"), 1),
            typed("4,8"),
            2,
            "",
        )
    assert jobs.all_jobs(workspace) == []


# One run


def test_a_clone_brings_settings_and_data(workspace: Workspace) -> None:
    job = run(workspace, changes={"adapter.r": 4, "data.drop": ["duplicate"]})
    copied, seen = run_panel.cloned(workspace, job, draft.first())
    assert copied.config.as_dict() == job.config and copied.planned
    assert (seen.file, seen.drop) == (str(SAMPLE), ("duplicate",))
    assert "QLoRA r=4 on starter with the rows of pirate.json" in tab.sentence(workspace, copied, T)


def test_a_clone_opens_no_file_outside(workspace: Workspace) -> None:
    job = run(workspace, changes={"adapter.r": 4, "data.file": "/etc/passwd"})
    copied, seen = run_panel.cloned(workspace, job, draft.first())
    assert copied.config.adapter.r == 4 and copied.config.data.file == "" and seen.file == ""


def test_settings_are_kept_as_a_preset(workspace: Workspace) -> None:
    job = run(workspace, changes={"adapter.r": 5})
    assert run_panel.keep_preset(workspace, job, "five") == "five"
    assert presets.load("five", workspace).config.adapter.r == 5
    with pytest.raises(UsageError):
        run_panel.keep_preset(workspace, job, "five")


def test_the_machine_is_drawn_as_far_as_it_can_be_read(workspace: Workspace) -> None:
    job = run(workspace)
    writer = MetricsWriter(job.metrics_file)
    for step in range(1, 6):
        writer.write({"step": step, "loss": 1.0, "time": 1.0 * step, "gpu_power_w": 180.0, "disk_free_bytes": 5e10})
    writer.close()
    drawn = live_view.charts(job, View(), T)
    assert T("train.gpu_power") in drawn and T("train.disk_free") in drawn
    assert T("train.gpu_temperature") not in drawn
