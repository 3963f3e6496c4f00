"""What all tests share: a workspace of their own, and no network for the libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.hub import address
from app.jobs import directory, requests
from app.workspace import Workspace, open_workspace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WORKBENCH_WARM"] = "0"  # no worker loads its libraries for every page that a test opens
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """The name of a case, the same at every collection: no bytes and no long text in it.

    Each test process collects the tests for itself and they must agree. A packed file made at collection holds the
    second in which it was made, so its bytes in a name differ now and then.
    """
    if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 80):
        return argname
    return None  # pytest's own name


@pytest.fixture(autouse=True)
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job pins the hub's address for its process; where a test runs one in this process, the next is free of it."""
    monkeypatch.setattr(address, "_pinned", None)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A fresh workspace; what still runs in it at the end is stopped by force."""
    root = tmp_path / "workspace"
    monkeypatch.setenv("WORKBENCH_HOME", str(root))
    opened = open_workspace(root)
    yield opened
    open_jobs = [job for job in directory.all_jobs(opened) if not job.status().final]
    for job in open_jobs:
        requests.stop(opened, job, force=True)
    for job in open_jobs:
        requests.wait(job, timeout_s=60)
