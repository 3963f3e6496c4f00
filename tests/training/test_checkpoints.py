import json
import shutil
from pathlib import Path

import pytest

from app.training import checkpoints


def saved(root: Path, step: int) -> Path:
    """A folder as the trainer leaves it, sealed."""
    work = root / "work" / f"checkpoint-{step}"
    work.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "training_args.bin", "README.md"):
        (work / name).write_bytes(f"{name} {step}".encode() * 100)
    return checkpoints.seal(work, root / "checkpoints", step)


def test_a_sealed_checkpoint_is_accepted(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    newest = saved(tmp_path, 10)
    checkpoint, passed = checkpoints.newest(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert (checkpoint.path, checkpoint.step, passed) == (newest, 10, [])
    assert checkpoints.steps(tmp_path / "checkpoints") == [5, 10]


def test_what_can_hold_a_secret_is_not_kept(tmp_path: Path) -> None:
    assert {path.name for path in saved(tmp_path, 1).iterdir()} == {
        "adapter_model.safetensors",
        "optimizer.pt",
        "trainer_state.json",
        "complete.json",
    }


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "complete.json"])
@pytest.mark.parametrize("fault", ["flip", "truncate", "delete"])
@pytest.mark.fault("F6")
def test_a_damaged_file_costs_one_checkpoint_and_is_named(tmp_path: Path, name: str, fault: str) -> None:
    good = saved(tmp_path, 5)
    file = saved(tmp_path, 10) / name
    data = bytearray(file.read_bytes())
    if fault == "flip":
        # In the manifest any byte of a hash or size; elsewhere any byte at all.
        spot = data.index(b'"sha256": "') + 12 if name == "complete.json" else 50
        data[spot] ^= 1
        file.write_bytes(bytes(data))
    elif fault == "truncate":
        file.write_bytes(bytes(data[:-20]))
    else:
        file.unlink()
    checkpoint, passed = checkpoints.newest(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.path == good
    assert [item.step for item in passed] == [10]
    assert name in passed[0].problem or name == "complete.json"
    assert passed[0].problem


def test_a_whole_checkpoint_of_another_step_is_refused(tmp_path: Path) -> None:
    shutil.copytree(saved(tmp_path, 5), tmp_path / "checkpoints" / "step-10")
    checkpoint, passed = checkpoints.newest(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 5
    assert passed[0].problem == "complete.json is of step 5"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt"])
def test_a_manifest_that_leaves_a_file_out_does_not_vouch_for_it(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path, 5)
    manifest = json.loads((folder / "complete.json").read_text())
    del manifest["files"][name]
    (folder / "complete.json").write_text(json.dumps(manifest))
    assert checkpoints.damage(folder) == f"{name} is none of the files that complete.json names"
    (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(b"put here later")
    assert "model.safetensors" in checkpoints.damage(folder)


def test_a_folder_without_a_manifest_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-7").mkdir(parents=True)
    checkpoint, passed = checkpoints.newest(tmp_path / "checkpoints")
    assert checkpoint is None
    assert "cut off" in passed[0].problem
    assert checkpoints.newest(tmp_path / "nowhere") == (None, [])


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": {}}', '{"files": 3}', '{"files": {"a": 1}}', "\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "checkpoints" / "step-7"
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text(text, encoding="latin-1")
    (folder / "a").write_text("")
    assert checkpoints.newest(tmp_path / "checkpoints")[0] is None


def test_saving_a_step_again_replaces_its_damaged_folder(tmp_path: Path) -> None:
    (saved(tmp_path, 5) / "optimizer.pt").unlink()
    again = saved(tmp_path, 5)
    assert checkpoints.damage(again) == ""


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10, 20):
        saved(tmp_path, step)
    checkpoints.prune(tmp_path / "checkpoints", keep=2)
    assert checkpoints.steps(tmp_path / "checkpoints") == [10, 20]
    checkpoints.prune(tmp_path / "checkpoints", keep=0)
    assert checkpoints.steps(tmp_path / "checkpoints") == [20]
