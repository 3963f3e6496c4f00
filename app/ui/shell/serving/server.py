"""Serve the page: check what would be exposed, build it, launch it, wait for the end.

Every value that decides who can reach the page is passed explicitly; nothing is left to the framework's defaults or to
the environment.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil

from app.errors import JobError, UsageError, keyed
from app.files import replace_file
from app.jobs import requests, trash
from app.jobs.lock import FileLock
from app.reading import parsed_json
from app.ui.shell.serving import environment, guard
from app.workspace import Workspace

if TYPE_CHECKING:
    import gradio as gr
    from starlette.applications import Starlette

DEFAULT_PORT = 7860
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "[::1]", "[::1]": "[::1]"}
# A host's name or number, with a port other than https's own.
_PROXY = re.compile(
    r"(?:https://)?(?P<host>[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?(?::(?!443\b)[1-9]\d{0,4})?)(?::443)?/?"
)
_WILDCARDS = ("0.0.0.0", "::", "[::]")
_SHORTEST_TOKEN = 8
_TEND_S = 10.0
_STATIC = Path(__file__).parents[1] / "static"


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    open_browser: bool = True,
    behind: str = "",
) -> None:
    """Serve the page until Ctrl-C. Prints one line with the address on standard error when it is ready.

    `behind` is the https address of a proxy, such as a notebook's, under which alone a browser then finds the page.
    Raises UsageError when the address is taken, the workspace is served already, or the page would be open to other
    machines without a token.
    """
    proxy = proxy_of(behind) if behind else ""
    check_exposure(host, token, proxy)
    check_port(host, port)
    lock = _claim(workspace)
    try:
        incoming = workspace.uploads / ".incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # what an earlier page was given and nobody looked at
        ignored = environment.settle(incoming)
        if ignored:
            _say(f"Ignored {', '.join(ignored)}: the page takes its address from --host, --port and --token only.")
        page = _launch(workspace, host, port, token, proxy)
        address = f"https://{proxy}/" if proxy else url(host, port)
        replace_file(_note_file(workspace), json.dumps({"url": address, "pid": os.getpid()}))
        _say(f"LoRA Workbench is ready at {address}" + (" (with ?token= and the token, once)" if token else ""))
        if open_browser:
            webbrowser.open(address + (f"?token={token}" if token else ""))
        _wait(workspace)
        page.close(verbose=False)
    except KeyboardInterrupt:
        pass
    finally:
        lock.release()
    _say("The page is closed. Runs go on; `jobs list` shows them.")


def url(host: str, port: int) -> str:
    """Return the address a person opens on this machine."""
    name = "127.0.0.1" if host in _WILDCARDS else _LOOPBACK.get(host, host)
    return f"http://{name}:{port}/"


def proxy_of(address: str) -> str:
    """Return the authority of a proxy's https address, in lower case. Raises UsageError for anything else."""
    found = _PROXY.fullmatch(address.strip().lower())
    if found is None:
        raise UsageError(
            f"{address!r:.120} is no address of a proxy",
            "it is https:// and a host, with a port where it is not 443, and nothing behind it",
            "write for example --behind https://name.example.org",
        )
    return found["host"]


def check_exposure(host: str, token: str | None, proxy: str = "") -> None:
    """Refuse to be reachable from other machines without a token, and tokens that are guessed easily."""
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            "The token is too short",
            keyed("it_has_characters", "it has {text} characters", text=len(token)),
            f"use {_SHORTEST_TOKEN} or more",
        )
    if token is not None and not token.isprintable():
        raise UsageError("The token has characters that cannot be typed", "", "use letters, digits and hyphens")
    if proxy and token is None:
        raise UsageError(
            f"https://{proxy} would open the page to whoever knows that address",
            "a proxy does not say who asks",
            "add --token and a long word",
        )
    if host not in _LOOPBACK and token is None:
        raise UsageError(
            f"{host} would open the page to other machines",
            "without a token everybody there could use it",
            "add --token and a long word, or leave --host out",
        )


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken, and say by whom when it is a workbench."""
    if not 0 < port < 65536:
        raise UsageError(f"{port} is not a port", "ports are 1 to 65535", "choose one, such as --port 7861")
    address = (_LOOPBACK.get(host, host)).strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        if sys.platform != "win32":  # there the option would allow a second owner
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            _refuse_port(host, port, error)


def _refuse_port(host: str, port: int, error: OSError) -> None:
    if _is_workbench(port):
        raise UsageError(
            f"A workbench already runs at {url(host, port)}",
            "one page serves any number of browser tabs",
            "open that address, or choose another with --port",
        )
    raise UsageError(
        f"Port {port} on {host} cannot be used",
        (error.strerror or str(error)).lower(),
        f"choose another, such as --port {port + 1 if port < 65535 else port - 1}",
    )


def _is_workbench(port: int) -> bool:
    """Tell whether our own page answers at this port of this machine."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)) as connection:
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().getheader(guard.MARK_HEADER) is not None
        except (OSError, http.client.HTTPException):
            return False


def _claim(workspace: Workspace) -> FileLock:
    """Take the workspace for this page. Raises UsageError with the address of the page that has it."""
    lock = FileLock(workspace.root / "page.lock")
    if lock.acquire():
        return lock
    try:
        where = str(parsed_json(_note_file(workspace).read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        where = "another port"
    raise UsageError(
        f"A workbench already serves {workspace.root} at {where}",
        "one page serves a workspace",
        "open that address, or choose another folder with --workspace",
    )


def _note_file(workspace: Workspace) -> Path:
    return workspace.root / "page.json"


def allowed_names(host: str) -> tuple[str, ...]:
    """Return the names under which the page answers: loopback, and with a token the address that was asked for."""
    if host in _LOOPBACK:
        return guard.LOOPBACK_NAMES
    if host not in _WILDCARDS:
        return (*guard.LOOPBACK_NAMES, host)
    families = {socket.AF_INET: "{}", socket.AF_INET6: "[{}]"}
    addresses = [
        families[entry.family].format(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families
    ]
    return (*guard.LOOPBACK_NAMES, socket.gethostname(), *addresses)


@asynccontextmanager
async def _guarded(rules: guard.Rules, app: Starlette) -> AsyncIterator[None]:
    """Put the guard around everything, while the app starts and before its port is open.

    Passed as middleware it would lie inside the framework's own CORS middleware, which grants other local ports.
    """
    from app.ui.shell import theme  # here, like the page itself
    from app.ui.shell.serving import frontend, polling

    assert app.middleware_stack is not None  # this very call came through it
    polled = polling.Polled(app.middleware_stack, lambda: app.get_blocks()._queue)  # type: ignore[attr-defined]

    def kinds() -> frozenset[str]:
        return frozenset(block.get_block_name() for block in app.get_blocks().blocks.values())  # type: ignore[attr-defined]

    own = frontend.Own(
        f"<script>window.workbenchServer = {frontend.THIS_SERVER!r};</script>{theme.scripts()}", theme.frame()
    )
    app.middleware_stack = guard.Guard(frontend.Frontend(polled, kinds, own), rules)
    yield


def _launch(workspace: Workspace, host: str, port: int, token: str | None, proxy: str = "") -> gr.Blocks:
    """Build the page and launch it with every value that matters given."""
    with environment.no_type_stubs():
        import gradio  # noqa: F401  # here, so that the environment is settled before the framework is imported
    from app.ui.shell import page, theme
    from app.ui.shell.serving.blocks import MOST_SESSIONS

    rules = guard.Rules(guard.authorities(allowed_names(host), port), token, proxy=proxy, launching=True)
    blocks = page.build(workspace)
    try:
        blocks.launch(
            server_name=_LOOPBACK.get(host, host),
            server_port=port,
            share=False,
            inbrowser=False,
            inline=False,
            debug=False,
            quiet=True,
            show_error=False,
            prevent_thread_lock=True,
            allowed_paths=[],
            blocked_paths=[
                str(room) for room in (workspace.jobs, *trash.folders(workspace), workspace.datasets, workspace.presets)
            ],
            root_path=f"https://{proxy}" if proxy else "",  # where the browser finds all that the page asks for
            max_file_size=guard.LARGEST_UPLOAD_BYTES,
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,
            state_session_capacity=MOST_SESSIONS,
            ssr_mode=False,
            pwa=False,
            num_workers=0,
            strict_cors=True,
            footer_links=[],
            favicon_path=_STATIC / "icon.png",
            theme=theme.theme(),
            css=theme.style(),
            app_kwargs={"lifespan": partial(_guarded, rules), "openapi_url": None},
        )
    except OSError as error:
        _refuse_port(host, port, error)
    rules.launching = False
    return blocks


def _wait(workspace: Workspace) -> None:
    """Wait for Ctrl-C or a request to end; now and then see that jobs which wait have somebody to start them."""
    ended = threading.Event()

    def end(number: int, context: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    tended = -math.inf
    while not ended.wait(0.5):  # a wait without a limit cannot be interrupted on Windows
        if time.monotonic() - tended > _TEND_S:
            tended = time.monotonic()
            with suppress(JobError, OSError):  # a damaged or full disk; the jobs tell so themselves
                requests.ensure_supervised(workspace)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
