"""Where an engine can be reached: endpoint.json in its job directory, readable by its owner alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from app.files import replace_file
from app.jobs.directory import JobDirectory
from app.reading import parsed_json

_FILE = "endpoint.json"


@dataclass(frozen=True)
class Endpoint:
    """Address, bearer token and process of a serving engine. `url` ends in /v1, as OpenAI clients want it."""

    url: str
    token: str
    pid: int

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r}, pid={self.pid})"


def publish(job: JobDirectory, endpoint: Endpoint) -> None:
    """Write the endpoint with mode 0600; readers see it whole or not at all."""
    replace_file(job.path / _FILE, json.dumps(asdict(endpoint)), mode=0o600)


def withdraw(job: JobDirectory) -> None:
    """Remove the endpoint of an engine that ends."""
    (job.path / _FILE).unlink(missing_ok=True)


def read(job: JobDirectory) -> Endpoint | None:
    """Return the endpoint of an engine, or None when it does not serve."""
    try:
        found = parsed_json((job.path / _FILE).read_text(encoding="utf-8"))
        return Endpoint(str(found["url"]), str(found["token"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
