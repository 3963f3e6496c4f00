"""What each GGUF size costs the starter tuned on each shipped style, in llama.cpp, and what an importance matrix gains.

    python -m benchmarks.gguf_sizes [--styles pirate teacher] [--seeds 1] [--out benchmarks/results/gguf_sizes.json]

Each adapter is trained by `launch.py train` with two fifths of its rows kept back, and merged. Every size is written,
read by llama.cpp beside the 16-bit model on its own answers and on the rows kept back, and asked the held-out prompts:
style and facts are judged by the tests of `assets.build.styles`. The importance matrix is collected on the training
rows; its gain is the mean KL over all tokens of the rows kept back without it less that with it, with a 95 % bootstrap
interval over rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.cli.terminal import size_bytes
from app.evaluation.suites import Item
from app.export.gguf.model import write_model
from app.export.gguf.quality import probes, proof
from app.export.gguf.quality.messages import Question
from app.export.gguf.quality.probes import HeldOut, Text
from app.export.gguf.quality.proof import Reference
from app.export.gguf.quantization import importance
from app.export.gguf.quantization.formats import FORMATS
from app.export.merge.base_model import BaseModel
from app.export.targets.turn_format import read_turns
from assets.build.samples import SAMPLES, Sample
from assets.build.styles import has_fact, shows_style
from benchmarks.starter_styles import DATASETS, LAUNCH, note

ROOT = Path(__file__).resolve().parents[1]
MEMORY = size_bytes("2GB")
WEIGHED = ("q4_k_m", "q4_k_s", "q3_k_m", "q2_k")
_RESAMPLES = 4000


@dataclass(frozen=True)
class Tuned:
    """A merged model with what it is judged on. `keys` are the facts of each held-out prompt."""

    sample: Sample
    adapter: Path
    folder: Path
    keys: dict[str, list[str]]
    rows: HeldOut
    reference: Reference

    def shares(self, answers: dict[str, str]) -> dict[str, float]:
        """Return the shares of answers in style and of right ones."""
        count = len(answers)
        styled = sum(shows_style(self.sample.style, text) for text in answers.values())
        right = sum(has_fact(text, self.keys[prompt]) for prompt, text in answers.items())
        return {"styled": styled / count, "right": right / count}


def tuned(sample: Sample, seed: int, workspace: Path) -> Tuned:
    """Train and merge through the command line and take down what the 16-bit model says."""
    words = ["--preset", "cpu-starter", "--model", "starter", "--data", str(DATASETS / sample.file)]
    words += ["--set", f"training.seed={seed}", "--set", "data.validation_split=0.4"]
    job = _launched(["train", *words], workspace)
    adapter = Path(str(job["result"]))
    adapter = adapter if (adapter / "adapter_config.json").is_file() else adapter / "adapter"
    out = workspace / f"{sample.style}-{seed}"
    _launched(["merge", "--adapter", str(adapter), "--out", str(out)], workspace)
    asked = json.loads((DATASETS / sample.prompts_file).read_text(encoding="utf-8"))["prompts"]
    keys = {one["prompt"]: one["keys"] for one in asked}
    rows = probes.rows_of_run(adapter, 4 * probes.MOST_PLACES)
    suite = tuple(Item(prompt, found[0]) for prompt, found in keys.items())
    reference = proof.reference_of(out, BaseModel("starter", out).parameters, MEMORY, rows.texts, suite)
    assert reference is not None
    return Tuned(sample, adapter, out, keys, rows, reference)


def _launched(words: list[str], workspace: Path) -> dict[str, object]:
    command = [*LAUNCH, *words, "--workspace", str(workspace), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def sizes(model: Tuned) -> Iterator[dict[str, object]]:
    """Yield a row for the 16-bit model and for each format from the largest on."""
    yield {"dtype": "16 bit", **model.shares(model.reference.answers)}
    for dtype in FORMATS:
        if dtype in ("f16", "bf16"):
            continue
        file = _written(model, dtype, {})
        silent = replace(model.reference, suite=(), asked={})
        found = proof.prove(file, silent, BaseModel("tuned", model.folder).config)
        prompts = list(model.reference.asked.values())
        said = proof.ask_llama_cpp(file, Question(prompts=prompts, max_tokens=96))["answers"]
        answers = dict(zip(model.reference.asked, said, strict=True))
        yield {"dtype": dtype, "bytes": file.stat().st_size, **model.shares(answers), **found.as_dict()}


def gains(model: Tuned) -> Iterator[dict[str, object]]:
    """Yield for each small format what the matrix takes off the KL on the rows kept back, with its interval."""
    base = BaseModel("tuned", model.folder)
    weights = importance.collect(base, DATASETS / model.sample.file, base.parameters, MEMORY, model.rows.ids)
    every = [Text(text.ids, list(range(1, len(text.ids)))) for text in model.rows.texts]
    read = proof.reference_of(model.folder, base.parameters, MEMORY, every)
    assert read is not None
    reference = replace(read, texts=every, log_probs=read.log_probs[-len(every) :], rows=0)
    for dtype in WEIGHED:
        without, weighed = (
            np.array(_kl_of_rows(_written(model, dtype, each), reference)) for each in ({}, weights.columns)
        )
        difference = without - weighed
        picks = np.random.default_rng(0).integers(len(difference), size=(_RESAMPLES, len(difference)))
        low, high = np.quantile(difference[picks].mean(1), (0.025, 0.975))
        yield {
            "dtype": dtype,
            "rows": len(difference),
            "kl_without": float(without.mean()),
            "kl_with": float(weighed.mean()),
            "better_rows": float((difference > 0).mean()),
            "gain": float(difference.mean()),
            "low": float(low),
            "high": float(high),
        }


def _kl_of_rows(file: Path, reference: Reference) -> list[float]:
    """Return the mean KL of each row."""
    texts = [(one.ids, one.places) for one in reference.texts]
    question = Question(texts=texts, most=proof.MOST_TOKENS, letter=reference.letter)
    predictions = proof.ask_llama_cpp(file, question)["predictions"]
    return [
        float(np.mean([proof.divergence(ours, theirs) for ours, theirs in zip(expected, said, strict=True)]))
        for expected, said in zip(reference.log_probs, predictions, strict=True)
    ]


def _written(model: Tuned, dtype: str, weights: importance.Importance) -> Path:
    path = model.folder.parent / f"{model.folder.name}-{dtype}.gguf"
    path.unlink(missing_ok=True)  # a whole file of other values would be taken for one that was broken off, and stay
    base = BaseModel("tuned", model.folder)
    file = write_model(base, read_turns(model.folder), path, dtype, MEMORY, name="tuned", importance=weights)
    assert file.written.as_expected
    return path


def main() -> None:
    """Parse the command line, measure, write and print."""
    known = [sample.style for sample in SAMPLES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--styles", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--only", choices=("sizes", "imatrix"), help="measure one of the two")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gguf_sizes.json")
    options = parser.parse_args()
    report: dict[str, object] = {"machine": platform.machine(), "python": sys.version.split()[0]}
    models = []
    with tempfile.TemporaryDirectory() as scratch:
        for sample in [sample for sample in SAMPLES if sample.style in options.styles]:
            for seed in options.seeds:
                note(f"tuning on {sample.style}, seed {seed}")
                model = tuned(sample, seed, Path(scratch))
                rows = [] if options.only == "imatrix" else list(sizes(model))
                weighed = [] if options.only == "sizes" else list(gains(model))
                models.append({"style": sample.style, "seed": seed, "sizes": rows, "imatrix": weighed})
                for row in rows:
                    note(f"{row['dtype']:8} styled {row['styled']:.1%} right {row['right']:.1%} {row.get('agreement')}")
                for row in weighed:
                    note(
                        f"{row['dtype']:8} KL {row['kl_without']:.2e} -> {row['kl_with']:.2e}, gain > {row['low']:.1e}"
                    )
    report["models"] = models
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
