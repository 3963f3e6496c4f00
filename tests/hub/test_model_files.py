"""Models of the hub on this disk: fetched whole, gone on with after a stop, listed with size and licence, removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from app.cli.main import main
from app.errors import JobError, ModelError
from app.hub.model_files import KIND, chosen, is_complete
from app.jobs import requests
from app.runs.on_disk import models_on_disk
from app.workspace import Workspace
from tests.hub.model_hub import SHA, Hub, cache, hub

__all__ = ["cache", "hub"]


def words(workspace: Workspace, *more: str) -> list[str]:
    return ["models", *more, "--workspace", str(workspace.root)]


def listed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(words(workspace, "list", "--json")) == 0
    return {one["id"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_model_is_fetched_listed_and_removed(
    hub: str, cache: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(listed(workspace, capsys)) == {"starter"}
    assert main(words(workspace, "fetch", "o/n", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    wanted = {name for name in Hub.files if name not in ("pytorch_model.bin", "original/model.safetensors", "run.py")}
    assert {path.name for path in Path(said["folder"]).iterdir()} == wanted
    assert said["bytes"] == sum(len(Hub.files[name]) for name in wanted) and said["licence"] == "mit"
    found = listed(workspace, capsys)["o/n"]
    assert found["kind"] == "hub" and found["complete"] is True and found["licence"] == "mit"
    assert found["bytes"] >= said["bytes"]  # type: ignore[operator]
    asked = len(Hub.asked)
    assert main(words(workspace, "fetch", "o/n", "--json")) == 0  # nothing comes twice
    assert not [name for name in Hub.asked[asked:] if "safetensors" in name]
    capsys.readouterr()
    assert main(words(workspace, "remove", "o/n", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == found["bytes"]
    assert set(listed(workspace, capsys)) == {"starter"} and not list(cache.glob("models--*"))


def test_a_fetch_that_was_broken_off_goes_on(hub: str, cache: Path, workspace: Workspace) -> None:
    Hub.slow = True
    job = models_on_disk.start(workspace, "o/n")
    assert models_on_disk.start(workspace, "o/n").id == job.id  # asked twice, fetched once
    status = requests.wait(job, lambda now: now.phase == "downloading" and now.step > 10_000, timeout_s=60, poll_s=0.02)
    assert status.of == sum(size for _, size in chosen("o/n", [(k, len(v)) for k, v in Hub.files.items()]))
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=30).state == "stopped"
    blobs = cache / "models--o--n" / "blobs"
    assert not list(blobs.glob("*.incomplete")) and not (blobs / "modelsafetensors").exists()
    whole = {path.name for path in blobs.iterdir()}
    assert whole  # the small files had come
    Hub.slow, Hub.asked = False, []
    # A part that was left by a killed fetch, long ago.
    (blobs / "old.123.incomplete").write_bytes(b"x" * 100)
    os.utime(blobs / "old.123.incomplete", (0, 0))
    status = requests.wait(models_on_disk.start(workspace, "o/n"), timeout_s=60)
    assert status.state == "finished", status.reason
    assert (Path(str(status.result["folder"])) / "model.safetensors").read_bytes() == Hub.files["model.safetensors"]
    again = {asked.partition("@")[0].replace(".", "") for asked in Hub.asked}
    assert "modelsafetensors" in again and not again & (whole - {"old.123.incomplete"})
    assert not list(blobs.glob("*.incomplete"))


def test_a_model_in_use_and_one_in_part(
    hub: str, cache: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = cache / "models--o--planned" / "snapshots" / SHA
    planned.mkdir(parents=True)
    (planned / "config.json").write_text("{}")
    assert listed(workspace, capsys)["o/planned"]["complete"] is False
    job = requests.submit(workspace, "selftest", {"steps": 500, "step_s": 0.05, "model": {"name": "o/planned"}})
    with pytest.raises(JobError, match=f"o/planned is in use. By {job.id}"):
        models_on_disk.remove(workspace, "o/planned")
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=30)
    models_on_disk.remove(workspace, "o/planned")
    assert "o/planned" not in listed(workspace, capsys)


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (("remove", "starter"), 2, "comes with the program"),
        (("remove", "nobody/nothing"), 1, "is not on this disk"),
        (("remove", "../../etc"), 1, "is not on this disk"),
        (("remove", "/"), 1, "is not on this disk"),
        (("fetch", "starter"), 2, "There is nothing to fetch"),
        (("fetch", "http://example.org/x"), 1, "addresses are not opened"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cache: Path,
    workspace: Workspace,
    given: tuple[str, ...],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(words(workspace, *given)) == status
    told = capsys.readouterr().err
    assert said.lower() in told.lower() and len(told.splitlines()) == 1


def test_no_hub_no_room_and_no_weights(
    cache: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(words(workspace, "fetch", "o/n")) == 1
    assert "127.0.0.1:9 cannot be reached" in capsys.readouterr().err.lower()
    for files, why in (([("pytorch_model.bin", 1)], r"\.bin files"), ([("config.json", 1)], "holds no weights")):
        with pytest.raises(ModelError, match=why):
            chosen("o/n", files)


def test_the_makers_own_form_is_left_out() -> None:
    listing = [(name, 1) for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")]
    others = [(name, 1) for name in ("consolidated.safetensors", "model.fp16.safetensors", "metal/model.bin")]
    beside = [(name, 1) for name in ("config.json", "model.safetensors.index.json", "tokenizer.model", "merges.txt")]
    assert chosen("o/n", [*listing, *others, *beside]) == sorted([*listing, *beside])


def test_a_shard_that_is_missing_is_seen(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / places["a"]).write_bytes(b"x")
    assert not is_complete(tmp_path)
    (tmp_path / places["b"]).write_bytes(b"x")
    assert is_complete(tmp_path)
    (tmp_path / "config.json").unlink()
    assert not is_complete(tmp_path)


def test_a_merged_model_is_listed_and_removed(cache: Path, workspace: Workspace) -> None:
    merged = workspace.outputs / "mine"
    merged.mkdir()
    (merged / "config.json").write_text("{}")
    (merged / "model.safetensors").write_bytes(b"x" * 10)
    (one,) = [one for one in models_on_disk.on_disk(workspace) if one.kind == "merged"]
    assert one.id == "mine" and one.bytes == 12
    models_on_disk.remove(workspace, "mine")
    assert not merged.exists() and KIND == "fetch"
