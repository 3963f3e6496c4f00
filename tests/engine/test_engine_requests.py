from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil
import pytest

from app.engine.client import wait_for_endpoint
from app.engine.http import endpoint
from app.engine.requests import EngineRequest, compare, start_engine
from app.errors import EngineError, ModelError, UsageError
from app.jobs.directory import all_jobs
from app.workspace import open_workspace
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING


def test_compare_answers_all_columns_and_leaves_no_engine(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    workspace = open_workspace(tmp_path)
    adapters = {"plain": str(tiny_adapters["plain"]), "narrow": str(tiny_adapters["narrow"])}
    request = EngineRequest(str(tiny_base), adapters, quant="none")
    begun: list[str] = []

    def handed_in() -> None:
        begun.extend(job.status().state for job in all_jobs(workspace))

    columns = compare(workspace, request, "hello", system="be brief", greedy=True, max_tokens=6, handed_in=handed_in)
    assert len(begun) == 1 and begun[0] != "finished", "a word is said while the model loads"
    assert [column.name for column in columns] == ["base", "plain", "narrow"]
    for column in columns:
        assert column.batched is True and 1 <= column.tokens <= 6 and isinstance(column.text, str)
    assert [job.status().state for job in all_jobs(workspace)] == ["stopped"]
    pid, end = int(all_jobs(workspace)[0].recorded_status().pid or 0), time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid)


def test_wrong_names_are_refused_before_a_job_is_made(tmp_path: Path, tiny_base: Path) -> None:
    workspace = open_workspace(tmp_path)
    with pytest.raises(ModelError):
        start_engine(workspace, EngineRequest("http://127.0.0.1/model"))
    with pytest.raises(UsageError, match="base"):
        start_engine(workspace, EngineRequest(str(tiny_base), {"base": str(tmp_path)}))
    assert all_jobs(workspace) == []


def test_a_taken_port_is_one_plain_line(tmp_path: Path, tiny_base: Path) -> None:
    workspace = open_workspace(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        request = EngineRequest(str(tiny_base), quant="none", port=taken.getsockname()[1])
        job = start_engine(workspace, request)
        with pytest.raises(EngineError, match="cannot be used"):
            wait_for_endpoint(job, timeout_s=120)
    assert job.status().state == "failed" and endpoint.read(job) is None
