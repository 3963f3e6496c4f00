"""Complete checkpoints only.

The trainer saves into a working folder; `seal` lists every file with size and SHA-256 in complete.json, written last
and flushed, and moves the folder to `step-N` in one step. A folder without a valid complete.json does not count: a kill
in mid-save, a full disk or a flipped byte costs that one checkpoint and never a good one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from app.files import replace_file, sync_folder
from app.reading import parsed_json
from app.workspace import file_sha256

MANIFEST = "complete.json"
_NAME = re.compile(r"step-([0-9]+)")
# training_args.bin is a pickle that holds a hub token in clear; the README of PEFT names local paths.
_NOT_KEPT = ("training_args.bin", "README.md")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder, its step, and what is wrong with it (empty when it is complete)."""

    path: Path
    step: int
    problem: str = ""


def seal(work: Path, checkpoints: Path, step: int) -> Path:
    """Turn the trainer's folder `work` into the complete checkpoint `step-N` and return it."""
    for name in _NOT_KEPT:
        (work / name).unlink(missing_ok=True)
    files = {str(file.relative_to(work)): _facts(file) for file in sorted(work.rglob("*")) if file.is_file()}
    replace_file(work / MANIFEST, json.dumps({"step": step, "files": files}, indent=1), durable=True)
    target = checkpoints / f"step-{step}"
    checkpoints.mkdir(exist_ok=True)
    if target.exists():  # the same step of an earlier attempt, saved but found damaged
        shutil.rmtree(target)
    work.rename(target)
    sync_folder(checkpoints)
    return target


def _facts(file: Path) -> dict[str, object]:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def damage(path: Path) -> str:
    """Return what is wrong with a checkpoint folder, naming the file, or an empty string when it is complete."""
    try:
        manifest = parsed_json((path / MANIFEST).read_bytes())
        files = manifest["files"]
        if not files:
            return f"{MANIFEST} names no file"
        if path.name != f"step-{manifest['step']}":
            return f"{MANIFEST} is of step {manifest['step']!r:.20}"
        unnamed = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} - {MANIFEST, *files}
        if unnamed:
            return f"{min(unnamed)} is none of the files that {MANIFEST} names"
        for name, facts in files.items():
            file = path / name
            if not file.resolve().is_relative_to(path.resolve()):
                return f"{name} lies outside of the checkpoint"
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != facts["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {facts['bytes']}"
            if file_sha256(file) != facts["sha256"]:
                return f"{name} has changed since it was saved"
    except FileNotFoundError:
        return f"{MANIFEST} is missing: the save was cut off"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return ""


def found(checkpoints: Path) -> list[Checkpoint]:
    """Return every checkpoint folder, newest first, each with what is wrong with it. Reads all bytes."""
    return [Checkpoint(path, step, damage(path)) for step, path in _folders(checkpoints)]


def steps(checkpoints: Path) -> list[int]:
    """Return the steps of the sealed checkpoints, oldest first, without reading their files."""
    return [step for step, path in reversed(_folders(checkpoints)) if (path / MANIFEST).is_file()]


def _folders(checkpoints: Path) -> list[tuple[int, Path]]:
    if not checkpoints.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in checkpoints.iterdir()]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def newest(checkpoints: Path) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """Return the newest complete checkpoint, and the newer ones that were passed over because they are damaged."""
    passed: list[Checkpoint] = []
    for step, path in _folders(checkpoints):
        checkpoint = Checkpoint(path, step, damage(path))
        if not checkpoint.problem:
            return checkpoint, passed
        passed.append(checkpoint)
    return None, passed


def prune(checkpoints: Path, keep: int, spare: int | None = None) -> None:
    """Remove all but the `keep` newest sealed checkpoints and that of step `spare`. The newest one always stays."""
    for step in steps(checkpoints)[: -max(1, keep)]:
        if step != spare:
            shutil.rmtree(checkpoints / f"step-{step}")
