"""The folder of a merged model: written beside its place under another name, moved there when it is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from app.errors import DiskError, ExportError, ModelError
from app.export.base_model import BaseModel, base_config
from app.export.plan import Plan
from app.jobs.directory import replace_file
from app.jobs.lock import FileLock
from app.models.adapters import AdapterFolder
from app.workspace import file_sha256

_PROGRESS = "progress.json"
TOKENIZER_FILES = (
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "spiece.model",
    "sentencepiece*.model",
)
_CONFIG_FILES = ("generation_config.json", "preprocessor_config.json", "processor_config.json", "LICENSE*")
# Room for configuration, tokenizer and receipt beside the weights.
_SMALL_FILES_BYTES = 64 << 20


class Draft:
    """A merged model that is not complete yet. It survives a kill, and the next merge of the same inputs goes on."""

    def __init__(self, out: Path, digest: str) -> None:
        self.path = draft_path(out)
        self._out, self._digest = out, digest
        self._done: dict[str, str] = self._recorded()

    def has(self, shard: str) -> bool:
        """Tell whether a shard is there, whole and unchanged."""
        path = self.path / shard
        return shard in self._done and path.is_file() and file_sha256(path) == self._done[shard]

    def record(self, shard: str, sha256: str) -> None:
        """Note that a shard is complete."""
        self._done[shard] = sha256
        replace_file(self.path / _PROGRESS, json.dumps({"digest": self._digest, "shards": self._done}))

    def publish(self) -> None:
        """Move the complete model to its place in one step."""
        (self.path / _PROGRESS).unlink(missing_ok=True)
        sync(self.path)
        try:
            self.path.rename(self._out)
        except OSError as error:
            raise ExportError(f"{self._out} cannot be made", error.strerror or "", "choose another folder") from None
        sync(self._out.parent)

    @property
    def shard_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the complete shards."""
        return dict(self._done)

    def _recorded(self) -> dict[str, str]:
        """Return the shards of an interrupted merge of the same inputs; remains of any other are removed."""
        try:
            found = json.loads((self.path / _PROGRESS).read_text(encoding="utf-8"))
            if found["digest"] == self._digest:
                return {str(name): str(sha256) for name, sha256 in found["shards"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        for path in self.path.iterdir():
            path.unlink()
        return {}


def draft_path(out: Path) -> Path:
    """Return where a merged model is written until it is complete."""
    return out.with_name(f".{out.name}.merging")


@contextmanager
def opened(out: Path, plan: Plan) -> Iterator[Draft]:
    """Open the draft of a merged model for one writer. Raises ExportError when `out` exists, DiskError when full."""
    with sole_writer(out):
        folder = draft_path(out)
        folder.mkdir(parents=True, exist_ok=True)
        draft = Draft(out, plan.digest)
        there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        check_disk(folder, plan.bytes - there)
        try:
            yield draft
        except (ExportError, ModelError):  # it would end so every time: nothing is left to go on with
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the right to write one export. Raises ExportError when it exists or another writes it."""
    refuse_existing(out)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        acquired = lock.acquire()
    except OSError as error:
        raise ExportError(f"{out} cannot be made", error.strerror or "", "choose another folder") from None
    if not acquired:
        raise ExportError(f"Another export is writing {out}", "", "wait for it")
    try:
        yield
    finally:
        lock.path.unlink(missing_ok=True)
        lock.release()


def refuse_existing(out: Path) -> None:
    """Raise ExportError when there is anything at `out`."""
    if out.exists() or out.is_symlink():
        raise ExportError(f"{out} exists", "an export is never overwritten", "choose another folder or remove it")


def copy_small_files(draft: Draft, base: BaseModel, adapter: AdapterFolder) -> None:
    """Copy tokenizer, template and generation settings; the adapter's own tokenizer files go before the base's."""
    own_tokenizer = (adapter.path / "tokenizer.json").is_file() or (adapter.path / "tokenizer.model").is_file()
    sources = [(base.folder, _CONFIG_FILES), (adapter.path if own_tokenizer else base.folder, TOKENIZER_FILES)]
    if not own_tokenizer:
        sources.append((adapter.path, ("chat_template.jinja",)))
    for folder, patterns in sources:
        for pattern in patterns:
            for path in folder.glob(pattern):
                if path.is_file():
                    shutil.copyfile(path, draft.path / path.name)


def write_config(draft: Draft, base: BaseModel, plan: Plan, dtype: torch.dtype | None) -> None:
    """Write config.json: the base's, with what the merge changed."""
    config = base_config(base.folder)
    parts = [config, *(part for part in (config.get("text_config"),) if isinstance(part, dict))]
    for part in parts:
        if plan.untied and (part is config or "tie_word_embeddings" in part):
            part["tie_word_embeddings"] = False
        if plan.vocabulary is not None and "vocab_size" in part:
            part["vocab_size"] = plan.vocabulary
        if dtype is not None:
            _set_dtype(part, str(dtype).removeprefix("torch."))
    (draft.path / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _set_dtype(part: dict[str, Any], name: str) -> None:
    for key in ("dtype", "torch_dtype"):
        if key in part:
            part[key] = name
    if "torch_dtype" not in part:
        part["dtype"] = name


def check_disk(folder: Path, bytes: int) -> None:
    """Raise DiskError when a disk has no room for a model of this size and the small files beside it."""
    needed, free = bytes + _SMALL_FILES_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"The export needs {needed / 1e9:.1f} GB more on this disk",
            f"{free / 1e9:.1f} GB are free",
            "free room or choose another folder",
        )


def sync(folder: Path) -> None:
    """Make a renaming durable; Windows cannot open folders and needs no such step."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
