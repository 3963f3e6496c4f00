"""Measure time and memory of checking and building very many rows, through the command line and the data child.

    python -m benchmarks.data_scale --rows 1000000 [--tokenizer DIR] [--folder DIR] [--json OUT]

The rows are those of `benchmarks.data_throughput`, about 1.2 kB each. `data check` is run as a person runs it; the
build goes through the data child as the page asks it. Resident memory is read ten times a second: the peak of each
process, and the peak of all of them together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from app.data.client import DataClient
from app.data.dataset.options import DataOptions
from app.jobs import supervisor

ROOT = Path(__file__).parents[1]
# What a million rows may take, all processes together.
_LIMIT_BYTES = 1_200_000_000
_PREPARE = """
import sys
from pathlib import Path
from benchmarks.data_throughput import make_tokenizer, write_rows
write_rows(Path(sys.argv[1]), int(sys.argv[2]))
if len(sys.argv) > 3:
    make_tokenizer(Path(sys.argv[3])).joinpath("config.json").write_text('{"model_type": "qwen3"}')
"""


class MemoryWatch:
    """Watch the resident memory of a process and all its children while some work runs."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[str, int] = {}
        self.together_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            now = dict(self._resident())
            for name, size_bytes in now.items():
                self.peaks[name] = max(self.peaks.get(name, 0), size_bytes)
            self.together_bytes = max(self.together_bytes, sum(now.values()))

    def _resident(self) -> list[tuple[str, int]]:
        try:
            processes = [self._process, *self._process.children(recursive=True)]
            return [(_role(one), one.memory_info().rss) for one in processes]
        except psutil.Error:
            return []  # it ended between two looks


def _role(process: psutil.Process) -> str:
    return "data child" if "app.data.worker" in process.cmdline() else "caller"


def watched(work: Callable[[], Any], process: psutil.Process) -> dict[str, Any]:
    """Run some work while a process is watched; return seconds and peaks in bytes."""
    started = time.perf_counter()
    with MemoryWatch(process) as watch:
        work()
    taken_s = round(time.perf_counter() - started, 1)
    return {"seconds": taken_s, "peak_rss_bytes": watch.peaks, "together_rss_bytes": watch.together_bytes}


def measure_check(path: Path, tokenizer: Path) -> dict[str, Any]:
    """Run `data check` in a process of its own."""
    command = [sys.executable, str(ROOT / "launch.py"), "data", "check", str(path), "--model", str(tokenizer), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        said: list[bytes] = []
        found = watched(lambda: said.append(running.communicate()[0]), psutil.Process(running.pid))
    if running.returncode:
        raise SystemExit("data check failed")
    facts = json.loads(said[0])
    return {**found, "rows": facts["rows"], "usable": facts["usable"], "tokens": facts["tokens"]["total"]}


def measure_build(path: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    """Build through the data child, asked by this process."""
    client = DataClient(supervisor.spawn_helper)
    manifest: dict[str, Any] = {}
    try:
        work = lambda: manifest.update(client.build(path, tokenizer, DataOptions(), out).manifest)  # noqa: E731
        found = watched(work, psutil.Process(os.getpid()))
    finally:
        client.close()
    names = ("rows", "packed_rows", "packing_fill", "tokens")
    return {**found, **{name: manifest[name] for name in names}}


def measure(count: int, folder: Path, tokenizer: Path | None) -> dict[str, Any]:
    """Make the rows, then check and build them."""
    path, own = folder / "rows.jsonl", folder / "tokenizer"
    prepare = [sys.executable, "-c", _PREPARE, str(path), str(count), *([] if tokenizer else [str(own)])]
    subprocess.run(prepare, check=True, cwd=ROOT)  # in a process of its own: its memory is not the workbench's
    checked = measure_check(path, tokenizer or own)
    built = measure_build(path, tokenizer or own, folder / "built")
    peak_bytes = max(checked["together_rss_bytes"], built["together_rss_bytes"])
    return {
        "rows": count,
        "bytes": path.stat().st_size,
        "check": checked,
        "build": built,
        "peak_rss_bytes": peak_bytes,
        "within_limit": peak_bytes <= _LIMIT_BYTES,
    }


def main() -> None:
    """Measure and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--folder", type=Path, help="where rows and built files lie meanwhile (about 6 kB a row)")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        result = measure(chosen.rows, Path(name), chosen.tokenizer)
    text = json.dumps(result, indent=2)
    if chosen.json:
        chosen.json.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
