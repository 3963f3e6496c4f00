"""The hour of a card: every measurement is tried at tiny shapes on this machine."""

from __future__ import annotations

import json
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from app import hardware
from benchmarks import gpu

FOLDER = Path(gpu.__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("name", gpu.NAMES)
def test_a_dry_run_of_each(name: str, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--dry-run", "--only", name, "--out", str(out)]) == 0
    (run,) = json.loads(out.read_text())["runs"]
    assert run["name"] == name and run["dry_run"] and run["status"] == "measured"
    assert run["found"] != "not measured" and '"error"' not in json.dumps(run["found"])
    assert {"card", "driver", "versions"} <= set(run["machine"])


def test_every_script_that_wants_a_card_is_listed() -> None:
    listed = {each.module for each in gpu.MEASUREMENTS}
    wanting = {file.stem for file in FOLDER.glob("*_gpu.py")}
    wanting |= {file.stem for file in FOLDER.glob("*.py") if '"--device", choices=("cpu", "cuda")' in file.read_text()}
    assert wanting <= listed
    assert all(hasattr(import_module(f"benchmarks.{name}"), "main") for name in listed)


def test_results_are_appended_and_a_failure_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = gpu.Measurement("broken", "nothing", 1, "kept_prefix", (), ("--columns", "none"), out="--json")
    monkeypatch.setattr(gpu, "MEASUREMENTS", (broken,))
    monkeypatch.setattr(gpu, "NAMES", ("broken",))
    out = tmp_path / "gpu.json"
    for _ in range(2):
        assert gpu.main(["--dry-run", "--only", "broken", "--out", str(out)]) == 1
    runs = json.loads(out.read_text())["runs"]
    assert [(run["status"], run["found"]) for run in runs] == [("ended with status 2", "not measured")] * 2
    assert "broken" in capsys.readouterr().out


def test_without_a_card_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if hardware.readings().gpu is not None:
        pytest.skip("this machine has a card")
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 1
    assert gpu.main(["--list"]) == 0 and not (tmp_path / "gpu.json").exists()
