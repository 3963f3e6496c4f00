"""`jobs`: list, show, watch, stop, pause, resume, move, remove, script, preset; more is in history.py."""

from __future__ import annotations

import argparse
import time

from app.cli.terminal import Verbs, answer, progress, table, workspace_of
from app.cli.verbs import history
from app.config import presets
from app.errors import JobError
from app.jobs import directory, requests, trash
from app.jobs.directory import JobDirectory, Status
from app.jobs.metrics import tail_rows
from app.runs.submission import submit
from app.runs.training_script import recipe


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    group = verbs.group("jobs", help="what ran, runs and waits", example="python3 launch.py jobs list")
    group.add("list", list_jobs, help="every job, oldest first", example="python3 launch.py jobs list --json")
    for name, run, help in (
        ("show", show, "how one job stands"),
        ("watch", watch, "follow one job to its end"),
        ("stop", stop, "end a job after its current step, with a checkpoint"),
        ("pause", pause, "save, free the accelerator, and wait for `jobs resume` at the same step"),
        ("resume", resume, "go on from the newest complete checkpoint"),
        ("move", move, "move a waiting job in the queue"),
        ("remove", remove, "move an ended job into the trash; `jobs restore` brings it back"),
        ("script", show_script, "a run as one Python script that does the same without the workbench"),
        ("preset", save_preset, "save a run's settings as a preset of your own"),
    ):
        former_name = "recipe" if name == "script" else ""
        parser = group.add(name, run, help=help, example=f"python3 launch.py jobs {name} ID", former_name=former_name)
        parser.add_argument("id", metavar="ID", help="id of the job, as `jobs list` shows it")
        if name == "stop":
            parser.add_argument("--force", action="store_true", help="end it by TERM, and after 10 s by KILL")
        if name == "preset":
            parser.add_argument("--force", action="store_true", help="replace one of your own of the same name")
            parser.add_argument("name", metavar="NAME", help="name of the preset, for --preset NAME")
        if name == "resume":
            parser.add_argument("--queue", action="store_true", help="wait behind what runs")
        if name == "move":
            parser.add_argument(
                "--by", type=int, default=-1, metavar="N", help="places; negative is sooner (default -1)"
            )
        if name == "remove":
            parser.add_argument("--forever", action="store_true", help="delete it now, not into the trash")
    history.register(group)


def _job(arguments: argparse.Namespace) -> JobDirectory:
    return directory.find(workspace_of(arguments), arguments.id)


def list_jobs(arguments: argparse.Namespace) -> None:
    """Print every job."""
    described = [job.describe() for job in directory.all_jobs(workspace_of(arguments))]
    rows = [
        {
            **job.as_dict(),
            "state": job.state,
            "step": f"{job.status.step}/{job.status.of}" if job.status.of else "",
            "loss": job.loss,
            "when": _when(job.created),
        }
        for job in described
    ]
    lines = (
        table(rows, ("id", "job", "state", "step", "loss", "when", "name"))
        if rows
        else ["No jobs yet. `demo` makes one."]
    )
    answer(arguments, [job.as_dict() for job in described], lines)


def _when(created: float | None) -> str:
    return "" if created is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(created))


def show(arguments: argparse.Namespace) -> None:
    """Print one job."""
    print_job(arguments, _job(arguments))


def print_job(arguments: argparse.Namespace, job: JobDirectory) -> None:
    """Print how a job stands."""
    facts = job.describe()
    status = facts.status
    lines = [f"{job.id}: {facts.state}{', ' + status.reason if status.reason else ''}"]
    if status.of:
        lines.append(f"step {status.step} of {status.of}, loss {facts.loss or 'not logged yet'}")
    if facts.eta_seconds is not None:
        lines.append(f"about {facts.eta_seconds:.0f} s left")
    if not facts.responding:
        lines.append("not responding: its heartbeat is overdue")
    lines.append(f"folder {facts.dir}")
    answer(arguments, facts.as_dict(), lines)


def watch(arguments: argparse.Namespace) -> None:
    """Follow one job to its end."""
    job = _job(arguments)
    requests.ensure_supervised(workspace_of(arguments))
    follow(job)
    print_job(arguments, job)


# Rows of the metrics that are no event, and events that the progress line or the error says.
_UNTOLD = (None, "checkpoint", "validation", "failed")


def follow(job: JobDirectory) -> Status:
    """Wait for a job's end with a progress line for every change; raise JobError when it failed."""
    shown, told = "", 0.0

    def show_change(status: Status) -> None:
        nonlocal shown, told
        for row in tail_rows(job.metrics_file):
            if row.get("event") not in _UNTOLD and row.get("time", 0.0) > told:
                told = row["time"]
                progress(f"{job.id}: {row['event']}: {row.get('message', '')}")
        last = job.last_metrics() if status.state == "running" else None
        loss = f", loss {last['loss']:.4f}" if last and last.get("loss") is not None else ""
        step = f" {status.step}/{status.of}" if status.of else ""
        phase = f" {status.phase}" if status.phase and status.state == "running" else ""
        line = f"{job.id}: {status.state}{phase}{step}{loss}"
        if line != shown:
            shown = line
            progress(line)

    try:
        status = requests.wait(job, seen=show_change, poll_s=0.5)
    except KeyboardInterrupt:
        progress(f"\n{job.id} goes on. `jobs watch {job.id}` follows it, `jobs stop {job.id}` ends it.")
        raise
    if status.state in ("failed", "interrupted"):
        is_run = job.job["kind"] == "train"
        again = f"; `jobs resume {job.id}` goes on from the newest checkpoint" if is_run else ""
        raise JobError(
            f"{job.id} {status.state}" + (f" ({status.kind})" if status.kind else ""),
            status.reason,
            f"the log is {job.log_file}{again}",
        )
    return status


def stop(arguments: argparse.Namespace) -> None:
    """Ask a job to end."""
    job = _job(arguments)
    before = requests.stop(workspace_of(arguments), job, force=arguments.force)
    said = "had already ended" if before.final else "will end after its current step"
    answer(arguments, {"id": job.id, "state": job.status().state}, [f"{job.id} {said}."])


def resume(arguments: argparse.Namespace) -> None:
    """Put an ended job back in line."""
    job = _job(arguments)
    requests.resume(workspace_of(arguments), job, queue=arguments.queue)
    answer(arguments, {"id": job.id, "dir": str(job.path)}, [f"{job.id} goes on. `jobs watch {job.id}` follows it."])


def pause(arguments: argparse.Namespace) -> None:
    """Ask a run to save, free the accelerator and wait."""
    job = _job(arguments)
    requests.pause(workspace_of(arguments), job)
    lines = [f"{job.id} pauses after its current step. `jobs resume {job.id}` goes on from there."]
    answer(arguments, {"id": job.id, "state": job.status().state}, lines)


def move(arguments: argparse.Namespace) -> None:
    """Move a waiting job in the queue."""
    job = _job(arguments)
    place = requests.move(workspace_of(arguments), job, arguments.by)
    answer(arguments, {"id": job.id, "place": place}, [f"{job.id} is number {place} in the queue."])


def remove(arguments: argparse.Namespace) -> None:
    """Move an ended job into the trash, or delete it."""
    job = _job(arguments)
    if arguments.forever:
        trash.delete(workspace_of(arguments), job)
    else:
        trash.move_to_trash(workspace_of(arguments), job)
    said = "is gone" if arguments.forever else f"is in the trash. `jobs restore {job.id}` brings it back"
    answer(arguments, {"id": job.id, "removed": True, "restorable": not arguments.forever}, [f"{job.id} {said}."])


def show_script(arguments: argparse.Namespace) -> None:
    """Print a run as a script."""
    job = _job(arguments)
    text = recipe(job)
    answer(arguments, {"id": job.id, "script": text}, [text.rstrip()])


def save_preset(arguments: argparse.Namespace) -> None:
    """Save a run's settings under a name."""
    job = _job(arguments)
    config, note = submit.config_of(job), f"from {job.name or job.id}"
    path = presets.save_new(workspace_of(arguments), arguments.name, config, note=note, replace=arguments.force)
    lines = [f"Saved as {path}. `train --preset {path.stem}` takes it, and so does `train --config {path}`."]
    answer(arguments, {"id": job.id, "preset": path.stem, "file": str(path)}, lines)
