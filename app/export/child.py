"""The processes of merges, blends, inspections and exports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from app.jobs.child import JobChild, Outcome


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Run the job on the CPU."""
    # An export leaves the accelerator to others; the libraries must hear so before they look for one.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    kind = child.directory.job["kind"]
    if kind == "blend":
        from app.export import blend_job

        return blend_job.run(child)
    if kind == "export":
        from app.export import export_job

        return export_job.run(child)
    if kind == "inspect":
        from app.export import inspect_job

        return inspect_job.run(child)
    from app.export import merge_job

    return merge_job.run(child)
