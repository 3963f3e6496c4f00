"""`merge` and `export`: a standalone model with its receipt, and files for other programs."""

from __future__ import annotations

import argparse
from typing import Any

from app.cli.jobs import follow
from app.cli.terminal import Verbs, answer, size_bytes, workspace_of
from app.export import vllm
from app.export.requests import merge_answer, start_merge
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.workspace import user_path

MERGE_KEYS = (
    "model",
    "receipt",
    "verdict",
    "greedy_agreement",
    "mean_kl",
    "max_logit_diff",
    "peak_rss_bytes",
    "seconds",
)


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    parser = verbs.add(
        "merge",
        merge,
        help="adapter into its 16-bit base: a standalone model and a receipt",
        example="python3 launch.py merge --adapter DIR --out DIR",
    )
    parser.add_argument("--adapter", metavar="DIR", required=True)
    parser.add_argument("--out", metavar="DIR", required=True, help="a folder that is not there yet")
    parser.add_argument("--base", metavar="M", help="the base model, where the adapter's own note of it is not right")
    parser.add_argument("--max-ram", default="2GB", metavar="SIZE", help="memory above the interpreter's (default 2GB)")
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), help="format of the merged weights")
    _add_export(verbs)


def _add_export(verbs: Verbs) -> None:
    parser = verbs.add(
        "export",
        export,
        help="an adapter for another program; vllm writes a clean copy and the command that serves it",
        example="python3 launch.py export --adapter DIR --to vllm --out DIR",
    )
    parser.add_argument("--adapter", metavar="DIR", required=True)
    parser.add_argument("--to", choices=("vllm",), required=True)
    parser.add_argument("--out", metavar="DIR", required=True, help="a folder that is not there yet")
    parser.add_argument("--base", metavar="M", help="what vLLM shall load, where the adapter's own note is not right")
    parser.add_argument("--name", default="adapter", help="the adapter's name in requests (default adapter)")


def export(arguments: argparse.Namespace) -> None:
    """Write what the other program needs and print how to run it."""
    adapter = user_path(arguments.adapter)
    base = arguments.base or vllm.named_base(adapter)
    facts = vllm.hand_over(adapter, resolve(base), user_path(arguments.out), arguments.name)
    answer(arguments, facts, [f"cd {facts['out']}", facts["command"]])


def merge(arguments: argparse.Namespace) -> None:
    """Merge as a job and print the receipt's figures."""
    job = start_merge(
        workspace_of(arguments),
        user_path(arguments.adapter),
        user_path(arguments.out),
        max_ram_bytes=size_bytes(arguments.max_ram),
        dtype=arguments.dtype,
        base=arguments.base,
    )
    facts = followed_merge(job)
    lines = [
        f"{facts['verdict']}: greedy agreement {facts['greedy_agreement']}, mean KL {facts['mean_kl']}, "
        f"largest logit difference {facts['max_logit_diff']}",
        f"model    {facts['model']}",
        f"receipt  {facts['receipt']}",
    ]
    answer(arguments, facts, lines)


def followed_merge(job: JobDirectory) -> dict[str, Any]:
    """Follow a merge to its end and return the figures of its receipt."""
    follow(job)
    answered = merge_answer(job)
    return {key: answered[key] for key in MERGE_KEYS}
