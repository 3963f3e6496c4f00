"""Settings of the web framework that must be fixed before it is imported.

Gradio reads many environment variables; several of them would open the page to other machines. The page takes its
address from the command line only, so every such variable is removed, and the user is told which ones.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PREFIX = "GRADIO_"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def settle(uploads: Path, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Remove every GRADIO_ variable, switch telemetry off, keep incoming files in `uploads`.

    Return the names that were removed and would have changed what the page exposes, sorted.
    """
    found = sorted(name for name in environment if name.startswith(_PREFIX))
    for name in found:
        del environment[name]
    environment.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(uploads),
        HF_HUB_DISABLE_TELEMETRY="1",
        NO_PROXY=_with_loopback(environment.get("NO_PROXY", "")),
        no_proxy=_with_loopback(environment.get("no_proxy", "")),
    )
    return [name for name in found if name not in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR")]


@contextmanager
def no_type_stubs() -> Iterator[None]:
    """Keep the framework, which is imported within, from writing type stubs of its own components.

    Gradio (6.31) parses the source of each of its eighty components at every import, to write a `.pyi` beside it in its
    own package: half of the processor time that its import takes. It leaves out a class whose file cannot be told.
    """
    told = inspect.getfile

    def getfile(object_: Any) -> str:
        if isinstance(object_, type) and object_.__module__.startswith("gradio."):
            raise OSError("no stub is written for this one")
        return told(object_)

    inspect.getfile = getfile  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = told


def _with_loopback(hosts: str) -> str:
    """Keep requests to this machine away from a proxy, so that the page can be opened where one is set."""
    named = [host for host in hosts.split(",") if host]
    return ",".join(named + [host for host in _LOOPBACK if host not in named])
