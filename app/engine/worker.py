"""The engine's child: load the base, the adapters, serve until stopped."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import psutil
import uvicorn
from starlette.types import ASGIApp

from app import devices
from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.engine.http import endpoint
from app.engine.http.endpoint import Endpoint
from app.engine.http.server import build_app
from app.engine.http.service import Service
from app.engine.requests import EngineRequest
from app.engine.scheduler import Decoder
from app.engine.variants import VariantSet
from app.errors import EngineError
from app.jobs.child import JobChild, Outcome, Result
from app.jobs.directory import JobDirectory
from app.models.adapter_files import locate
from app.models.identity import fingerprint
from app.models.loading import Quant, load_base, load_tokenizer
from app.models.prompts import Prompts

_POLL_S = 0.1
_START_TIMEOUT_S = 30.0
# Shares of the free memory that keys and values may take; the rest is for activations and the system.
_CACHE_SHARE_CARD, _CACHE_SHARE_RAM = 0.7, 0.25


def work(child: JobChild) -> tuple[Outcome, Result]:
    """Serve until a stop request. The result says how many columns there were."""
    request = child.request(EngineRequest)
    socket_ = _bind(request.port)
    child.progress(0, 2, "loading the base model")
    columns = _load(child, request)
    decoder = Decoder(columns, cache_bytes=_cache_bytes(), keep_prefixes=request.keep_prefixes)
    decoder.start()
    prompts = Prompts(columns.model, columns.tokenizer, PLAIN_TEMPLATES, render_limit)
    service = Service(columns, prompts, decoder, request.name)
    token = _token(child.directory)
    port = socket_.getsockname()[1]
    with _served(build_app(service, token, port), socket_):
        endpoint.publish(child.directory, Endpoint(f"http://127.0.0.1:{port}/v1", token, os.getpid()))
        child.progress(2, 2, "serving")
        try:
            while not child.stop_requested() and decoder.alive:
                time.sleep(_POLL_S)
            if not decoder.alive:
                raise EngineError("The engine's decoder ended", "the log has the traceback", "start it again")
        finally:
            endpoint.withdraw(child.directory)
            decoder.close()
    return "stopped", {"columns": len(service.known)}


def _load(child: JobChild, request: EngineRequest) -> VariantSet:
    """Load the base, then one adapter after another. Stops in between when asked to."""
    model = request.model
    load = partial(load_base, quant=cast(Quant, request.quant), dtype=request.dtype)
    columns = VariantSet(load(model), load_tokenizer(model), fingerprint(model), load)
    for name, folder in request.adapters.items():
        if child.stop_requested():
            break
        child.progress(1, 2, f"loading {name}")
        columns.add(name, locate(folder))
    return columns


def _cache_bytes() -> int:
    """Return the memory that keys and values may take."""
    free = devices.here().free_bytes()
    if free is not None:
        return int(free * _CACHE_SHARE_CARD)
    return int(psutil.virtual_memory().available * _CACHE_SHARE_RAM)


def _token(job: JobDirectory) -> str:
    """Return the given secret, or a fresh one."""
    try:
        given = job.secret_file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        given = ""
    return given or secrets.token_urlsafe(32)


def _bind(port: int) -> socket.socket:
    """Take a port of this machine before anything heavy is loaded. Raises EngineError when it is taken."""
    found = socket.socket()
    if sys.platform != "win32":
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError as error:
        found.close()
        raise EngineError(f"Port {port} cannot be used", error.strerror or str(error), "choose another port") from None
    return found


@contextmanager
def _served(app: ASGIApp, socket_: socket.socket) -> Iterator[None]:
    """Serve an application from a thread of its own."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]}, name="server", daemon=True)
    thread.start()
    end = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise EngineError("The engine's server did not start", "the log has the details", "start it again")
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5.0)
