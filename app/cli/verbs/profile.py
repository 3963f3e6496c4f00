"""`profile`: where the time of a training step goes."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict

from app import outputs
from app.cli.terminal import Verbs, answer, positive, progress, workspace_of
from app.cli.verbs.jobs import follow
from app.cli.verbs.train import add_run_options, config_of
from app.files import replace_file
from app.runs.results import flame
from app.runs.submission import profiling
from app.workspace import user_path


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "profile",
        run,
        help="where the time of a training step goes, and how near it is to this machine's limit",
        example="python3 launch.py profile --preset cpu-starter --model starter --flame step.svg",
    )
    add_run_options(parser)
    parser.add_argument("--steps", type=positive, default=3, metavar="N", help="steps behind the first (default 3)")
    parser.add_argument("--flame", metavar="FILE", help="write a flame picture (SVG)")
    parser.add_argument(
        "--trace", metavar="FILE", help="write one more step as torch's profiler sees it (Chrome trace)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Profile as a job and print what was found."""
    workspace, named = workspace_of(arguments), getattr(arguments, "workspace", None)
    places = {name: user_path(out) for name in ("flame", "trace") if (out := getattr(arguments, name))}
    for place in places.values():
        outputs.refuse_foreign(named, place)
    config = config_of(arguments, workspace)
    job = profiling.start(workspace, config, steps=arguments.steps, trace=bool(arguments.trace))
    follow(job)
    profile = profiling.read(job)
    for name, place in places.items():
        if name == "flame":
            replace_file(place, flame.svg(profile))
        else:
            shutil.copyfile(job.result / "trace.json", place)
        outputs.remember(named, place)
        progress(f"written: {place}")
    written = {name: str(places[name]) if name in places else None for name in ("flame", "trace")}
    answer(arguments, {"id": job.id, "dir": str(job.path), **asdict(profile), **written}, profiling.lines(profile))
