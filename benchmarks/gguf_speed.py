"""How long a random model takes to become Q4_K_M here, in how much memory, beside llama.cpp's own quantiser.

    python -m benchmarks.gguf_speed [--gb 3] [--llama-cpp FOLDER] [--out benchmarks/results/gguf_speed.json]

FOLDER has llama.cpp's libraries, libllama and what it loads, as its releases and the npm package
@node-llama-cpp/linux-x64 (`npm install --ignore-scripts`) have them; its llama_model_quantize then makes the same
format of a bf16 file of the same model, whose writing counts for neither. The wheel that the workbench installs does
not export that function, so without FOLDER only the least that it could do is held against: each tensor read whole,
made float32, handed to ggml_quantize_chunk in pieces on all cores, and written. Ours reads in blocks within 512 MB,
hashes the file, reads it back and compares every value; the reading back is told apart. Each runs in a process of its
own; memory is its peak less what it had after its imports, and llama.cpp's counts the pages of the file that it maps.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from gguf import GGUFReader, LlamaFileType
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


class _Settings(ctypes.Structure):
    """The beginning of llama_model_quantize_params, which is all that is set here, with room for the rest of it."""

    _fields_ = (("threads", ctypes.c_int32), ("file_type", ctypes.c_int32), ("rest", ctypes.c_byte * 248))


def llama_cpp_itself(folder: Path, out: Path, libraries: Path) -> dict[str, float]:
    """Let llama.cpp's own function make the same format of a bf16 file of the model, which is written before."""
    source = out.with_name("bf16.gguf")
    command = [sys.executable, "-m", "benchmarks.gguf_speed", "--child", "bf16", str(folder), str(source)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    library = ctypes.CDLL(str(next(path for path in sorted(libraries.glob("libllama.*")) if path.is_file())))
    library.llama_model_quantize_default_params.restype = _Settings
    settings = library.llama_model_quantize_default_params()
    settings.threads, settings.file_type = os.cpu_count() or 1, int(LlamaFileType.MOSTLY_Q4_K_M)
    before, began = peak_rss_bytes(), time.monotonic()
    failed = library.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(settings))
    descriptor = os.open(out, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
    assert not failed
    source.unlink()
    return {"write_s": time.monotonic() - began, "above_interpreter_bytes": peak_rss_bytes() - before}


def bf16(folder: Path, out: Path) -> dict[str, float]:
    """Write what llama.cpp starts from."""
    model, turns = BaseModel("random", folder), read_turns(folder)
    assert write_model(model, turns, out, "bf16", MEMORY, name="random").written.as_expected
    return {}


def _called(name: str) -> str:
    """Return the name by which the mixes know a tensor."""
    known = {"v_proj": "attn_v", "o_proj": "attn_output", "down_proj": "ffn_down", "embed_tokens": "token_embd"}
    parts = name.removeprefix("model.").split(".")
    stem = known.get(parts[-2], parts[-2])
    return f"blk.{parts[1]}.{stem}.weight" if parts[0] == "layers" else f"{stem}.weight"


def _in_a_process(kind: str, folder: Path, out: Path, libraries: Path | None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gguf_speed", "--child", kind, str(folder), str(out)]
    command += ["--llama-cpp", str(libraries)] if libraries else []
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return {**found, "file_bytes": out.stat().st_size}


def _report(folder: Path, scratch: Path, libraries: Path | None) -> dict[str, object]:
    """Measure every way of making the file, each in a process of its own."""
    load, kinds = os.getloadavg(), ["llama_cpp", "ours"] if libraries else ["bare", "ours"]
    found = {kind: _in_a_process(kind, folder, scratch / f"{kind}.gguf", libraries) for kind in kinds}
    ratio = found["ours"]["write_s"] / found[kinds[0]]["write_s"]
    alike = _alike(*(scratch / f"{kind}.gguf" for kind in kinds)) if libraries else {}
    return {"load": load, **found, "peer": kinds[0], "ratio": ratio, **alike}


def _alike(one: Path, other: Path) -> dict[str, int]:
    """Return how many tensors two files have, how many are of the same format, and how many the same in every byte."""
    first, second = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (one, other))
    pairs = [(tensor, second[name]) for name, tensor in first.items()]
    return {
        "tensors": len(first),
        "same_types": sum(a.tensor_type == b.tensor_type for a, b in pairs),
        "same_bytes": sum(bool(np.array_equal(a.data, b.data)) for a, b in pairs),
    }


def main() -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--llama-cpp", type=Path, metavar="FOLDER", help="libraries of llama.cpp to hold against")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="keep the random model there, or take it from there"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gguf_speed.json")
    options = parser.parse_args()
    if options.child:
        kind, folder, out = options.child
        ways = {
            "ours": ours,
            "bare": bare,
            "bf16": bf16,
            "llama_cpp": partial(llama_cpp_itself, libraries=options.llama_cpp),
        }
        print(json.dumps(ways[kind](Path(folder), Path(out))))
        return
    config = {**_CONFIG, "num_hidden_layers": layers_for(options.gb)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or Path(scratch) / "model"
        if not folder.exists():
            random_models.write_model(folder, config, round(options.gb * 2e9))
        parameters = (folder / "model.safetensors").stat().st_size // 2
        report = {
            "cores": os.cpu_count(),
            "parameters": parameters,
            **_report(folder, Path(scratch), options.llama_cpp),
        }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
