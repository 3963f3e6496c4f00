"""How long a random model takes to become Q4_K_M here, in how much memory, beside a bare loop over the same quantiser.

    python -m benchmarks.gguf_speed [--gb 3] [--out benchmarks/results/gguf_speed.json]

The wheel of llama.cpp does not export its own program's function (llama_model_quantize), so what is held against is the
least that it could do: each tensor read whole, made float32, handed to ggml_quantize_chunk in pieces on all cores, and
written. Ours reads in blocks within 512 MB, hashes the file, reads it back and compares every value; the reading back
is told apart. Each runs in a process of its own; memory is its peak less what it had after its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors import safe_open

from app.export.gguf.model import write_model
from app.export.gguf.quantization import llama_cpp, mixes
from app.export.gguf.quantization.formats import FORMATS
from app.export.merge.base_model import BaseModel
from app.export.merge.report import peak_rss_bytes
from app.export.targets.turn_format import read_turns
from benchmarks import random_models

ROOT = Path(__file__).resolve().parents[1]
MEMORY, DTYPE = 512 << 20, "q4_k_m"
_VOCABULARY, _WIDTH, _INNER = 32768, 2048, 8192
_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": _VOCABULARY,
    "hidden_size": _WIDTH,
    "intermediate_size": _INNER,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def layers_for(gb: float) -> int:
    """Return how many layers make a model of this size in 16 bits."""
    layer = 2 * (_WIDTH * _WIDTH * 2 + 2 * _WIDTH * 512 + 3 * _WIDTH * _INNER)
    return max(1, round((gb * 1e9 - 2 * _VOCABULARY * _WIDTH) / layer))


def ours(folder: Path, out: Path) -> dict[str, float]:
    """Write the file as an export does, and tell when the writing was done and when the reading back was."""
    model, turns, wrote = BaseModel("random", folder), read_turns(folder), []
    before, began = peak_rss_bytes(), time.monotonic()

    def progress(done: int, all_bytes: int, phase: str) -> None:
        if phase == "reading GGUF back":
            wrote.append(time.monotonic() - began)

    file = write_model(model, turns, out, DTYPE, MEMORY, name="random", progress=progress)
    assert file.written.as_expected
    whole = time.monotonic() - began
    return {"write_s": wrote[0], "read_back_s": whole - wrote[0], "above_interpreter_bytes": peak_rss_bytes() - before}


def bare(folder: Path, out: Path) -> dict[str, float]:
    """Quantise the same tensors to the same formats in the plainest way, and write them one after another."""
    model = BaseModel("random", folder)
    shapes = {_called(name): (tensor.rows, tensor.row_elements) for name, tensor in model.tensors.items()}
    matrices = {name: shape for name, shape in shapes.items() if shape[1] > 1}
    config = model.config.get_text_config(decoder=True)
    kinds = mixes.types_of(matrices, DTYPE, FORMATS[DTYPE].matrices, mixes.Model.of(config, matrices))
    before, began = peak_rss_bytes(), time.monotonic()
    with safe_open(folder / "model.safetensors", "pt") as file, out.open("wb") as written:
        for name in model.tensors:
            values, kind = file.get_tensor(name).float().numpy(), kinds.get(_called(name))
            written.write(values.tobytes() if kind is None else llama_cpp.quantise(values, kind))
        written.flush()
        os.fsync(written.fileno())
    return {"write_s": time.monotonic() - began, "above_interpreter_bytes": peak_rss_bytes() - before}


def _called(name: str) -> str:
    """Return the name by which the mixes know a tensor."""
    known = {"v_proj": "attn_v", "o_proj": "attn_output", "down_proj": "ffn_down", "embed_tokens": "token_embd"}
    parts = name.removeprefix("model.").split(".")
    stem = known.get(parts[-2], parts[-2])
    return f"blk.{parts[1]}.{stem}.weight" if parts[0] == "layers" else f"{stem}.weight"


def _in_a_process(kind: str, folder: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gguf_speed", "--child", kind, str(folder), str(out)]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return {**found, "file_bytes": out.stat().st_size}


def main() -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gguf_speed.json")
    options = parser.parse_args()
    if options.child:
        kind, folder, out = options.child
        print(json.dumps({"ours": ours, "bare": bare}[kind](Path(folder), Path(out))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        config = {**_CONFIG, "num_hidden_layers": layers_for(options.gb)}
        parameters = random_models.write_model(folder, config, round(options.gb * 2e9))
        found = {kind: _in_a_process(kind, folder, Path(scratch) / f"{kind}.gguf") for kind in ("bare", "ours")}
    ratio = found["ours"]["write_s"] / found["bare"]["write_s"]
    report = {"cores": os.cpu_count(), "load": os.getloadavg(), "parameters": parameters, **found, "ratio": ratio}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
