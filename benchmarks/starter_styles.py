"""Measure what the product's own path makes of the starter model: base against adapter, style and facts.

    python -m benchmarks.starter_styles [--seeds 1 2] [--styles pirate teacher] [--json] [--workspace DIR]

For each sample dataset and seed it trains with `launch.py train --preset cpu-starter`, then serves the base with all
adapters by `launch.py serve` and asks the held-out prompts over the OpenAI protocol at temperature 0. The tests of
style and fact are those of `assets.build.styles`; how the prompts were chosen stands in their files.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the file also runs by its path

from assets.build.samples import SAMPLES, Sample  # noqa: E402
from assets.build.styles import has_fact, shows_style  # noqa: E402

DATASETS = ROOT / "assets" / "datasets"
LAUNCH = [sys.executable, str(ROOT / "launch.py")]
START_LIMIT_S = 180
REQUEST_LIMIT_S = 300
PARALLEL_REQUESTS = 16
ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Trained:
    """A finished training job."""

    style: str
    seed: int
    adapter: str
    seconds: float
    last_loss: float | None

    @property
    def name(self) -> str:
        """Return the adapter's name as the engine lists it."""
        return f"{self.style}-{self.seed}"


@dataclass(frozen=True)
class Row:
    """One line of the table. Shares are between 0 and 1; `seed` is None for the base."""

    style: str
    model: str
    seed: int | None
    prompts: int
    styled: float
    right: float
    train_seconds: float | None = None
    last_loss: float | None = None


def note(text: str) -> None:
    """Tell the person at the terminal what happens; standard output carries the table only."""
    print(text, file=sys.stderr, flush=True)


def train(sample: Sample, seed: int, workspace: Path) -> Trained:
    """Train an adapter on a sample dataset through the command line."""
    arguments = ["train", "--preset", "cpu-starter", "--model", "starter", "--data", str(DATASETS / sample.file)]
    arguments += ["--set", f"training.seed={seed}", "--workspace", str(workspace), "--json"]
    began = time.monotonic()
    done = subprocess.run([*LAUNCH, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    job: dict[str, Any] = json.loads(done.stdout)
    folder = Path(job["result"])
    adapter = folder if (folder / "adapter_config.json").is_file() else folder / "adapter"
    loss = (job.get("last") or {}).get("loss")
    return Trained(sample.style, seed, str(adapter), time.monotonic() - began, loss)


def free_port() -> int:
    """Return a port of the loopback address that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Engine:
    """A running `launch.py serve`, asked over the OpenAI protocol."""

    def __init__(self, port: int, token: str) -> None:
        self._address = f"http://127.0.0.1:{port}/v1"
        self._token = token

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S) as answer:
            return json.load(answer)

    def ready(self) -> bool:
        """Say whether the engine answers."""
        try:
            return bool(self._call("/models")["data"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def answers(self, model: str, prompts: list[str]) -> list[str]:
        """Return the greedy answers of the base or an adapter, many requests at a time."""

        def ask(prompt: str) -> str:
            said = [{"role": "user", "content": prompt}]
            body = {"model": model, "messages": said, "temperature": 0, "max_tokens": ANSWER_TOKENS}
            text: str = self._call("/chat/completions", body)["choices"][0]["message"]["content"]
            return text

        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            return list(pool.map(ask, prompts))


@contextmanager
def serving(adapters: list[Trained], workspace: Path) -> Iterator[Engine]:
    """Serve the base and all adapters as long as the block lasts."""
    port, token = free_port(), secrets.token_urlsafe(16)
    named = [part for one in adapters for part in ("--adapter", f"{one.name}={one.adapter}")]
    arguments = ["serve", "--model", "starter", *named, "--port", str(port), "--token", token]
    arguments += ["--workspace", str(workspace)]
    server = subprocess.Popen([*LAUNCH, *arguments], stdout=subprocess.DEVNULL)
    engine = Engine(port, token)
    try:
        limit = time.monotonic() + START_LIMIT_S
        while not engine.ready():
            if server.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"the engine did not start (exit status {server.poll()})")
            time.sleep(0.5)
        yield engine
    finally:
        server.terminate()
        server.wait(timeout=60)
        # The engine is a job of its own and outlives a server that is told to terminate.
        for job in (workspace / "jobs").glob("*-engine-*"):
            subprocess.run([*LAUNCH, "jobs", "stop", job.name, "--workspace", str(workspace)], capture_output=True)


def judge(engine: Engine, model: str, sample: Sample, trained: Trained | None) -> Row:
    """Ask a style's held-out prompts and count answers in style and right answers."""
    held_out = json.loads((DATASETS / sample.prompts_file).read_text(encoding="utf-8"))["prompts"]
    said = engine.answers(model, [one["prompt"] for one in held_out])
    styled = sum(shows_style(sample.style, text) for text in said)
    right = sum(has_fact(text, one["keys"]) for text, one in zip(said, held_out, strict=True))
    count = len(held_out)
    facts = (trained.seed, trained.seconds, trained.last_loss) if trained else (None, None, None)
    return Row(sample.style, model, facts[0], count, styled / count, right / count, facts[1], facts[2])


def measure(styles: list[str], seeds: list[int], workspace: Path) -> list[Row]:
    """Train all adapters, serve them together and judge each beside the base."""
    samples = [sample for sample in SAMPLES if sample.style in styles]
    adapters = []
    for sample in samples:
        for seed in seeds:
            note(f"training {sample.style}, seed {seed}")
            adapters.append(train(sample, seed, workspace))
    rows = []
    with serving(adapters, workspace) as engine:
        for sample in samples:
            note(f"asking {sample.style}")
            rows.append(judge(engine, "base", sample, None))
            rows += [judge(engine, one.name, sample, one) for one in adapters if one.style == sample.style]
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as a table for people."""
    lines = [f"{'style':12}{'model':16}{'prompts':>8}{'styled':>9}{'right':>9}{'train s':>9}{'last loss':>11}"]
    for row in rows:
        seconds = "" if row.train_seconds is None else f"{row.train_seconds:.0f}"
        loss = "" if row.last_loss is None else f"{row.last_loss:.3f}"
        shares = f"{row.styled:>9.1%}{row.right:>9.1%}"
        lines.append(f"{row.style:12}{row.model:16}{row.prompts:>8}{shares}{seconds:>9}{loss:>11}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print."""
    known = [sample.style for sample in SAMPLES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--styles", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--workspace", type=Path, help="keep jobs and adapters here; else a folder that is removed")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(options.styles, options.seeds, options.workspace or Path(scratch))
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
