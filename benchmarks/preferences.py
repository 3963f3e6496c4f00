"""Measure what DPO and KTO make of a neutral adapter of the starter: preferred style and facts on held-out prompts.

    python -m benchmarks.preferences [--style pirate] [--seeds 1] [--out benchmarks/results/preferences.json]

The neutral adapter is trained on the questions of a sample, each answered once in the style and once without
(assets/build/preferences.py); DPO goes on from it with pairs, KTO with thumbs, by `launch.py train --start-from`. Base
and adapters are then served together and asked the style's held-out prompts at temperature 0. Status 1 where an
objective leaves the style at 90 % or the facts at 95 % or below.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the file also runs by its path

from assets.build.preferences import write  # noqa: E402
from assets.build.samples import SAMPLES  # noqa: E402
from benchmarks.starter_styles import LAUNCH, Row, Trained, judge, note, serving, table  # noqa: E402

NEUTRAL = {"training.max_steps": 80, "training.per_device_train_batch_size": 4, "data.max_length": 128}
PREFERRED = {
    "training.max_steps": 40,
    "training.per_device_train_batch_size": 8,
    "training.warmup_steps": 5,
    "training.learning_rate": 3e-4,
    "data.max_length": 128,
}
STYLED, RIGHT = 0.9, 0.95


def train(name: str, file: Path, seed: int, workspace: Path, settings: dict[str, object], start: str = "") -> Trained:
    """Train an adapter through the command line; `start` is the adapter to go on from."""
    arguments = ["train", "--preset", "cpu-starter", "--model", "starter", "--data", str(file), "--json"]
    arguments += ["--workspace", str(workspace), *(["--start-from", start] if start else [])]
    for key, value in {**settings, "training.seed": seed, "training.save_steps": 1000}.items():
        arguments += ["--set", f"{key}={value}"]
    began = time.monotonic()
    done = subprocess.run([*LAUNCH, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    job: dict[str, Any] = json.loads(done.stdout)
    return Trained(name, seed, str(Path(job["result"]) / "adapter"), time.monotonic() - began, job["last"]["loss"])


def measure(style: str, seeds: list[int], workspace: Path) -> list[Row]:
    """Train neutral adapters and what follows from them, serve all together and judge each beside the base."""
    files = write(workspace, style)
    adapters: list[Trained] = []
    for seed in seeds:
        note(f"training the neutral adapter, seed {seed}")
        neutral = train("neutral", files["neutral"], seed, workspace, NEUTRAL)
        adapters.append(neutral)
        for objective, rows in (("dpo", "pairs"), ("kto", "thumbs")):
            note(f"{objective}, seed {seed}")
            settings = {**PREFERRED, "training.objective": objective}
            adapters.append(train(objective, files[rows], seed, workspace, settings, neutral.adapter))
    sample = next(one for one in SAMPLES if one.style == style)
    with serving(adapters, workspace) as engine:
        return [judge(engine, "base", sample, None), *(judge(engine, one.name, sample, one) for one in adapters)]


def main() -> int:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--style", choices=[sample.style for sample in SAMPLES], default="pirate")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "preferences.json")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(options.style, options.seeds, Path(scratch))
    print(table(rows))
    settings = {"neutral": NEUTRAL, "preferred": PREFERRED}
    options.out.write_text(json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    learned = [row for row in rows if row.model.startswith(("dpo", "kto"))]
    return int(not all(row.styled > STYLED and row.right > RIGHT for row in learned))


if __name__ == "__main__":
    sys.exit(main())
