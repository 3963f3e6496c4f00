"""A sweep: every combination, told wrong all at once and before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.errors import ConfigError, DataError, UsageError, WorkspaceError
from app.jobs import directory, supervisor
from app.runs.submission import submit, sweep
from app.workspace import Workspace

BASE = RunConfig()


def test_words_become_values_of_the_settings_own_kind() -> None:
    axes = sweep.parse_axes(
        [
            "adapter.r=4, 8,8",
            "training.learning_rate=1e-4,2e-4",
            "adapter.target_modules=all-linear,q_proj+v_proj,q_proj",
            "adapter.use_dora=true,false",
        ]
    )
    assert axes["adapter.r"] == [4, 8]
    assert axes["training.learning_rate"] == [1e-4, 2e-4]
    assert axes["adapter.target_modules"] == ["all-linear", ["q_proj", "v_proj"], ["q_proj"]]
    assert axes["adapter.use_dora"] == [True, False]


def test_every_combination_is_a_run() -> None:
    found = sweep.members(BASE, {"adapter.r": [4, 8], "training.learning_rate": [1e-4, 2e-4, 1e-3]})
    assert len({(one.config.adapter.r, one.config.training.learning_rate) for one in found}) == 6
    assert found[0].name == "r=4 lr=0.0001"


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        sweep.parse_axes(["adapter.r", "rank=4", "data.file=x", "adapter.r=1", "adapter.r=2", "nothing=1"])
    assert len(caught.value.problems) == 5 and "adapter.r" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        sweep.members(BASE, {"adapter.r": [0, 4], "training.learning_rate": [7.0, 1e-4], "adapter.lora_dropout": [2]})
    assert {problem.field for problem in caught.value.problems} == {
        "adapter.r",
        "training.learning_rate",
        "adapter.lora_dropout",
    }


def test_pairs_that_do_not_go_together_are_told_too() -> None:
    with pytest.raises(ConfigError, match="full fine-tuning"):
        sweep.members(BASE, {"adapter.method": ["lora", "full"]})


def test_too_many_and_none_are_refused() -> None:
    with pytest.raises(UsageError, match="65 runs"):
        sweep.members(BASE, {"adapter.r": list(range(1, 66))})
    with pytest.raises(UsageError, match="varies nothing"):
        sweep.members(BASE, {})


def test_a_sweep_waits_under_a_common_name(workspace: Workspace, held: None, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    config = presets.load("cpu-starter").config.changed({"data.file": str(rows)})
    jobs = sweep.start(workspace, sweep.members(config, {"adapter.r": [2, 4]}), "ranks")
    assert [job.config["adapter"]["r"] for job in jobs] == [2, 4]
    assert {job.job["sweep"] for job in jobs} == {"ranks"} and jobs[1].job["varies"] == {"adapter.r": 4}
    assert jobs[0].name == "ranks: r=2" and jobs[0].describe().as_dict()["sweep"] == "ranks"
    with pytest.raises(WorkspaceError):
        sweep.start(workspace, sweep.members(config.changed({"data.file": "missing"}), {"adapter.r": [1, 2]}))
    assert len(directory.all_jobs(workspace)) == 2


def test_a_run_is_repeated_exactly_or_refused(workspace: Workspace, held: None, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    config = presets.load("cpu-starter").config.changed({"data.file": str(rows), "training.seed": 7})
    first = submit.start(workspace, config, queue=True, name="mine")
    second = submit.again(workspace, first, queue=True)
    assert second.config == first.config and second.id != first.id and second.job["again"] == first.id
    rows.write_text('{"instruction": "a", "output": "c"}\n')
    with pytest.raises(DataError, match="changed"):
        submit.again(workspace, first, queue=True)


@pytest.fixture
def held(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing starts: the supervisor is not called, and what was queued is ended."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    yield
    for job in directory.all_jobs(workspace):
        job.write_status(directory.Status(state="stopped"))
