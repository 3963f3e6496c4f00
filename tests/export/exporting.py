"""Run an export in the test's own process, for tests that are not about processes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.export.requests import ExportRequest
from app.export.targets import job
from app.jobs import directory
from app.jobs.child import JobChild
from app.workspace import open_workspace


def export(out: Path, to: str, **settings: Any) -> dict[str, Any]:
    """Export into `out` and return what `export --json` answers."""
    workspace = open_workspace(out.parent / "workspace")
    request = ExportRequest(to=to, out=str(out), **{name: _plain(value) for name, value in settings.items()})
    outcome, answer = job.run(JobChild(directory.create(workspace, "export", asdict(request))))
    assert outcome == "finished"
    return dict(answer)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
