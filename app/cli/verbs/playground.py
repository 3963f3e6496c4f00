"""`chat`, `serve` and `blend`: base and adapters side by side, the engine for other programs, adapters mixed."""

from __future__ import annotations

import argparse
import math
import signal
import socket
import time
from dataclasses import asdict
from types import FrameType

from app.cli.terminal import Verbs, answer, named_folders, port, positive, progress, secret, workspace_of, written
from app.cli.verbs.jobs import follow
from app.engine import requests as engine
from app.engine.client import wait_for_endpoint
from app.engine.requests import EngineRequest
from app.errors import EngineError, UsageError
from app.export.requests import METHODS, BlendAnswer, BlendRequest, WeightedAdapter, start_blend, wait_for_answer
from app.jobs import requests as jobs
from app.workspace import user_path


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    chat_parser = verbs.add(
        "chat",
        chat,
        help="one prompt, answered by the base and every adapter in one batch",
        example="python3 launch.py chat --model starter --adapter pirate=DIR --prompt 'What colour is grass?'",
    )
    serve_parser = verbs.add(
        "serve",
        serve,
        help="the OpenAI-compatible engine on this machine, until Ctrl-C",
        example="python3 launch.py serve --model starter --adapter pirate=DIR --port 8000",
        answers=False,
    )
    _add_blend(verbs)
    for parser in (chat_parser, serve_parser):
        parser.add_argument("--model", metavar="M", required=True, help="base model: a name, folder or hub id")
        parser.add_argument(
            "--adapter", metavar="NAME=DIR", action="append", default=[], help="an adapter with its name; repeatable"
        )
        parser.add_argument("--quant", choices=("nf4", "int8", "none"), default="nf4", help="how the base is stored")
        parser.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    chat_parser.add_argument("--prompt", metavar="TEXT", type=written, required=True)
    chat_parser.add_argument("--system", metavar="TEXT", type=written, default="", help="system prompt")
    chat_parser.add_argument("--greedy", action="store_true", help="always the likeliest token")
    chat_parser.add_argument("--seed", type=int, metavar="N")
    chat_parser.add_argument("--max-tokens", type=positive, default=256, metavar="N")
    serve_parser.add_argument("--port", type=port, default=8000, metavar="P")
    serve_parser.add_argument(
        "--token", metavar="T", type=secret, help="secret that requests must carry; made up when none is given"
    )
    serve_parser.add_argument(
        "--no-kept-prefix", action="store_true", help="read every prompt anew, also where it goes on from the last turn"
    )


def _add_blend(verbs: Verbs) -> None:
    parser = verbs.add(
        "blend",
        blend,
        help="a new adapter from several, each with its weight",
        example="python3 launch.py blend --adapter pirate=DIR:0.5 --adapter teacher=DIR:0.5 --method cat --out DIR",
    )
    parser.add_argument(
        "--adapter", metavar="NAME=DIR:WEIGHT", action="append", required=True, help="an adapter; repeatable"
    )
    parser.add_argument("--method", choices=METHODS, default="cat", help="cat is exact and adds the ranks (default)")
    parser.add_argument(
        "--rank", type=int, metavar="R", help="rank of the new adapter, where the method leaves it open"
    )
    parser.add_argument("--density", type=float, metavar="SHARE", help="share of entries that ties and dare keep")
    parser.add_argument("--out", metavar="DIR", required=True, help="a folder that is not there yet")


def chat(arguments: argparse.Namespace) -> None:
    """Ask all columns and print their answers."""
    columns = engine.compare(
        workspace_of(arguments),
        EngineRequest(arguments.model, named_folders(arguments.adapter), arguments.quant, arguments.dtype),
        arguments.prompt,
        system=arguments.system,
        greedy=arguments.greedy,
        seed=arguments.seed,
        max_tokens=arguments.max_tokens,
        handed_in=lambda: progress(f"Loading {arguments.model}."),
    )
    lines = []
    for column in columns:
        how = "batched" if column.batched else "alone"
        mark = f" {column.adapter_hash}" if column.adapter_hash else ""
        warning = f"; {column.warning}" if column.warning else ""
        lines += [f"[{column.name}{mark}, {how}, {column.tokens_per_s:.0f} tokens/s{warning}]", column.text, ""]
    answer(arguments, {"columns": [column.as_dict() for column in columns]}, lines[:-1])


def serve(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C, TERM, or until the engine is stopped from elsewhere."""
    signal.signal(signal.SIGTERM, _interrupt)
    workspace = workspace_of(arguments)
    _check_port(arguments.port)
    adapters, port = named_folders(arguments.adapter), arguments.port
    request = EngineRequest(
        arguments.model,
        adapters,
        arguments.quant,
        arguments.dtype,
        port,
        keep_prefixes=not arguments.no_kept_prefix,
    )
    job = engine.start_engine(workspace, request, token=arguments.token)
    progress(f"Loading {arguments.model}.")
    try:
        found = wait_for_endpoint(job)
        progress(f"Serving on {found.url}. Ctrl-C ends it.")
        if not arguments.token:
            progress(f"The token is {found.token}")
        while not (status := job.status()).final:
            time.sleep(0.5)
        if status.state != "stopped":
            raise EngineError(f"The engine {status.state}", status.reason, f"its log is {job.log_file}")
        taken = jobs.busy(workspace)
        progress(f"The engine was stopped from elsewhere. {taken.what}." if taken else "The engine was stopped.")
    finally:
        jobs.stop(workspace, job)
        jobs.wait(job, timeout_s=30)


def _check_port(number: int) -> None:
    """Refuse a port that is taken, before the model is loaded. Raises UsageError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"Port {number} cannot be used", why, "choose another with --port") from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Leave as on Ctrl-C, so that the engine is stopped on the way out."""
    raise KeyboardInterrupt


def blend(arguments: argparse.Namespace) -> None:
    """Blend as a job and print what came of it."""
    request = BlendRequest(
        adapters=[_weighted(folder) for folder in named_folders(arguments.adapter).values()],
        out=str(user_path(arguments.out)),
        method=arguments.method,
        rank=arguments.rank,
        density=arguments.density,
    )
    job = start_blend(workspace_of(arguments), request)
    follow(job)
    blended = wait_for_answer(job, BlendAnswer)
    said = f"{blended.verdict}: rank {blended.rank}, largest error {blended.max_abs_error:.2e}"
    answer(arguments, asdict(blended), [said, f"adapter  {blended.adapter}"])


def _weighted(text: str) -> WeightedAdapter:
    """Read `DIR:weight`; without a weight it is 1. Raises UsageError for a weight that is no finite number."""
    folder, _, word = text.rpartition(":")
    if not folder:
        return WeightedAdapter(str(user_path(text)))
    try:
        weight = float(word)
    except ValueError:
        return WeightedAdapter(str(user_path(text)))
    if not math.isfinite(weight):
        raise UsageError(f"The weight {word:.40} is not a number to weigh with", "", "write for example DIR:0.5")
    return WeightedAdapter(str(user_path(folder)), weight)
