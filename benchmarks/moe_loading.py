"""Measure the peak of loading a mixture of experts of 3 GB in 4 bits, against its plan and against transformers alone.

Run: python benchmarks/moe_loading.py [--gb 3] [--folder DIR] [--out benchmarks/results/moe_loading.json]

A random mixture in bfloat16 is written as one is published, a matrix an expert; --stacked writes a stack a layer, as
gpt-oss and Qwen3.5 do. Two children load it: the workbench, and transformers with bitsandbytes' own quantiser, which
leaves experts in 16 bits. Each tells what it held of its own at most (RssAnon) while it loaded, above what it held
before. Pages of the mapped files are counted apart: the system takes them back when it needs them. On a processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HIDDEN, WIDTH, EXPERTS, VOCAB = 1024, 512, 64, 32_000
SHAPE = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": 4 * HIDDEN,
    "moe_intermediate_size": WIDTH,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "norm_topk_prob": True,
    "dtype": "bfloat16",
}


def write(folder: Path, layers: int, *, stacked: bool) -> int:
    """Write the model a layer a file, so that this process never holds it, and return its bytes."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True)
    config = {**SHAPE, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    files: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(part, {})[name] = parameter.shape
    weight_map: dict[str, str] = {}
    size = 0
    for part, shapes in files.items():
        tensors = dict(pair for name, shape in shapes.items() for pair in _tensors(name, shape, stacked))
        file = f"model-{part}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        size += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return size


def _tensors(name: str, shape: Any, stacked: bool) -> list[tuple[str, Any]]:
    """Return random tensors for a parameter under the names that files have."""
    import torch

    # One million random numbers, over and over: they cost seconds where fresh ones cost minutes.
    blocks = -(-shape.numel() // (1 << 20))
    made = torch.randn(1 << 20).mul_(0.02).bfloat16().repeat(blocks)[: shape.numel()].view(shape).clone()
    if stacked or not name.endswith(("gate_up_proj", "down_proj")):
        return [(name, made)]
    stem, _, last = name.rpartition(".")
    parts = ["gate_proj", "up_proj"] if last == "gate_up_proj" else ["down_proj"]
    return [
        (f"{stem}.{expert}.{part}.weight", piece.clone())
        for expert, matrix in enumerate(made)
        for part, piece in zip(parts, matrix.chunk(len(parts)), strict=True)
    ]


class Watch:
    """Look at this process's own memory every few milliseconds."""

    def __init__(self) -> None:
        self.peak = self.peak_mapped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self.before = held()[0]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.003):
            own, mapped = held()
            self.peak, self.peak_mapped = max(self.peak, own), max(self.peak_mapped, mapped)


def held() -> tuple[int, int]:
    """Return the bytes that this process holds of its own and of mapped files."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    own, mapped = (int(rows[name].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
    return own, mapped


def load(folder: Path, plain: bool) -> dict[str, Any]:
    """Load the model in this process, and return what it took."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from app.models.loading import load_base

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    started = time.perf_counter()
    with Watch() as watch:
        if plain:
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.bfloat16, quantization_config=settings, device_map={"": "cpu"}
            )
        else:
            model = load_base(str(folder), dtype="bf16")
    seconds = time.perf_counter() - started
    after = held()[0]
    assert sum(1 for _ in model.parameters())
    return {
        "peak_bytes": watch.peak - watch.before,
        "held_after_bytes": after - watch.before,
        "mapped_peak_bytes": watch.peak_mapped,
        "seconds": round(seconds, 1),
    }


def planned(folder: Path) -> dict[str, int]:
    """Return what the planner says of a QLoRA run on this model."""
    from app import catalog
    from app.planner import PlanRequest, estimate
    from app.planner.parts.weights import weights_at_rest

    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    request = PlanRequest(model=catalog.find(str(folder)), targets=targets, seq_len=512, device="cpu")
    return {"weights_bytes": weights_at_rest(request).total_bytes, "peak_bytes": estimate(request).allocated_peak}


def main() -> int:
    """Write the models, load each in a child, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=3.0, help="bytes of the model in bfloat16, in 10^9")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the models; a temporary one")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "moe_loading.json")
    parser.add_argument("--stacked", action="store_true", help="write the experts of a layer as one tensor")
    parser.add_argument("--load", nargs=2, metavar=("WAY", "FOLDER"), help="what a child does")
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(Path(options.load[1]), options.load[0] == "transformers")))
        return 0
    layers = max(1, round((options.gb * 1e9 / 2 - VOCAB * HIDDEN) / (3 * HIDDEN * WIDTH * EXPERTS + 3 * HIDDEN**2)))
    answer: dict[str, Any] = {"layers": layers, "stored": "stacked" if options.stacked else "by expert"}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place) / "model"
        answer["model_bytes"] = write(folder, layers, stacked=options.stacked)
        answer["plan"] = planned(folder)
        for way in ("transformers", "workbench"):
            command = [sys.executable, __file__, "--load", way, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            answer[way] = json.loads(done.stdout.splitlines()[-1])
            print(way, answer[way], flush=True)
    answer["under_the_plan"] = answer["workbench"]["peak_bytes"] <= answer["plan"]["peak_bytes"]
    options.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(answer, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
