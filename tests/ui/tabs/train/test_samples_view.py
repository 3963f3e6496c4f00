"""Answers to fixed prompts as a table: the newest steps, the base named, a prompt that was added later has gaps."""

from __future__ import annotations

from pathlib import Path

from app.config.presets import load
from app.jobs import directory
from app.jobs.metrics import MetricsWriter
from app.ui.shell.language import Translator
from app.ui.tabs.train.samples_view import samples
from app.workspace import open_workspace

T = Translator("en")


def test_a_row_a_step_a_column_a_prompt(tmp_path: Path) -> None:
    job = directory.create(open_workspace(tmp_path), "train", load("cpu-starter").config.as_dict())
    assert samples(job, T) == ""
    rows = MetricsWriter(job.samples_file)
    for step in range(0, 150, 10):
        rows.write({"step": step, "prompt": "<u>who?</u>", "answer": f"<u>answer {step}</u>"})
    rows.write({"step": 140, "prompt": "late", "answer": "yes"})
    rows.close()
    table = samples(job, T)
    body = table.partition("<tbody>")[2].split("<tr>")[1:]
    assert len(body) == 12 and "answer 140" in body[-1] and "yes" in body[-1] and "answer 30" in body[0]
    assert all(row.count("<td") == 3 for row in body) and "<u>" not in table


def test_the_first_row_is_the_base(tmp_path: Path) -> None:
    job = directory.create(open_workspace(tmp_path), "train", load("cpu-starter").config.as_dict())
    rows = MetricsWriter(job.samples_file)
    for step in (0, 1200):
        rows.write({"step": step, "prompt": "who?", "answer": "me"})
    rows.close()
    first, second = samples(job, T).partition("<tbody>")[2].split("<tr>")[1:]
    assert T("train.samples.base") in first and "1,200" in second
