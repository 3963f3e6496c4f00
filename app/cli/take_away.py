"""`merge` and `export`: a standalone model with its receipt, and files for other programs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from app.cli.jobs import follow
from app.cli.terminal import Verbs, answer, progress, size_bytes, workspace_of
from app.errors import UsageError
from app.export import push
from app.export.requests import GGUF_DTYPES, TARGETS, ExportRequest, figures, start_export, start_merge
from app.workspace import user_path


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
    parser.add_argument("--dequantise", action="store_true", help="merge into a base that exists in 4 bits only")
    _add_export(verbs)


def _add_export(verbs: Verbs) -> None:
    parser = verbs.add(
        "export",
        export,
        help="files for other programs: a clean adapter, GGUF, Ollama, vLLM, or a folder for the hub",
        example="python3 launch.py export --adapter DIR --to gguf --out DIR",
    )
    parser.add_argument("--adapter", metavar="DIR", default="", help="an adapter; it is merged where that is needed")
    parser.add_argument("--model", metavar="DIR", default="", help="a merged model, in place of an adapter")
    parser.add_argument("--to", choices=TARGETS, required=True)
    parser.add_argument("--out", metavar="DIR", required=True, help="a folder that is not there yet, or FILE.zip")
    parser.add_argument("--base", metavar="M", help="the base model, where the adapter's own note of it is not right")
    parser.add_argument("--dtype", choices=GGUF_DTYPES, default="f16", help="format of GGUF weights (default f16)")
    parser.add_argument("--lora-only", action="store_true", help="gguf: the adapter alone, for llama.cpp's --lora")
    parser.add_argument("--safetensors", action="store_true", help="ollama: the merged weights as they are, no GGUF")
    parser.add_argument("--name", default="adapter", help="the adapter's name in requests (default adapter)")
    parser.add_argument("--repo", metavar="OWNER/NAME", default="", help="hub: push there; the token is HF_TOKEN's")
    parser.add_argument("--public", action="store_true", help="hub: make a new repository public (default private)")
    parser.add_argument("--max-ram", default="2GB", metavar="SIZE", help="memory above the interpreter's (default 2GB)")
    parser.add_argument("--dequantise", action="store_true", help="merge into a base that exists in 4 bits only")


def export(arguments: argparse.Namespace) -> None:
    """Export as a job, push where that was asked for, and print how the outcome is run."""
    request = ExportRequest(
        to=arguments.to,
        out=str(user_path(arguments.out)),
        adapter=str(user_path(arguments.adapter)) if arguments.adapter else "",
        model=str(user_path(arguments.model)) if arguments.model else "",
        base=arguments.base,
        dtype=arguments.dtype,
        lora_only=arguments.lora_only,
        safetensors=arguments.safetensors,
        name=arguments.name,
        repo=push.checked(arguments.repo) if arguments.repo else "",
        max_ram_bytes=size_bytes(arguments.max_ram),
        dequantise=arguments.dequantise,
    )
    if request.repo and request.to != "hub":
        raise UsageError("--repo is for the hub", "", "use it with --to hub")
    token = _token() if request.repo else ""
    job = start_export(workspace_of(arguments), request)
    facts = figures(follow(job), job)
    if request.repo:
        progress(f"pushing to {request.repo}")
        facts["url"] = push.push(Path(facts["out"]), request.repo, token, private=not arguments.public)
    answer(arguments, facts, _lines(facts))


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['bytes'] / 1e6:,.1f} MB in {facts['out']}: {', '.join(facts['files'])}"]
    if facts.get("verdict"):
        lines.append(f"receipt: {facts['verdict']}, {facts['receipt']}")
    lines += [f"note: {note}" for note in facts.get("notes") or []]
    return [*lines, facts["url"] if facts.get("url") else facts["run"]]


def _token() -> str:
    """Return the hub token from HF_TOKEN or a prompt; it is never written anywhere."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token and sys.stdin.isatty():
        token = getpass.getpass("Hub token (not shown, not kept): ").strip()
    if not token:
        raise UsageError("There is no hub token", "HF_TOKEN is not set", "set HF_TOKEN, or leave --repo out")
    return token


def merge(arguments: argparse.Namespace) -> None:
    """Merge as a job and print the receipt's figures."""
    job = start_merge(
        workspace_of(arguments),
        user_path(arguments.adapter),
        user_path(arguments.out),
        max_ram_bytes=size_bytes(arguments.max_ram),
        dtype=arguments.dtype,
        base=arguments.base,
        dequantise=arguments.dequantise,
    )
    facts = figures(follow(job), job)
    lines = [
        f"{facts['verdict']}: greedy agreement {facts['greedy_agreement']}, mean KL {facts['mean_kl']}, "
        f"largest logit difference {facts['max_logit_diff']}",
        f"model    {facts['model']}",
        f"receipt  {facts['receipt']}",
    ]
    answer(arguments, facts, lines)
