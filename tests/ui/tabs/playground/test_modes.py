"""The playground's modes as plain functions: what a form may ask, votes, suites, blends, inspections."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from app.config import presets
from app.errors import UsageError, WorkbenchError
from app.evaluation import suites, votes
from app.evaluation.ballot import Ballot, decide
from app.evaluation.conversation import Answer, Column, Turn
from app.evaluation.held_out import results
from app.evaluation.suites import RESULT_FILE, Suite, SuiteAnswer, SuiteColumn, SuiteResult, SuiteRow
from app.jobs import directory as jobs
from app.runs import engine_session, request_paths
from app.runs.engine_session import Choice, Server, Settings
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.number_fields import FieldFault
from app.ui.shell.language import Translator
from app.ui.tabs.playground import blend, chooser, evaluate, inspect, session, suite, vote
from app.ui.tabs.playground.blend import Recipe
from app.workspace import Workspace

T = Translator("en")


@pytest.fixture(autouse=True)
def leave_nothing_queued(workspace: Workspace) -> Iterator[None]:
    """Jobs made by hand here never start; mark them ended, so that nothing waits for them."""
    yield
    for job in jobs.all_jobs(workspace):
        if not job.status().final:
            job.write_status(jobs.Status(state="stopped"))


def a_run(workspace: Workspace, steps: tuple[int, ...] = ()) -> jobs.JobDirectory:
    config = presets.load("cpu-starter").config.changed({"data.file": str(request_paths.SAMPLES / "pirate.json")})
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
        ("", 96.5, 0, None),
        ("", None, 0, None),
        ("", 96, "1,024", None),
        ("", 96, "warm", None),
        ("", 96, 0, 1.5),
        ("", 96, 0, "2 or 3"),
    ],
)
def test_settings_out_of_range_are_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        session.settings(*fields)


def test_numbers_are_read_as_people_write_them_and_never_rounded() -> None:
    settings = session.settings("", "1,024", "0,7", "")
    assert (settings.max_tokens, settings.temperature, settings.seed) == (1024, 0.7, None)
    faults = session.number_faults(96.5, "3", 1.5)
    assert [fault.field.element_id for fault in faults] == ["wb-most-tokens", "wb-temperature", "wb-seed"]
    box = messages.number_faults(faults, Translator("zh"))
    assert 'data-field="wb-most-tokens"' in box and "请填写整数" in box and "whole" not in box
    assert messages.number_faults(session.number_faults(96, "0.5", None), T) == ""


@pytest.mark.parametrize("rank", [1.5, -1, "eight", 10**9])
def test_the_rank_of_a_blend_is_exact_or_refused(workspace: Workspace, rank: Any) -> None:
    chosen = artifacts.together(workspace, [a_run(workspace).id])
    with pytest.raises(FieldFault) as refused:
        blend.save(workspace, chosen, [1.0], Recipe("mix", "svd", rank))
    assert 'data-field="wb-blend-rank"' in messages.problem(refused.value, T)
    with pytest.raises(FieldFault):
        inspect.shrink(workspace, chosen[0].job.id, rank)
    assert not jobs.all_jobs(workspace, "blend")


@pytest.mark.parametrize("density", ["", "0", "1.5", None, "half"])
def test_the_density_of_a_blend_is_exact_or_refused(workspace: Workspace, density: Any) -> None:
    chosen = artifacts.together(workspace, [a_run(workspace).id])
    with pytest.raises(FieldFault):
        blend.save(workspace, chosen, [1.0], Recipe("mix", "ties", 0, density))
    assert not jobs.all_jobs(workspace, "blend")


def test_asking_again_moves_the_seed_and_thinking_can_be_switched_off() -> None:
    settings = session.settings("be brief", 5.0, 0.5, 7.0, False)
    assert settings.request(2) == {
        "max_tokens": 5,
        "temperature": 0.5,
        "seed": 9,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert engine_session.first_messages("hi", settings.system)[0] == {"role": "system", "content": "be brief"}
    for prompt in ("", "  ", "x" * 200_000, None):
        with pytest.raises(UsageError):
            engine_session.checked_prompt(prompt)


def test_another_server_has_its_models_as_columns() -> None:
    assert Server.checked("", "t", "m") is None
    found = Server.checked(" http://127.0.0.1:8000/v1/ ", "secret", "a, b,a")
    assert found is not None and found.url == "http://127.0.0.1:8000/v1" and found.models == ("a", "b")
    assert "secret" not in repr(found)
    assert [column.name for column in session.columns(Choice(base=False, server=found), T)] == ["a", "b"]
    for models in ("", " , ", ",".join("abcdefghi")):
        with pytest.raises(UsageError):
            Server.checked("http://127.0.0.1:8000/v1", "", models)


def test_columns_are_one_to_eight(workspace: Workspace) -> None:
    values = [a_run(workspace).id for _ in range(8)]
    assert len(session.columns(Choice.checked(workspace, values, False), T)) == 8
    with pytest.raises(UsageError, match="9 columns"):
        Choice.checked(workspace, values, True)
    header = session.columns(Choice.checked(workspace, values[:1], True), T)
    assert header[0].name == "base" and header[1].details[-1] == values[0]


def test_the_slider_adds_the_nearest_checkpoint(workspace: Workspace) -> None:
    job = a_run(workspace, (10, 20, 30, 40, 50, 60, 70))
    assert artifacts.checkpoint_steps(workspace, job.id) == [10, 20, 30, 40, 50, 60, 70]
    assert f"{job.id}:10" not in [value for _, value in artifacts.choices(workspace)]
    added = chooser.with_checkpoint(workspace, [job.id], 14)
    assert added == [job.id, f"{job.id}:10"]
    assert f"{job.id}:10" in [value for _, value in artifacts.choices(workspace, added)]
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
    before = vote.shown(ballot, T)
    assert "One" not in before and "h1" not in before and 'data-pick="A"' in before
    assert decide(workspace, ballot, "B") and ballot.winner == "base:starter"
    assert "A: One" in vote.shown(ballot, T) and "data-pick" not in vote.shown(ballot, T)
    assert not decide(workspace, ballot, "A")
    assert [one.winner for one in votes.read(workspace.votes_file)] == ["base:starter"]
    assert "Base" in vote.scores(workspace, T) and "1 vote kept" in vote.scores(workspace, T)


def test_only_a_complete_ballot_takes_a_known_vote(workspace: Workspace) -> None:
    assert not decide(workspace, a_ballot(done=False), "A")
    for choice in ("C", "", "base", "h1", "__class__"):
        assert not decide(workspace, a_ballot(), choice)
    assert decide(workspace, a_ballot(), "tie") and decide(workspace, a_ballot(), "none")
    assert "data-pick" not in vote.shown(a_ballot(done=False), T)
    assert "No votes yet" in vote.scores(Workspace(workspace.root / "elsewhere"), T)


# Suites


def result(column: str, passed: list[bool | None], text: str = "answer") -> SuiteResult:
    rows = tuple(
        SuiteRow(f"q{number}", "x", {column: SuiteAnswer(text, passed=one)}) for number, one in enumerate(passed)
    )
    return SuiteResult("s", (SuiteColumn(column, column.upper()),), rows)


def test_what_broke_and_what_mended_is_told() -> None:
    earlier, now = result("a", [True, True, False, None]), result("b", [True, False, True, None])
    found = suites.change(now, "b", earlier)
    assert (found.broke, found.mended) == ({"q1"}, {"q2"})
    shown = suite.table(now, earlier, T)
    assert "1 broke" in shown and "1 mended" in shown and "2 of 3 as expected" in shown and shown.count("wb-broke") == 1
    assert not suites.change(now, "b", None).broke
    assert "&lt;img" in suite.table(result("a", [None], "<img src=x>"), None, T)


def test_another_suite_of_the_name_is_asked_about_and_kept(workspace: Workspace) -> None:
    assert suite.saved_or_asked(workspace, "mine", "Hello => hi", T).name == "mine"
    assert suite.saved_or_asked(workspace, "mine", "Hello => hi", T).name == "mine"
    found = suite.saved_or_asked(workspace, "mine", "Other", T)
    assert not found.wrong and found.asked is not None and "mine" in found.asked.text
    assert isinstance(found.asked.about, Suite) and found.asked.about.text == "Other"
    assert [one.text for one in suites.saved(workspace)] == ["Hello => hi"]


def test_a_suite_runs_over_the_chosen_columns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.supervisor.ensure_running", lambda workspace: None)
    run = a_run(workspace)
    choice = Choice.checked(workspace, [run.id], True)
    made = suite_of("first")
    job = suite.start(workspace, made, choice, Settings())
    assert job.config["adapters"] == {choice.adapters[0].column: str(run.result / "adapter")}
    assert suite.runs(workspace)[0].id == job.id and suite.found_run(workspace, "../..") is None
    assert "No run yet" in suite.looked(workspace, None, None, T)[1]
    job.result.mkdir()
    (job.result / RESULT_FILE).write_text(json.dumps({"suite": "s", "columns": [], "rows": []}))
    assert "wb-suite" in suite.looked(workspace, job.id, None, T)[1]
    assert suite.sample_text(workspace, [run.id]).count("\n") > 5 and suite.sample_text(workspace, ["x"]) == ""


def suite_of(name: str) -> Suite:
    from app.evaluation.suites import parse_suite

    return parse_suite(name, "one => two")


# Blends and inspections


@pytest.mark.parametrize("values", [[], [None], ["1"], [9.0], [math.nan]])
def test_weights_out_of_range_are_refused(workspace: Workspace, values: list[Any]) -> None:
    chosen = artifacts.together(workspace, [a_run(workspace).id])
    with pytest.raises(UsageError):
        blend.weights_of(chosen, values)
    assert blend.weights_of(chosen, [0.5, 3.0]) == [0.5]


def test_a_blend_stands_among_the_adapters_of_its_run(workspace: Workspace) -> None:
    run, out = a_run(workspace), workspace.output_dir("mix")
    out.mkdir()
    (out / "adapter_config.json").write_text("{}")
    job = jobs.create(workspace, "blend", {"run": run.id}, name="blend: mix")
    assert not [artifact for artifact in artifacts.all_artifacts(workspace) if artifact.job.id == job.id]
    figures = {"adapter": str(out), "rank": 12, "max_abs_error": 1e-8, "verdict": "pass"}
    job.write_status(jobs.Status(state="finished", result=figures))
    found = artifacts.find(workspace, job.id)
    assert (found.rank, found.folder, blend.origin(found)) == (12, out, run.id)
    assert "exact to rounding" in blend.outcome(workspace, job.id, T) and blend.outcome(workspace, "x", T) == ""
    assert blend.free_folder(workspace, "mix").name == "mix-2"
    with pytest.raises(WorkbenchError):
        blend.save(workspace, [found], [1.0], Recipe(""))


def test_a_merged_model_is_a_column_beside_its_base_and_its_adapter(workspace: Workspace) -> None:
    run, out = a_run(workspace), workspace.output_dir("merged")
    out.mkdir()
    (out / "config.json").write_text("{}")
    job = jobs.create(workspace, "merge", {"adapter": str(run.result / "adapter"), "out": str(out)}, name="merge: all")
    assert job.id not in dict(map(reversed, artifacts.choices(workspace)))  # type: ignore[arg-type]
    job.write_status(jobs.Status(state="finished"))
    assert (job.id, "merge: all") in [(value, name) for name, value in artifacts.choices(workspace)]
    choice = Choice.checked(workspace, [run.id, job.id], True)
    base, adapter, merged = session.columns(choice, T)
    assert base.name == "base" and "rank 8" in adapter.details[0]
    assert merged.details[:2] == ["merged into starter", "loaded in NF4"]
    with pytest.raises(UsageError, match="whole model"):
        artifacts.refuse_whole(choice.adapters)
    out.rename(workspace.output_dir("elsewhere"))
    with pytest.raises(UsageError, match="not there"):
        artifacts.find(workspace, job.id)


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
    line, tables = inspect.shown(found, "relative", layers[2]["module"], T)
    assert "6 layers" in line and "3.0 %" in line
    assert tables.count("data-pick") == 6 and "2.00 %" in tables and "layers.1.self_attn.q_proj" in tables
    assert "&lt;b&gt;" in tables and "not known" in inspect.shown(found, "int4_error", "", T)[1]


# Evaluations


def an_evaluation(workspace: Workspace, run: jobs.JobDirectory, best: float | None) -> jobs.JobDirectory:
    artifact = artifacts.find(workspace, run.id)
    config = {"data": "rows.jsonl", "adapters": {artifact.column: str(artifact.folder)}}
    job = jobs.create(workspace, "evaluate", config)
    points = (results.CurvePoint(0.0, 0.0, 0.0, 0.0, 0.0), results.CurvePoint(0.6, 0.9, 0.9, 0.2, 0.1))
    value = results.MetricValue(0.9, 0.8, 0.95, 100)
    columns = tuple(
        results.ColumnResult(name, name, "", 100, 1.0, 2.7, {"f1": value}, results.Forgetting(0.1, 0.2, 3, 70))
        for name in ("base", artifact.column)
    )
    pair = results.PairedResult(artifact.column, "base", "f1", 31, 9, 60, 0.00068)
    curve = results.GainCurve(artifact.column, "weight", "f1", points, best)
    told = results.Contamination(artifact.column, run.id, 2, 1, (1, 2, 3))
    row = results.EvaluatedRow(1, "<b>q</b>", "a", {"base": results.RowAnswer("<i>x</i>", "", {"f1": 0.5})})
    results.write(
        job.result, results.EvaluationResult("rows.jsonl", "", 100, columns, (pair,), (told,), (curve,), (row,))
    )
    return job


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_evaluation_is_shown_with_words_picture_and_warning(workspace: Workspace, language: str) -> None:
    run = a_run(workspace)
    job = an_evaluation(workspace, run, 0.6)
    shown = evaluate.looked(workspace, job.id, Translator(language))[1]
    assert "31" in shown and "p = 0.00068" in shown and "wb-dot-strong" in shown and "<b>q</b>" not in shown
    assert f"keep:{artifacts.find(workspace, run.id).column}" in shown and "wb-warn" in shown
    assert "keep:" not in evaluate.looked(workspace, an_evaluation(workspace, run, None).id, Translator(language))[1]
    assert "wb-empty" in evaluate.looked(workspace, "nothing", T)[1]


def test_the_marked_weight_becomes_an_adapter(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(workspace)
    job, column = an_evaluation(workspace, run, 0.6), artifacts.find(workspace, run.id).column
    asked: list[Any] = []
    monkeypatch.setattr(blend, "start_blend", lambda workspace, request: asked.append(request) or job)
    evaluate.keep_best(workspace, job.id, f"keep:{column}")
    (request,) = asked
    assert request.method == "cat" and [part.weight for part in request.adapters] == [0.6] and request.run == run.id
    for value, picked in ((job.id, "keep:other"), ("gone", f"keep:{column}")):
        with pytest.raises(UsageError):
            evaluate.keep_best(workspace, value, picked)


def test_what_is_evaluated_is_a_file_that_the_page_may_open(workspace: Workspace, tmp_path: Any) -> None:
    run = a_run(workspace)
    choice = Choice((artifacts.find(workspace, run.id),))
    own = evaluate.Wanted(evaluate.OWN_ROWS, ["f1", 3], True, ["weight", "up"], "50").request(workspace, choice, 64)
    assert own.skip_trained and own.limit == 50 and own.metrics == ("f1",) and own.curves == ("weight",)
    assert own.data.endswith("pirate.json") and own.max_tokens == 64
    (tmp_path / "foreign.jsonl").write_text("{}")
    for data in (str(tmp_path / "foreign.jsonl"), "", None, ["x"]):
        with pytest.raises(WorkbenchError):
            evaluate.Wanted(data).request(workspace, choice, 64)
    assert evaluate.files(workspace, T)[0][1] == evaluate.OWN_ROWS
