"""`merge` and `export`: a standalone model with its receipt, and files for other programs."""

from __future__ import annotations

import argparse
import getpass
import sys
from dataclasses import asdict, replace
from pathlib import Path

from app.cli.terminal import Verbs, answer, progress, size_bytes, workspace_of
from app.cli.verbs.jobs import follow
from app.errors import ExportError, UsageError
from app.export.requests import (
    GGUF_DTYPES,
    OLLAMA_QUESTION,
    TARGETS,
    ExportAnswer,
    ExportRequest,
    MergeAnswer,
    MergeRequest,
    ollama_name,
    start_export,
    start_merge,
    wait_for_answer,
)
from app.export.targets.ollama_api import Ollama
from app.hub import push
from app.hub import token as hub_token
from app.runs.on_disk import made_exports
from app.runs.on_disk.exports import is_zip
from app.workspace import Workspace, user_path


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
    parser.add_argument("--imatrix", metavar="FILE", default="", help="gguf: rows by which small formats weigh columns")
    parser.add_argument(
        "--smallest", metavar="BOUND", default="", help="gguf: the smallest within agreement=0.97, kl=0.02, suite=0.9"
    )
    parser.add_argument("--rows", metavar="FILE", default="", help="gguf: held-out rows that the file is judged on")
    parser.add_argument(
        "--suite", metavar="FILE", default="", help="gguf: prompts to answer, one `prompt => words` a line"
    )
    parser.add_argument("--lora-only", action="store_true", help="gguf: the adapter alone, for llama.cpp's --lora")
    parser.add_argument("--safetensors", action="store_true", help="ollama: the merged weights as they are, no GGUF")
    parser.add_argument(
        "--create", metavar="NAME", default="", help="ollama: let Ollama make the model, and ask it once"
    )
    parser.add_argument("--replace", action="store_true", help="ollama: also where it has a model of that name")
    parser.add_argument("--name", default="adapter", help="the adapter's name in requests (default adapter)")
    parser.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        default="",
        help="hub: push there; the token is HF_TOKEN's, the login's or the keyring's",
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="hub: push where everybody can read it, and make a new repository so (default private)",
    )
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
        imatrix=str(user_path(arguments.imatrix)) if arguments.imatrix else "",
        smallest=arguments.smallest,
        rows=str(user_path(arguments.rows)) if arguments.rows else "",
        suite=str(user_path(arguments.suite)) if arguments.suite else "",
        create=arguments.create,
        replace=arguments.replace,
        ollama=Ollama.of().address if arguments.create else "",
    )
    if request.repo and request.to != "hub":
        raise UsageError("--repo is for the hub", "", "use it with --to hub")
    if request.to == "ollama" and not request.create and sys.stdin.isatty():
        request = _asked(request)
    token = _token() if request.repo else ""
    made = (
        _prepared(workspace_of(arguments), request, token) if request.repo else _made(workspace_of(arguments), request)
    )
    pushed = {"url": _pushed(made, request.repo, token, private=not arguments.public)} if request.repo else {}
    answer(arguments, {**made.as_dict(), **pushed}, [*_lines(made), pushed.get("url", made.run)])
    if made.create_error:
        raise ExportError(f"The files stand, and Ollama has no {request.create}", made.create_error, f"run {made.run}")


def _made(workspace: Workspace, request: ExportRequest) -> ExportAnswer:
    job = start_export(workspace, request)
    follow(job)
    return wait_for_answer(job, ExportAnswer)


def _prepared(workspace: Workspace, request: ExportRequest, token: str) -> ExportAnswer:
    """Return the folder to push: the one that this very request made before, where its push was broken off, or anew."""
    before = made_exports.made_before(workspace, asdict(request), [Path(request.adapter or request.model)])
    if before is None:
        push.refuse_token(request.repo, token)
        return _made(workspace, request)
    progress(f"{before.place} was made before; only its push is left")
    return wait_for_answer(before.job, ExportAnswer)


def _pushed(made: ExportAnswer, repo: str, token: str, *, private: bool) -> str:
    progress(f"pushing to {repo}")
    try:
        return push.push(Path(made.out), repo, token, private=private, progress=_pushing)
    finally:
        progress("")  # an error begins in a line of its own


def _pushing(done_bytes: int, all_bytes: int) -> None:
    progress(f"\r{done_bytes / 1e6:,.1f} of {all_bytes / 1e6:,.1f} MB", end="")


def _asked(request: ExportRequest) -> ExportRequest:
    """Ask whether an Ollama that is here shall make the model, and whether it may replace one of the name."""
    server, name = Ollama.of(), ollama_name(Path(request.out).name)
    if is_zip(Path(request.out)) or not server.is_here():
        return request
    taken = server.has(name)
    question = f"Ollama has a model {name}. Replace it?" if taken else f"Ollama is here. Create {name} in it?"
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    return replace(request, create=name, replace=taken, ollama=server.address) if agreed else request


def _lines(made: ExportAnswer) -> list[str]:
    lines = [f"{made.bytes / 1e6:,.1f} MB in {made.out}: {', '.join(made.files)}"]
    if made.agreement is not None:
        lines.append(
            f"in llama.cpp: agreement {made.agreement:.3f}, mean KL {made.mean_kl:.4f}, "
            f"{made.tokens_per_s:.1f} tokens/s ({made.dtype})"
        )
    if made.rows:
        lines.append(f"on held-out rows: agreement {made.rows['agreement']:.3f}, mean KL {made.rows['mean_kl']:.4f}")
    if made.suite:
        lines.append(f"suite: {made.suite['passed']:.1%} passed, by the 16-bit model {made.suite['passed_16bit']:.1%}")
    if made.memory:
        lines.append("memory: " + ", ".join(f"{size / 1e9:.2f} GB at {name}" for name, size in made.memory.items()))
    if made.created:
        lines.append(f"Ollama made {made.created}; to {OLLAMA_QUESTION!r} it answers: {made.answer}")
    if made.verdict:
        lines.append(f"receipt: {made.verdict}" + (f", {made.receipt}" if made.receipt else ""))
    lines += [f"warning: {reason}" for reason in made.reasons or []]
    return lines + [f"note: {note}" for note in made.notes or []]


def _token() -> str:
    """Return the hub token of this machine, or from a prompt; it is never written anywhere."""
    token = hub_token.token()
    if not token and sys.stdin.isatty():
        token = getpass.getpass("Hub token (not shown, not kept): ").strip()
    if not token:
        raise UsageError(
            "There is no hub token",
            hub_token.why_none(),
            f"set HF_TOKEN, or keep it with `keyring set {hub_token.SERVICE} {hub_token.NAME}`, or leave --repo out",
        )
    return token


def merge(arguments: argparse.Namespace) -> None:
    """Merge as a job and print the receipt's figures."""
    request = MergeRequest(
        adapter=str(user_path(arguments.adapter)),
        out=str(user_path(arguments.out)),
        max_ram_bytes=size_bytes(arguments.max_ram),
        dtype=arguments.dtype,
        base=arguments.base,
        dequantise=arguments.dequantise,
    )
    job = start_merge(workspace_of(arguments), request)
    follow(job)
    merged = wait_for_answer(job, MergeAnswer)
    lines = [
        f"{merged.verdict}: greedy agreement {merged.greedy_agreement}, mean KL {merged.mean_kl}, "
        f"largest logit difference {merged.max_logit_diff}",
        f"model    {merged.model}",
        f"receipt  {merged.receipt}",
    ]
    answer(arguments, asdict(merged), lines)
