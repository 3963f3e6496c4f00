"""The playground's modes as plain functions: what a form may ask, votes, suites, blends, inspections."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from app import presets
from app.engine.suite_requests import RESULT_FILE, Suite, SuiteResult
from app.errors import UsageError, WorkbenchError
from app.jobs import directory as jobs
from app.ui import allowed, trials
from app.ui.language import Speech
from app.ui.playground import blend, chooser, inspect, session, suite, vote
from app.ui.playground.conversation import Answer, Column, Turn
from app.ui.playground.session import Choice, Server, Settings
from app.ui.playground.vote import Ballot
from app.votes import ballots
from app.workspace import Workspace

SAY = Speech("en")


@pytest.fixture(autouse=True)
def leave_nothing_queued(workspace: Workspace) -> Iterator[None]:
    """Jobs made by hand here never start; mark them ended, so that nothing waits for them."""
    yield
    for job in jobs.all_jobs(workspace):
        if not job.status().final:
            job.write_status(jobs.Status(state="stopped"))


def a_run(workspace: Workspace, steps: tuple[int, ...] = ()) -> jobs.JobDirectory:
    config = presets.load("cpu-starter").config.changed({"data.file": str(allowed.SAMPLES / "pirate.json")})
    job = jobs.create(workspace, "train", config.as_dict())
    (job.result / "adapter").mkdir(parents=True)
    (job.result / "adapter" / "adapter_config.json").write_text("{}")
    for step in steps:
        (job.checkpoints / f"step-{step}").mkdir(parents=True)
        (job.checkpoints / f"step-{step}" / "complete.json").write_text("{}")
    job.write_status(jobs.Status(state="finished", step=10, of=10))
    return job


# What a form may ask


@pytest.mark.parametrize(
    "fields",
    [
        ("x" * 200000, 10, 0, None),
        ("", 0, 0, None),
        ("", 10, -1, None),
        ("", 10, 0, -1),
        ("", "many", 0, None),
        ("", 10, None, 2**40),
        ("", math.nan, 0, None),
    ],
)
def test_settings_out_of_range_are_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        Settings.checked(*fields)


def test_asking_again_moves_the_seed_and_thinking_can_be_switched_off() -> None:
    settings = Settings.checked("be brief", 5.0, 0.5, 7.0, False)
    assert settings.request(2) == {
        "max_tokens": 5,
        "temperature": 0.5,
        "seed": 9,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert session.first_messages("hi", settings.system)[0] == {"role": "system", "content": "be brief"}
    for prompt in ("", "  ", "x" * 200_000, None):
        with pytest.raises(UsageError):
            session.checked_prompt(prompt)


@pytest.mark.parametrize(
    "address",
    [
        "x",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://u:p@127.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/v1",
        "http://127.0.0.1:99999/v1",
        "file:///etc/passwd",
        "http://127.0.0.1/v1?x=1",
        "http://no-such-host.invalid/v1",
    ],
)
def test_addresses_that_are_no_server_are_refused(address: str) -> None:
    with pytest.raises(UsageError):
        Server.checked(address, "t", "model")


def test_another_server_has_its_models_as_columns() -> None:
    assert Server.checked("", "t", "m") is None
    found = Server.checked(" http://127.0.0.1:8000/v1/ ", "secret", "a, b,a")
    assert found is not None and found.url == "http://127.0.0.1:8000/v1" and found.models == ("a", "b")
    assert "secret" not in repr(found)
    assert [column.name for column in Choice(base=False, server=found).columns(SAY)] == ["a", "b"]
    for models in ("", " , ", ",".join("abcdefghi")):
        with pytest.raises(UsageError):
            Server.checked("http://127.0.0.1:8000/v1", "", models)


def test_columns_are_one_to_eight(workspace: Workspace) -> None:
    values = [a_run(workspace).id for _ in range(8)]
    assert len(Choice.checked(workspace, values, False).columns(SAY)) == 8
    with pytest.raises(UsageError, match="9 columns"):
        Choice.checked(workspace, values, True)
    header = Choice.checked(workspace, values[:1], True).columns(SAY)
    assert header[0].name == "base" and header[1].details[-1] == values[0]


def test_the_slider_adds_the_nearest_checkpoint(workspace: Workspace) -> None:
    job = a_run(workspace, (10, 20, 30, 40, 50, 60, 70))
    assert trials.checkpoint_steps(workspace, job.id) == [10, 20, 30, 40, 50, 60, 70]
    assert f"{job.id}:10" not in [value for _, value in trials.choices(workspace)]
    added = chooser.with_checkpoint(workspace, [job.id], 14)
    assert added == [job.id, f"{job.id}:10"]
    assert f"{job.id}:10" in [value for _, value in trials.choices(workspace, added)]
    assert chooser.with_checkpoint(workspace, added, 9) == added
    for odd in (None, "x", ["../.."], [None]):
        assert chooser.with_checkpoint(workspace, odd, 5) in ([], ["../.."], ["None"])


# Votes


def a_ballot(done: bool = True) -> Ballot:
    columns = [Column("one", "One", key="h1"), Column("base", "Base", key="base:starter")]
    answers = {column.name: Answer(f"of {column.name}", done=done) for column in columns}
    return Ballot(columns, Turn("who?", answers))


def test_a_vote_names_nobody_before_and_everybody_after(workspace: Workspace) -> None:
    ballot = a_ballot()
    before = vote.shown(ballot, SAY)
    assert "One" not in before and "h1" not in before and 'data-pick="A"' in before
    assert vote.decide(workspace, ballot, "B") and ballot.winner == "base:starter"
    assert "A: One" in vote.shown(ballot, SAY) and "data-pick" not in vote.shown(ballot, SAY)
    assert not vote.decide(workspace, ballot, "A")
    assert [one.winner for one in ballots.read(workspace.votes_file)] == ["base:starter"]
    assert "Base" in vote.scores(workspace, SAY) and "1 vote kept" in vote.scores(workspace, SAY)


def test_only_a_complete_ballot_takes_a_known_vote(workspace: Workspace) -> None:
    assert not vote.decide(workspace, a_ballot(done=False), "A")
    for choice in ("C", "", "base", "h1", "__class__"):
        assert not vote.decide(workspace, a_ballot(), choice)
    assert vote.decide(workspace, a_ballot(), "tie") and vote.decide(workspace, a_ballot(), "none")
    assert "data-pick" not in vote.shown(a_ballot(done=False), SAY)
    assert "No votes yet" in vote.scores(Workspace(workspace.root / "elsewhere"), SAY)


# Suites


def result(column: str, passed: list[bool | None], text: str = "answer") -> SuiteResult:
    rows = tuple(
        {"prompt": f"q{number}", "expect": "x", "answers": {column: {"text": text, "passed": one}}}
        for number, one in enumerate(passed)
    )
    return SuiteResult("s", ({"name": column, "title": column.upper(), "hash": ""},), rows)


def test_what_broke_and_what_mended_is_told() -> None:
    earlier, now = result("a", [True, True, False, None]), result("b", [True, False, True, None])
    found = suite.change(now, "b", earlier)
    assert (found.broke, found.mended) == ({"q1"}, {"q2"})
    shown = suite.table(now, earlier, SAY)
    assert "1 broke" in shown and "1 mended" in shown and "2 of 3 as expected" in shown and shown.count("wb-broke") == 1
    assert not suite.change(now, "b", None).broke
    assert "&lt;img" in suite.table(result("a", [None], "<img src=x>"), None, SAY)


def test_a_suite_runs_over_the_chosen_columns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.supervisor.ensure_running", lambda workspace: None)
    run = a_run(workspace)
    choice = Choice.checked(workspace, [run.id], True)
    made = suite_of("first")
    job = suite.start(workspace, made, choice, Settings())
    assert job.config["adapters"] == {choice.trials[0].column: str(run.result / "adapter")}
    assert suite.runs(workspace)[0].id == job.id and suite.found_run(workspace, "../..") is None
    assert "No run yet" in suite.looked(workspace, None, None, SAY)[1]
    job.result.mkdir()
    (job.result / RESULT_FILE).write_text(json.dumps({"suite": "s", "columns": [], "rows": []}))
    assert "wb-suite" in suite.looked(workspace, job.id, None, SAY)[1]
    assert suite.sample_text(workspace, [run.id]).count("\n") > 5 and suite.sample_text(workspace, ["x"]) == ""


def suite_of(name: str) -> Suite:
    from app.engine.suite_requests import parse_suite

    return parse_suite(name, "one => two")


# Blends and inspections


@pytest.mark.parametrize("values", [[], [None], ["1"], [9.0], [math.nan]])
def test_weights_out_of_range_are_refused(workspace: Workspace, values: list[Any]) -> None:
    chosen = trials.together(workspace, [a_run(workspace).id])
    with pytest.raises(UsageError):
        blend.weights_of(chosen, values)
    assert blend.weights_of(chosen, [0.5, 3.0]) == [0.5]


def test_a_blend_stands_among_the_adapters_of_its_run(workspace: Workspace) -> None:
    run, out = a_run(workspace), workspace.output_dir("mix")
    out.mkdir()
    (out / "adapter_config.json").write_text("{}")
    job = jobs.create(workspace, "blend", {"run": run.id}, name="blend: mix")
    assert not [trial for trial in trials.all_trials(workspace) if trial.job.id == job.id]
    figures = {"adapter": str(out), "rank": 12, "max_abs_error": 1e-8, "verdict": "pass"}
    job.write_status(jobs.Status(state="finished", result=figures))
    found = trials.find(workspace, job.id)
    assert (found.rank, found.folder, blend.origin(found)) == (12, out, run.id)
    assert "exact to rounding" in blend.outcome(workspace, job.id, SAY) and blend.outcome(workspace, "x", SAY) == ""
    assert blend.free_folder(workspace, "mix").name == "mix-2"
    with pytest.raises(WorkbenchError):
        blend.save(workspace, [found], [1.0], "", "linear", None, None)


def test_a_merged_model_is_a_column_beside_its_base_and_its_adapter(workspace: Workspace) -> None:
    run, out = a_run(workspace), workspace.output_dir("merged")
    out.mkdir()
    (out / "config.json").write_text("{}")
    job = jobs.create(workspace, "merge", {"adapter": str(run.result / "adapter"), "out": str(out)}, name="merge: all")
    assert job.id not in dict(map(reversed, trials.choices(workspace)))  # type: ignore[arg-type]
    job.write_status(jobs.Status(state="finished"))
    assert (job.id, "merge: all") in [(value, name) for name, value in trials.choices(workspace)]
    choice = Choice.checked(workspace, [run.id, job.id], True)
    base, adapter, merged = choice.columns(SAY)
    assert base.name == "base" and "rank 8" in adapter.details[0]
    assert merged.details[:2] == ["merged into starter", "loaded in NF4"]
    with pytest.raises(UsageError, match="whole model"):
        trials.refuse_whole(choice.trials)
    out.rename(workspace.output_dir("elsewhere"))
    with pytest.raises(UsageError, match="not there"):
        trials.find(workspace, job.id)


def test_an_inspection_is_a_table_of_layers(workspace: Workspace) -> None:
    run = a_run(workspace)
    job = jobs.create(workspace, "inspect", {"adapter": str((run.result / "adapter").absolute())})
    found = inspect.newest(workspace, run.id)
    assert found is not None and found.id == job.id and inspect.newest(workspace, "nothing") is None
    layers = [
        {"module": f"model.layers.{n}.self_attn.{name}", "rank": 8, "values": [2.0, 1.0], "kept_rank": 2, "norm": 1.0}
        | {"effective_rank": 1.9, "relative": 0.01 * (n + 1), "nf4_error": 0.09, "int4_error": None}
        for n in range(3)
        for name in ("q_proj", "v_proj")
    ]
    job.result.mkdir()
    (job.result / "inspection.json").write_text(json.dumps({"layers": layers, "notes": ["<b>"]}))
    figures = {"layers": 6, "rank": 8, "kept_rank": 2, "largest_relative": 0.03}
    job.write_status(jobs.Status(state="finished", result=figures))
    line, tables = inspect.shown(found, "relative", layers[2]["module"], SAY)
    assert "6 layers" in line and "3.0 %" in line
    assert tables.count("data-pick") == 6 and "2.00 %" in tables and "layers.1.self_attn.q_proj" in tables
    assert "&lt;b&gt;" in tables and "not known" in inspect.shown(found, "int4_error", "", SAY)[1]
