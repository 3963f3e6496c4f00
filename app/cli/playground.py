"""`chat`, `serve` and `blend`: base and adapters side by side, the engine for other programs, adapters mixed."""

from __future__ import annotations

import argparse
import time

from app.cli.terminal import Verbs, answer, named_folders, progress, workspace_of
from app.engine import requests as engine
from app.engine.client import wait_for_endpoint
from app.errors import EngineError
from app.jobs import requests as jobs


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
    for parser in (chat_parser, serve_parser):
        parser.add_argument("--model", metavar="M", required=True, help="base model: a name, folder or hub id")
        parser.add_argument(
            "--adapter", metavar="NAME=DIR", action="append", default=[], help="an adapter with its name; repeatable"
        )
        parser.add_argument("--quant", choices=("nf4", "int8", "none"), default="nf4", help="how the base is stored")
        parser.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    chat_parser.add_argument("--prompt", metavar="TEXT", required=True)
    chat_parser.add_argument("--system", metavar="TEXT", default="", help="system prompt")
    chat_parser.add_argument("--greedy", action="store_true", help="always the likeliest token")
    chat_parser.add_argument("--seed", type=int, metavar="N")
    chat_parser.add_argument("--max-tokens", type=int, default=256, metavar="N")
    serve_parser.add_argument("--port", type=int, default=8000, metavar="P")
    serve_parser.add_argument(
        "--token", metavar="T", help="secret that requests must carry; made up when none is given"
    )


def chat(arguments: argparse.Namespace) -> None:
    """Ask all columns and print their answers."""
    columns = engine.compare(
        workspace_of(arguments),
        arguments.model,
        named_folders(arguments.adapter),
        arguments.prompt,
        system=arguments.system,
        greedy=arguments.greedy,
        seed=arguments.seed,
        max_tokens=arguments.max_tokens,
        quant=arguments.quant,
        dtype=arguments.dtype,
    )
    lines = []
    for column in columns:
        how = "batched" if column["batched"] else "alone"
        mark = f" {column['adapter_hash']}" if column["adapter_hash"] else ""
        lines += [f"[{column['name']}{mark}, {how}, {column['tokens_per_s']:.0f} tokens/s]", column["text"], ""]
    answer(arguments, {"columns": columns}, lines[:-1])


def serve(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C or until the engine is stopped from elsewhere."""
    workspace = workspace_of(arguments)
    job = engine.start_engine(
        workspace,
        arguments.model,
        named_folders(arguments.adapter),
        quant=arguments.quant,
        dtype=arguments.dtype,
        port=arguments.port,
        token=arguments.token,
    )
    try:
        found = wait_for_endpoint(job)
        progress(f"Serving on {found.url}. Ctrl-C ends it.")
        if not arguments.token:
            progress(f"The token is {found.token}")
        while not (status := job.status()).final:
            time.sleep(0.5)
        if status.state != "stopped":
            raise EngineError(f"The engine {status.state}", status.reason, f"its log is {job.log_file}")
    finally:
        jobs.stop(workspace, job)
        jobs.wait(job, timeout_s=30)
