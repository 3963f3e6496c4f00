"""What helps to find a fault from afar: versions, hardware, a job's status, events and last log lines, redacted."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from app import __version__
from app.errors import DiskError, WorkspaceError
from app.files import replacing
from app.hardware import readings
from app.jobs.directory import JobDirectory, versions
from app.jobs.metrics import events_of, tail_rows
from app.redaction import redact
from app.workspace import expanded

_LOG_BYTES, _LOG_LINES, _EVENTS = 200_000, 200, 100
_JOB_BYTES = 200_000


@dataclass(frozen=True)
class Bundle:
    """The texts of a bundle by file name. What `text` shows is all that `save` writes."""

    files: dict[str, str]

    def text(self) -> str:
        """Return everything in it for reading, file after file."""
        return "\n\n".join(f"===== {name} =====\n{body.rstrip()}" for name, body in self.files.items())

    def save(self, out: Path) -> None:
        """Write it as one zip file, whole or not at all. Raises DiskError."""
        try:
            with replacing(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, body in self.files.items():
                    archive.writestr(name, body)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise DiskError(f"{out} cannot be written", why, "choose another place") from None


def collect(job: JobDirectory | None = None, folder: Path | None = None) -> Bundle:
    """Return the bundle of this machine and, where one is given, of a job. `folder` says whose disk is looked at."""
    system = {"workbench": __version__, "system": platform.platform(), **versions()}
    found = {"versions.json": _json(system), "hardware.json": _json(readings(folder).as_dict())}
    if job is not None:
        events = events_of(tail_rows(job.metrics_file))[-_EVENTS:]
        found["status.json"] = _json({"id": job.id, **asdict(job.status())})
        found["job.yaml"] = _tail(job.job_file, _JOB_BYTES)
        found["events.jsonl"] = "\n".join(json.dumps(event, ensure_ascii=False, default=str) for event in events)
        found["log.txt"] = "\n".join(_tail(job.log_file, _LOG_BYTES).splitlines()[-_LOG_LINES:])
    return Bundle({name: _clean(body) for name, body in found.items()})


def _json(held: object) -> str:
    return json.dumps(held, indent=1, ensure_ascii=False, default=str)


def _clean(text: str) -> str:
    """Take out secrets and the name of the person's home folder; half characters cannot be written to a file."""
    text = redact(text.encode("utf-8", "replace").decode())
    with suppress(WorkspaceError):  # this user has no home
        home = str(expanded("~"))
        text = text.replace(home, "~") if len(home) > 1 else text
    return text


def _tail(path: Path, most_bytes: int) -> str:
    """Return the last whole lines of a file; the first one may be cut through a secret, so it is left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most_bytes))
            text = file.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
    return text.partition("\n")[2] if size > most_bytes else text
