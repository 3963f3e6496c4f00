"""Answers to fixed prompts: written over time, taken back on a resume, and without a trace in the run."""

import pytest

from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.workspace import Workspace
from tests.training.in_process import go, prepare, run, small, stop_at

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = ["What is the capital of France?", "Name a fruit."]
# Everything that draws random numbers is on.
RANDOM = {"adapter__lora_dropout": 0.1, "training__neftune_noise_alpha": 5.0}


def answered(job: JobDirectory) -> list[tuple[int, str, str]]:
    return [(row["step"], row["prompt"], row["answer"]) for row in read_rows(job.samples_file)]


def test_prompts_are_answered_over_time_and_change_nothing(workspace: Workspace) -> None:
    asked = small(**RANDOM, training__sample_prompts=PROMPTS, training__sample_tokens=8)
    with_prompts, without = run(workspace, asked), run(workspace, small(**RANDOM))
    rows = read_rows(with_prompts.samples_file)
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, p) for step in (0, 6, 12) for p in PROMPTS]
    assert all(row["answer"] and 1 <= row["tokens"] <= 8 for row in rows)
    assert "Paris" in rows[0]["answer"]
    assert not without.samples_file.exists()
    weights = "adapter/adapter_model.safetensors"
    assert (with_prompts.result / weights).read_bytes() == (without.result / weights).read_bytes()
    curves = [[row["loss"] for row in steps_of(read_rows(job.metrics_file))] for job in (with_prompts, without)]
    assert curves[0] == curves[1]

    resumed = prepare(workspace, asked)
    stop_at(resumed, 7)
    resumed.stop_file.unlink()
    (resumed.checkpoints / "step-7" / "optimizer.pt").unlink()  # so that steps 7 and on, and nothing before, run again
    assert [step for step, _, _ in answered(resumed)] == [0, 0, 6, 6]
    go(resumed)
    assert answered(resumed) == answered(with_prompts)
