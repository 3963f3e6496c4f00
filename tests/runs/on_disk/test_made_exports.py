"""Exports on the disk: listed, removed after their question alone, packed for a browser."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from app.errors import ExportError, UsageError, WorkbenchError
from app.jobs import directory as jobs
from app.jobs import trash
from app.jobs.directory import JobDirectory, Status
from app.runs.on_disk import made_exports
from app.workspace import Workspace, open_workspace


def made(workspace: Workspace, out: Path, kind: str = "export", **config: str) -> JobDirectory:
    if out.suffix == ".zip":
        out.write_bytes(b"zip")
    else:
        (out / "inner").mkdir(parents=True)
        (out / "model.gguf").write_bytes(b"x" * 1000)
        (out / "receipt.json").write_text("{}")
        (out / "inner" / "card.md").write_text("card")
    job = jobs.create(workspace, kind, {"out": str(out), **config})
    result: dict[str, object] = {
        "out": str(out),
        "verdict": "pass",
        "receipt": str(out / "receipt.json"),
        "dtype": "q4_k_m",
    }
    if kind == "export":
        result |= {"files": [out.name] if out.suffix == ".zip" else ["inner/card.md", "model.gguf", "receipt.json"]}
    job.write_status(Status(state="finished", ended=1.7e9, result=result))
    return job


def test_what_is_there_is_listed_with_size_date_and_report(workspace: Workspace, tmp_path: Path) -> None:
    job = made(workspace, workspace.output_dir("mine-gguf"), to="gguf")
    made(workspace, tmp_path / "elsewhere", "merge")
    gone = made(workspace, workspace.output_dir("gone.zip"), to="adapter")
    Path(gone.config["out"]).unlink()
    jobs.create(workspace, "export", {"out": str(workspace.output_dir("later")), "to": "gguf"}).write_status(
        Status(state="stopped")
    )
    found = {one.target: one for one in made_exports.listed(workspace)}
    assert set(found) == {"gguf", "model"}
    assert found["gguf"].bytes == 1006 and found["gguf"].dtype == "q4_k_m" and found["gguf"].ended == 1.7e9
    assert found["gguf"].verdict == "pass" and found["gguf"].job.id == job.id
    assert found["gguf"].can_be_removed and not found["model"].can_be_removed


def test_removing_deletes_the_folder_and_nothing_else(workspace: Workspace) -> None:
    job = made(workspace, workspace.output_dir("mine"), to="gguf")
    other = made(workspace, workspace.output_dir("other.zip"), to="adapter")
    made_exports.remove(workspace, job.id)
    assert [path.name for path in workspace.outputs.iterdir()] == ["other.zip"]
    assert [one.job.id for one in made_exports.listed(workspace)] == [other.id]
    assert [one.id for one in trash.trashed(workspace)] == [job.id]
    with pytest.raises(UsageError, match="not there"):
        made_exports.remove(workspace, job.id)


def test_what_lies_elsewhere_or_is_read_stays(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = made(workspace, tmp_path / "elsewhere", to="gguf")
    link = workspace.output_dir("link")
    link.symlink_to(tmp_path / "elsewhere")
    linked = jobs.create(workspace, "export", {"out": str(link), "to": "gguf"})
    linked.write_status(Status(state="finished"))
    for job in (elsewhere, linked):
        with pytest.raises(UsageError, match="outside of the workspace"):
            made_exports.remove(workspace, job.id)
    merged = made(workspace, workspace.output_dir("merged"), "merge")
    reader = jobs.create(workspace, "export", {"model": merged.config["out"], "out": "/x", "to": "gguf"})
    with pytest.raises(ExportError, match=reader.id):
        made_exports.remove(workspace, merged.id)
    assert (tmp_path / "elsewhere" / "model.gguf").is_file() and Path(merged.config["out"]).is_dir()
    reader.write_status(Status(state="stopped"))
    made_exports.remove(workspace, merged.id)


@pytest.mark.parametrize("job_id", ["", "../..", "nothing-export-000000", "/etc"])
def test_what_a_browser_makes_up_is_not_there(workspace: Workspace, job_id: str) -> None:
    run = jobs.create(workspace, "selftest", {"out": str(workspace.outputs)})
    run.write_status(Status(state="finished"))
    for one in (job_id, run.id):
        for do in (made_exports.remove, made_exports.packed, made_exports.show):
            with pytest.raises(WorkbenchError):
                do(workspace, one)


def test_a_folder_is_packed_whole_and_a_zip_is_taken_as_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made(workspace, workspace.output_dir("mine"), to="gguf")
    for _ in range(2):
        packed = made_exports.packed(workspace, job.id)
        with zipfile.ZipFile(packed) as archive:
            assert sorted(archive.namelist()) == ["mine/inner/card.md", "mine/model.gguf", "mine/receipt.json"]
            assert archive.read("mine/model.gguf") == b"x" * 1000
    zipped = made_exports.packed(workspace, made(workspace, workspace.output_dir("a.zip"), to="adapter").id)
    assert zipped.read_bytes() == b"zip" and zipped.is_relative_to(workspace.uploads)
    monkeypatch.setattr(made_exports, "MOST_PACKED_BYTES", 1003)
    with pytest.raises(UsageError, match="too large to go through a browser"):
        made_exports.packed(workspace, job.id)


def test_what_somebody_deleted_in_part_is_told(workspace: Workspace) -> None:
    job = made(workspace, workspace.output_dir("mine"), to="gguf")
    zipped = made(workspace, workspace.output_dir("all.zip"), to="adapter")
    merged = made(workspace, workspace.output_dir("merged"), "merge")
    Path(job.config["out"], "model.gguf").unlink()
    for name in ("config.json", "model-1.safetensors"):
        Path(merged.config["out"], name).write_text("{}")
    index = Path(merged.config["out"], "model.safetensors.index.json")
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    missing = {one.job.id: one.missing for one in made_exports.listed(workspace)}
    assert missing == {job.id: ("model.gguf",), zipped.id: (), merged.id: ("model-2.safetensors",)}
    index.unlink()
    assert made_exports.find(workspace, merged.id).missing == ("model.safetensors",)
    made_exports.remove(workspace, job.id)
    assert not Path(job.config["out"]).exists()


def test_exports_move_with_their_workspace(workspace: Workspace, tmp_path: Path) -> None:
    job = made(workspace, workspace.output_dir("mine"), to="gguf")
    elsewhere = made(workspace, tmp_path / "elsewhere", to="gguf")
    gone = made(workspace, workspace.output_dir("gone"), to="gguf")
    shutil.rmtree(gone.config["out"])
    workspace.root.rename(tmp_path / "moved")
    moved = open_workspace(tmp_path / "moved")
    found = {one.job.id: one for one in made_exports.listed(moved)}
    assert set(found) == {job.id, elsewhere.id}
    mine = found[job.id]
    assert mine.place == moved.output_dir("mine") and mine.receipt == str(mine.place / "receipt.json")
    assert mine.can_be_removed and not mine.missing
    made_exports.remove(moved, job.id)
    assert not list(moved.outputs.iterdir()) and (tmp_path / "elsewhere").is_dir()


def test_an_export_into_another_workspace_is_not_taken_for_one_of_the_same_name_here(
    workspace: Workspace, tmp_path: Path
) -> None:
    other = open_workspace(tmp_path / "other")
    job = made(workspace, other.output_dir("mine"), to="gguf")
    shutil.rmtree(job.config["out"])
    made(workspace, workspace.output_dir("mine"), to="adapter")
    assert [one.target for one in made_exports.listed(workspace)] == ["adapter"]


def test_a_workspace_named_by_a_link_may_remove_its_own(workspace: Workspace, tmp_path: Path) -> None:
    place = workspace.output_dir("mine")
    job = made(workspace, place, to="gguf")
    (tmp_path / "link").symlink_to(workspace.root)
    linked = open_workspace(tmp_path / "link")
    reader = jobs.create(linked, "export", {"model": str(linked.outputs / "mine"), "out": "/x", "to": "gguf"})
    with pytest.raises(ExportError, match=reader.id):
        made_exports.remove(linked, job.id)
    reader.write_status(Status(state="stopped"))
    made_exports.remove(linked, job.id)
    assert not place.exists()
