"""`train`: hand in a run and follow it, or leave it to the background."""

from __future__ import annotations

import argparse
import sys

from app.cli.terminal import Verbs, answer, progress, workspace_of, written
from app.cli.verbs.jobs import follow, print_job
from app.config import presets
from app.config.parsing import parse_assignments
from app.config.schema import RunConfig
from app.errors import UsageError
from app.planner import packing
from app.planner.machine import this_machine
from app.runs.submission import submit, sweep
from app.workspace import Workspace


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "train",
        run,
        help="fine-tune an adapter in the background",
        example="python3 launch.py train --preset cpu-starter --model starter --data assets/datasets/pirate.json",
    )
    add_run_options(parser)
    parser.add_argument("--detach", action="store_true", help="print the job's id and return at once")
    parser.add_argument("--queue", action="store_true", help="wait behind what runs instead of being refused")
    parser.add_argument("--name", default="", help="a name for people; the common name of a sweep")
    parser.add_argument(
        "--sweep",
        metavar="KEY=V,V",
        action="append",
        default=[],
        help="queue a run for each value, and for each combination when repeated: adapter.r=4,8,16",
    )
    parser.add_argument("--yes", action="store_true", help="start a sweep without being asked")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a run is."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with the run's settings")
    parser.add_argument("--preset", metavar="P", help="start from a preset, for example cpu-starter or 8gb")
    parser.add_argument("--model", metavar="M", help="catalogue name, local folder or hub id")
    parser.add_argument("--data", metavar="FILE", help="training file")
    parser.add_argument(
        "--start-from", metavar="DIR", help="adapter to go on from: its folder, or the id of the run that made it"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="share each step among N processes, one a card (or cores of the CPU)"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        type=written,
        action="append",
        default=[],
        help="one setting by its dotted name; repeatable",
    )


def config_of(arguments: argparse.Namespace, workspace: Workspace) -> RunConfig:
    """Return the RunConfig that the options describe; later options win: file or preset, then options, then --set."""
    if arguments.config and arguments.preset:
        raise UsageError("--config and --preset cannot both be given", "each is a whole set of settings", "choose one")
    config = RunConfig()
    if arguments.config:
        config = presets.read_named_file(arguments.config).config
    elif arguments.preset:
        config = presets.load(arguments.preset, workspace).on(this_machine().kind).config
    changes: dict[str, object] = {}
    if arguments.model:
        changes["model.name"] = arguments.model
    if arguments.data:
        changes["data.file"] = arguments.data
    if getattr(arguments, "start_from", None):
        changes["adapter.start_from"] = arguments.start_from
    if arguments.processes is not None:
        changes["training.num_processes"] = arguments.processes
    changes.update(parse_assignments(arguments.set))
    return config.changed(changes, "the command line") if changes else config


def run(arguments: argparse.Namespace) -> None:
    """Start the run."""
    workspace = workspace_of(arguments)
    config = config_of(arguments, workspace)
    if parse_assignments(arguments.set).get("data.packing") is True:
        if config.training.objective != "sft":
            why = f"{config.training.objective} compares answers that stand in rows of their own"
            raise UsageError("data.packing=true cannot be kept", why, "leave it out")
        packing.refuse_unsafe(config, workspace.root)
    if arguments.sweep:
        run_sweep(arguments, workspace, config)
        return
    job = submit.start(workspace, config, queue=arguments.queue, name=arguments.name)
    if arguments.detach:
        lines = [f"{job.id} was handed in. `jobs watch {job.id}` follows it."]
        answer(arguments, {"id": job.id, "dir": str(job.path)}, lines)
        return
    progress(f"{job.id}: {job.path}")
    if note := packing.note_of_run(config, workspace.root):
        progress(f"note: {note}")
    follow(job)
    print_job(arguments, job)


def run_sweep(arguments: argparse.Namespace, workspace: Workspace, config: RunConfig) -> None:
    """Show the runs of a sweep, ask, and queue them."""
    found = sweep.members(config, sweep.parse_axes(arguments.sweep))
    for member in found:
        submit.check(workspace, member.config)
        progress(member.name)
    _confirm(arguments, len(found))
    jobs = sweep.start(workspace, found, arguments.name)
    name = jobs[0].job["sweep"]
    data = {"sweep": name, "runs": [{"id": job.id, "dir": str(job.path), "name": job.name} for job in jobs]}
    answer(arguments, data, [*(f"{job.id}  {job.name}" for job in jobs), f"{len(jobs)} runs wait as {name!r}."])


def _confirm(arguments: argparse.Namespace, count: int) -> None:
    """Ask before a sweep is queued. Raises UsageError without a yes."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"The sweep has {count} runs", "nobody is here to say yes", "add --yes to queue them")
    progress(f"Queue {count} runs? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was queued", "", "")
