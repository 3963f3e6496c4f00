"""Two real steps of the starter model on a processor, predicted against measured."""

import json
from pathlib import Path

import pytest

from app.config import presets
from app.jobs import requests
from app.planner.history import COMPARED, CPU, corrections
from app.runs.submission import submit
from app.workspace import open_workspace

DATA = Path(__file__).parents[3] / "assets" / "datasets" / "pirate.json"


@pytest.mark.slow
def test_two_real_steps_are_measured_and_kept(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    config = presets.load("cpu-starter").config.changed({"data.file": str(DATA)})
    job = submit.start(workspace, config, kind="measure")
    status = requests.wait(job, timeout_s=240.0)
    assert status.state == "finished", f"{status.reason}\n{job.log_file.read_text()[-3000:]}"
    found = json.loads((job.result / "measurement.json").read_text())
    assert found["device"] == CPU and found["how"] == "process"
    assert set(found["predicted"]) == set(found["measured"]) == set(COMPARED)
    assert found["measured"]["allocated_peak"] > 0 and found["seq_len"] == config.data.max_length
    assert not any(job.checkpoints.glob("*")) and not (job.path / "work").exists()
    (one,) = corrections(workspace, CPU)
    assert (one.method, one.storage, one.runs) == ("qlora", "nf4-dq", 1)
