"""The processes of merges, blends, inspections and exports."""

from __future__ import annotations

import os

from app.jobs.child import JobChild, Outcome, Result


def work(child: JobChild) -> tuple[Outcome, Result]:
    """Run the job on the CPU."""
    # An export leaves the accelerator to others; the libraries must hear so before they look for one.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    kind = child.directory.job["kind"]
    if kind == "blend":
        from app.export.adapters import blend_job

        return blend_job.run(child)
    if kind == "export":
        from app.export.targets import job as export_job

        return export_job.run(child)
    if kind == "inspect":
        from app.export.adapters import inspect_job

        return inspect_job.run(child)
    from app.export.merge import job

    return job.run(child)
