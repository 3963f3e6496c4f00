"""Exports killed at random moments: what was there stays, and what is new is absent or complete."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from app.workspace import file_sha256
from tests.export.exporting import export
from tests.export.merging import merge
from tests.models import tiny_models

KINDS: dict[str, dict[str, Any]] = {
    "gguf": {"to": "gguf", "model": "merged"},
    "small": {"to": "gguf", "model": "merged", "dtype": "q4_k_m"},
    "ollama": {"to": "ollama", "model": "merged", "dtype": "q8_0"},
    "adapter": {"to": "adapter", "adapter": "adapter"},
    "hub": {"to": "hub", "model": "merged"},
    "zip": {"to": "adapter", "adapter": "adapter"},
}
# A small file takes longest, and several steps: the model asked, blocks written, read back, run in llama.cpp.
KILLS = dict.fromkeys(KINDS, 3) | {"small": 10}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter and the model that it was merged into, large enough to be hit while they are written."""
    home = tmp_path_factory.mktemp("kills")
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "head_dim": 128}
    base = tiny_models.save_model(home / "base", "qwen3", dtype=torch.bfloat16, **sizes)
    adapter = tiny_models.save_adapter(home / "adapter", base, r=64)
    tiny_models.tokenizer().save_pretrained(adapter)
    return {"adapter": adapter, "merged": merge(adapter, home / "merged", max_ram_bytes=1 << 26)}


def _export_here(out: Path, settings: dict[str, Any]) -> None:
    """Export in a process of its own, which may be killed."""
    torch.set_num_threads(1)
    export(out, **settings)


def contents(out: Path) -> dict[str, str]:
    """Return the hashes of everything in an export, without what tells its name, the time, or llama.cpp's pace."""
    if out.suffix == ".zip":
        with zipfile.ZipFile(out) as archive:
            assert archive.testzip() is None
            return {name.partition("/")[2]: str(archive.getinfo(name).CRC) for name in archive.namelist()}
    told = {path.name.replace(out.name, "NAME"): path for path in out.iterdir()}
    return {name: "told" if name.startswith("receipt.") else str(path.stat().st_size) for name, path in told.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.fault("F26")
def test_killed_at_random_moments_the_export_is_absent_or_complete(
    tmp_path: Path, folders: dict[str, Path], kind: str
) -> None:
    if kind == "small":
        pytest.importorskip("xllamacpp", reason="llama.cpp is not here")
    settings = {name: value if name in ("to", "dtype") else folders[value] for name, value in KINDS[kind].items()}
    name = "mine.zip" if kind == "zip" else "mine"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.export.test_export_kills"])

    def started(place: str) -> Any:
        process = context.Process(target=_export_here, args=(tmp_path / place / name, settings))
        process.start()
        return process

    for place in ("warm", "old"):
        began = time.monotonic()
        whole = started(place)
        whole.join()
        assert whole.exitcode == 0
    whole_s, generator, killed = time.monotonic() - began, random.Random(11), 0
    old = tmp_path / "old" / name
    complete, before = contents(old), {p: file_sha256(p) for p in old.parent.rglob("*") if p.is_file()}
    for attempt in range(KILLS[kind]):
        # Into a fresh place, whose remains the next attempt finds, and beside an export that is there.
        place = tmp_path / "fresh" / name
        process = started("fresh")
        time.sleep((attempt + generator.random()) / KILLS[kind] * whole_s)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert not place.exists() or contents(place) == complete, attempt
        if place.exists():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert killed >= KILLS[kind] // 3
    last = started("fresh")
    last.join()
    assert last.exitcode == 0 and contents(tmp_path / "fresh" / name) == complete
    assert not [path.name for path in (tmp_path / "fresh").iterdir() if path.name.startswith(".")]
    assert before == {p: file_sha256(p) for p in old.parent.rglob("*") if p.is_file() if p in before}
