"""The job directory: what crosses from process to process.

job.yaml says what was asked and is never rewritten; status.json says how it stands and is replaced atomically; the
lock says whether the child lives. `JobDirectory.status` puts the three together and tells the truth after any crash.
"""

from __future__ import annotations

import json
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import yaml

from app.errors import JobError, keyed
from app.files import replace_file
from app.jobs import labels, lock, schema
from app.jobs.kinds import KINDS, Kind
from app.jobs.labels import Label
from app.jobs.metrics import MetricsWriter, Row, last_row, steps_of, tail_rows
from app.reading import is_count, is_finite, parsed_json, parsed_yaml
from app.workspace import Workspace

State = Literal["queued", "starting", "running", "stopping", "finished", "stopped", "failed", "interrupted"]
LIVE: frozenset[str] = frozenset({"starting", "running", "stopping"})
FINAL: frozenset[str] = frozenset({"finished", "stopped", "failed", "interrupted"})
# Where a lock cannot be handed down the child takes it itself; a start without a lock for this long has failed.
START_GRACE_S = 60.0
# The heartbeat is written every 2 s; after this long without one the child is shown as not responding.
SILENT_AFTER_S = 15.0
_LARGEST_JOB_BYTES = 4 << 20
# What job.yaml holds besides the numbers, and of which type each is where it is there.
_FACTS = {"config": dict, "versions": dict, "varies": dict, "name": str, "sweep": str, "again": str}
_RECORDED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True)
class Status:
    """How a job stands. Times are seconds since the epoch; `step` and `of` count the job's own unit.

    `beat` is the time of the heartbeat on the clock that nobody sets and that all processes of a machine share; a child
    that lives has beaten since the machine started.
    """

    state: State = "queued"
    step: int = 0
    of: int = 0
    pid: int | None = None
    process_created: float | None = None
    heartbeat: float | None = None
    beat: float | None = None
    reason: str = ""
    reason_on_page: str = ""
    kind: str = ""
    phase: str = ""
    started: float | None = None
    ended: float | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Tell whether a child is starting, running or stopping."""
        return self.state in LIVE

    @property
    def final(self) -> bool:
        """Tell whether nothing more will happen unless the job is resumed."""
        return self.state in FINAL

    @property
    def page_reason(self) -> str:
        """Return the reason in the words of the page."""
        return self.reason_on_page or self.reason

    @property
    def silent(self) -> bool:
        """Tell whether the child lives but its heartbeat is overdue."""
        return self.live and self.beat is not None and time.monotonic() - self.beat > SILENT_AFTER_S

    def with_heartbeat(self) -> Status:
        """Return this status with a heartbeat of now."""
        return replace(self, heartbeat=time.time(), beat=time.monotonic())


@dataclass(frozen=True)
class Description:
    """What `jobs show` answers of a job. `last` is the newest row of a logged step, `result` the result's folder."""

    id: str
    dir: str
    job: str
    name: str
    note: str
    tags: tuple[str, ...]
    sweep: str
    created: float | None
    status: Status
    paused: bool
    responding: bool
    config: Mapping[str, object]
    last: Row | None
    result: str | None
    eta_seconds: float | None

    @property
    def state(self) -> str:
        """Return the state's word; a run that waits to be resumed is paused."""
        return "paused" if self.paused else self.status.state

    @property
    def loss(self) -> str:
        """Return the newest loss for people, empty where none was logged."""
        loss = (self.last or {}).get("loss")
        return "" if loss is None else f"{loss:.4f}"

    def as_dict(self) -> dict[str, object]:
        """Return plain data: the status's own fields stand among the others, its result as `figures`."""
        own = {name: value for name, value in vars(self).items() if name != "status"}
        return {**asdict(self.status), **own, "figures": self.status.result}


class JobDirectory:
    """One job on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.job_file = path / "job.yaml"
        self.status_file = path / "status.json"
        self.metrics_file = path / "metrics.jsonl"
        self.samples_file = path / "samples.jsonl"
        self.log_file = path / "log.txt"
        self.stop_file = path / "stop.request"
        self.lock_file = path / "lock"
        self.secret_file = path / "secret"
        self.label_file = path / "label.json"
        self.checkpoints = path / "checkpoints"
        self.result = path / "result"

    @cached_property
    def job(self) -> schema.Job:
        """Return what was asked, to be read only. Raises JobError when job.yaml is missing or damaged."""
        try:
            job = _parsed(self.job_file, self.job_file.stat().st_mtime_ns)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            text = "see `jobs list` for the jobs"
            raise JobError(
                keyed("the_job_cannot_be_read", "The job {id} cannot be read", id=self.id),
                str(error),
                text,
                on_page=keyed("choose_another_run", "choose another run"),
            ) from None
        return job

    @property
    def readable(self) -> bool:
        """Tell whether the folder holds a job; one damaged folder must not hide the others."""
        try:
            return bool(self.job)
        except JobError:
            return False

    @property
    def kind(self) -> Kind:
        """Return the kind of the job."""
        return KINDS[self.job["kind"]]

    @property
    def processes(self) -> int:
        """Return in how many processes the job runs."""
        asked = self.job.get("processes", 1)
        return asked if isinstance(asked, int) and self.kind.launcher else 1

    @property
    def config(self) -> schema.Job:
        """Return what the job was asked to do: for a training job, the RunConfig as plain data."""
        config: schema.Job = self.job["config"]
        return config

    @property
    def label(self) -> Label:
        """Return what a person calls the job and has noted about it."""
        return labels.read(self.label_file)

    @property
    def name(self) -> str:
        """Return the job's name for people: the one it was given since, else the one it was handed in with."""
        return self.label.name or str(self.job.get("name") or "")

    def recorded_status(self) -> Status:
        """Return status.json as it is written, without asking whether the child lives."""
        try:
            return _status_from(parsed_json(self.status_file.read_bytes()))
        except (OSError, ValueError):
            return Status(state="interrupted", reason="status.json is missing or damaged")

    def status(self) -> Status:
        """Return the true status: a job that says it lives and holds no lock was interrupted."""
        status = self.recorded_status()
        while status.live and not lock.is_held(self.lock_file):
            again = self.recorded_status()
            if again == status:
                return self._without_process(status)
            status = again  # its child has left a last word, or another child has begun, between the two looks
        return status

    def _without_process(self, status: Status) -> Status:
        """Return the truth about a job that says it lives while nobody holds its lock."""
        if status.state == "starting":
            if not lock.CAN_HAND_DOWN and status.beat is not None and time.monotonic() - status.beat < START_GRACE_S:
                return status
            return replace(status, state="queued")  # the supervisor was gone before there was a child
        if self.stop_forced():
            return replace(status, state="stopped", reason="stopped by force; steps after the last checkpoint are lost")
        return replace(status, state="interrupted", reason=status.reason or "the process ended without a last word")

    def write_status(self, status: Status) -> None:
        """Replace status.json; readers see the old or the new one, never a part."""
        replace_file(self.status_file, json.dumps(asdict(status), ensure_ascii=False))

    def overwrite_status(self, status: Status) -> None:
        """Write status.json over itself, for a disk that has no room for a second file. A reader may see a part."""
        with self.status_file.open("r+b") as file:
            file.write(json.dumps(asdict(status), ensure_ascii=False).encode())
            file.truncate()

    def stop_requested(self) -> bool:
        """Tell whether somebody wants the job to end."""
        return self.stop_file.exists()

    def stop_forced(self) -> bool:
        """Tell whether the stop was asked for by force."""
        return "force" in self._stop_words()

    def pause_requested(self) -> bool:
        """Tell whether the stop is a pause: the job is to go on later."""
        return "pause" in self._stop_words()

    def paused(self, status: Status) -> bool:
        """Tell whether the job was paused: stopped with a checkpoint, its memory free, to go on at the same step."""
        return status.state == "stopped" and self.pause_requested()

    def _stop_words(self) -> list[str]:
        try:
            return self.stop_file.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def last_metrics(self) -> Row | None:
        """Return the newest row of a logged step, or None."""
        return last_row(self.metrics_file)

    def add_event(self, event: str, message: str) -> None:
        """Append an event row: something that a reader of the curve should see."""
        writer = MetricsWriter(self.metrics_file)
        writer.write({"event": event, "message": message, "time": time.time(), "step": self.recorded_status().step})
        writer.close()

    def eta_seconds(self) -> float | None:
        """Return the seconds left, from the pace of the steps logged last, or None."""
        status = self.status()
        if status.state != "running" or not status.of:
            return None
        rows = [row for row in steps_of(tail_rows(self.metrics_file)) if "time" in row][-21:]
        paces_s = [
            (later["time"] - row["time"]) / (later["step"] - row["step"])
            for row, later in pairwise(rows)
            if later["step"] > row["step"] and later["time"] >= row["time"]
        ]
        # The median: a pause of a night or a clock that was set stands between two rows only.
        return float(median(paces_s) * (status.of - rows[-1]["step"])) if paces_s else None

    def describe(self) -> Description:
        """Return how the job stands and what it was asked."""
        status = self.status()
        return Description(
            id=self.id,
            dir=str(self.path),
            job=str(self.job["kind"]),
            name=self.name,
            note=self.label.note,
            tags=self.label.tags,
            sweep=str(self.job.get("sweep", "")),
            created=self.job.get("created"),
            status=status,
            paused=self.paused(status),
            responding=not status.silent,
            config=self.config,
            last=self.last_metrics(),
            result=str(self.result) if self.result.exists() else None,
            eta_seconds=self.eta_seconds(),
        )


def _status_from(raw: object) -> Status:
    """Build a Status from what status.json held. Raises ValueError when it is not one."""
    if not isinstance(raw, dict) or raw.get("state") not in get_args(State) or not is_count(raw.get("step")):
        raise ValueError("not a status")
    known = {name: value for name, value in raw.items() if name in Status.__dataclass_fields__}
    for name, value in known.items():
        if not _fits(name, value):
            raise ValueError(f"{name} is not one")
    return Status(**known)


def _fits(name: str, value: object) -> bool:
    """Tell whether a value can be this field of a status; the file may be another hand's."""
    if name in ("step", "of"):
        return is_count(value)
    if name == "pid":
        return value is None or (is_count(value) and 0 < value < 1 << 31)
    if name in ("process_created", "heartbeat", "beat", "started", "ended"):
        return value is None or is_finite(value)
    return isinstance(value, dict) if name == "result" else isinstance(value, str)


def new_id(kind: str, now: float) -> str:
    """Return a fresh id that sorts by time and says the kind."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{stamp}-{kind}-{secrets.token_hex(3)}"


def create(
    workspace: Workspace, kind: str, config: Mapping[str, object], secret: str | None = None, **facts: object
) -> JobDirectory:
    """Make the directory of a new job in state queued. `facts` (name, data hash, seed) go into job.yaml as they are.

    A secret goes into a file of its own that only the owner reads, never into job.yaml.
    """
    now = time.time()
    directory = JobDirectory(workspace.job_dir(new_id(kind, now)))
    directory.path.mkdir()
    if secret is not None:
        directory.secret_file.touch(mode=0o600)
        directory.secret_file.write_text(secret, encoding="utf-8")
    job = {
        "schema": schema.NEWEST,
        "id": directory.id,
        "kind": kind,
        "created": now,
        **facts,
        "versions": versions(),
        "config": dict(config),
    }
    directory.write_status(Status())
    # Last: this makes the folder a job, and nobody shall see one that has no status yet.
    replace_file(directory.job_file, yaml.safe_dump(job, sort_keys=False, allow_unicode=True))
    return directory


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a run, without importing them."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def all_jobs(workspace: Workspace, *kinds: str) -> list[JobDirectory]:
    """Return every job of the workspace that can be read, oldest first; of these kinds only, where some are named.

    The kind stands in the id, so that jobs of other kinds are not opened at all.
    """
    return jobs_in(workspace.jobs, *kinds)


def jobs_in(folder: Path, *kinds: str) -> list[JobDirectory]:
    """Return every job of a folder that can be read, oldest first; of these kinds only, where some are named."""
    if not folder.is_dir():
        return []
    named = [path for path in sorted(folder.iterdir()) if not kinds or _kind_in(path.name) in kinds]
    return [job for path in named if (job := JobDirectory(path)).readable]


def _kind_in(job_id: str) -> str:
    """Return the kind that `new_id` put into an id."""
    parts = job_id.split("-")
    return parts[-2] if len(parts) > 1 else ""


@lru_cache(maxsize=2000)
def _parsed(job_file: Path, modified_ns: int) -> dict[str, object]:
    """Read a job.yaml, which is never rewritten: a long history is parsed once, not at every look."""
    if job_file.stat().st_size > _LARGEST_JOB_BYTES:
        raise ValueError(f"job.yaml is larger than {_LARGEST_JOB_BYTES >> 20} MiB")
    job = parsed_yaml(job_file.read_text(encoding="utf-8"))
    if not isinstance(job, dict):
        raise ValueError("job.yaml holds no job")
    job = schema.migrated(job)
    if not isinstance(job.get("kind"), str) or job["kind"] not in KINDS:
        raise ValueError("no known kind")
    for name, kind in _FACTS.items():
        if not isinstance(job.get(name, kind()), kind):
            raise ValueError(f"its {name} is none")
    if "config" not in job or not is_finite(job.get("created", 0)):
        raise ValueError("it does not say what was asked, or when")
    return job


def find(workspace: Workspace, job_id: str) -> JobDirectory:
    """Return the job of this id. Raises JobError when there is none."""
    directory = JobDirectory(workspace.job_dir(job_id))
    if not directory.job_file.is_file():
        why = f"{workspace.jobs} has no such folder"
        raise JobError(
            keyed("there_is_no_job", "There is no job {job_id}", job_id=job_id),
            why,
            "see `jobs list`",
            on_page=keyed("choose_another_run", "choose another run"),
        )
    return directory


def holding(folder: Path) -> JobDirectory | None:
    """Return the job in whose result or checkpoints a folder lies, None where it lies in none."""
    for parent in list(folder.absolute().parents)[:3]:
        if (parent / "job.yaml").is_file():
            job = JobDirectory(parent)
            return job if job.readable else None
    return None
