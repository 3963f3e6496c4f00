"""Merge a model of more than 3 GB under 1 GB of memory, beside PEFT's merge_and_unload on the same files.

    python -m benchmarks.merge [--layers 24] [--max-ram 1GB] [--folder /tmp] [--out benchmarks/results/merge.json]

The model has random weights and is written block by block. Both merges run in processes of their own: this project's as
the job that `merge` starts, PEFT's as its documentation has it (load in bf16, merge_and_unload, save_pretrained). The
time of this project's merge is set against its two unavoidable parts, measured in the same run on the same files:
copying them (with fsync), and the arithmetic alone (widen, add B A, round) on blocks that lie in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from app.cli.terminal import size_bytes
from app.export.merge.addition import block_elements
from app.export.merge.report import peak_rss_bytes
from app.export.merge.shards import Outline, ShardWriter, layout, write_index
from app.export.requests import MergeAnswer, MergeRequest, start_merge, wait_for_answer
from app.models.names import resolve
from app.models.tensors import read_checkpoint
from app.workspace import open_workspace

ROOT = Path(__file__).resolve().parents[1]
_RANK, _HIDDEN, _INNER, _HEADS, _KV_HEADS, _HEAD, _VOCABULARY = 16, 2048, 8192, 16, 8, 128, 32_000
_LINEARS = {
    "self_attn.q_proj": (_HEADS * _HEAD, _HIDDEN),
    "self_attn.k_proj": (_KV_HEADS * _HEAD, _HIDDEN),
    "self_attn.v_proj": (_KV_HEADS * _HEAD, _HIDDEN),
    "self_attn.o_proj": (_HIDDEN, _HEADS * _HEAD),
    "mlp.gate_proj": (_INNER, _HIDDEN),
    "mlp.up_proj": (_INNER, _HIDDEN),
    "mlp.down_proj": (_HIDDEN, _INNER),
}
_SHARD_BYTES = 1 << 30
_COPY_BYTES = 16 << 20


def write_model(folder: Path, layers: int) -> None:
    """Write a Llama with random bf16 weights; one block of noise is used again and again."""
    folder.mkdir(parents=True)
    shapes = {"model.embed_tokens.weight": (_VOCABULARY, _HIDDEN), "lm_head.weight": (_VOCABULARY, _HIDDEN)}
    shapes["model.norm.weight"] = (_HIDDEN,)  # type: ignore[assignment]
    for number in range(layers):
        stem = f"model.layers.{number}"
        shapes |= {f"{stem}.{name}.weight": shape for name, shape in _LINEARS.items()}
        shapes |= {f"{stem}.{name}.weight": (_HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")}  # type: ignore[misc]
    noise = (torch.randn(1 << 20) * 0.02).to(torch.bfloat16)
    shards = layout([Outline(name, torch.bfloat16, shape) for name, shape in shapes.items()], _SHARD_BYTES)
    for name, tensors in shards.items():
        with ShardWriter(folder / name, tensors) as writer:
            for tensor in tensors:
                count = tensor.bytes // 2
                pieces = [noise] * (count // len(noise)) + [noise[: count % len(noise)]]
                writer.put(tensor, pieces)
            writer.finish()
    write_index(folder, shards)
    LlamaConfig(
        hidden_size=_HIDDEN,
        intermediate_size=_INNER,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        num_key_value_heads=_KV_HEADS,
        head_dim=_HEAD,
        vocab_size=_VOCABULARY,
        tie_word_embeddings=False,
        dtype="bfloat16",
    ).save_pretrained(folder)
    for path in Path(resolve("starter")).glob("tokenizer*.json"):
        shutil.copyfile(path, folder / path.name)  # a model small enough to be checked needs a tokenizer


def write_adapter(folder: Path, base: Path, layers: int) -> None:
    """Write an adapter on every linear layer."""
    folder.mkdir(parents=True)
    tensors = {}
    for number in range(layers):
        for name, (rows, columns) in _LINEARS.items():
            stem = f"base_model.model.model.layers.{number}.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(_RANK, columns) * 0.02
            tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, _RANK) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": _RANK,
        "lora_alpha": 2 * _RANK,
        "target_modules": sorted({name.rpartition(".")[2] for name in _LINEARS}),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def ours(workspace: Path, adapter: Path, out: Path, max_ram_bytes: int) -> dict[str, Any]:
    """Merge as a job and return memory and time. The receipt's own reading of its inputs is in seconds_in_all."""
    request = MergeRequest(str(adapter), str(out), max_ram_bytes=max_ram_bytes)
    answer = wait_for_answer(start_merge(open_workspace(workspace), request), MergeAnswer)
    receipt = json.loads((out / "receipt.json").read_text(encoding="utf-8"))
    return {
        "peak_rss_bytes": answer.peak_rss_bytes,
        "interpreter_bytes": receipt["baseline_rss_bytes"],
        "above_interpreter_bytes": answer.peak_rss_bytes - receipt["baseline_rss_bytes"],
        "seconds": receipt["merge_seconds"],
        "seconds_in_all": answer.seconds,
    }


def theirs(adapter: Path, out: Path) -> dict[str, Any]:
    """Merge with PEFT in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.merge", "--peft", str(adapter), "--folder", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def merge_with_peft(adapter: Path, out: Path) -> None:
    """Merge as PEFT's documentation has it and print memory and time."""
    from peft import AutoPeftModelForCausalLM

    began = time.monotonic()
    model = AutoPeftModelForCausalLM.from_pretrained(str(adapter), dtype=torch.bfloat16)
    model.merge_and_unload().save_pretrained(str(out))
    print(json.dumps({"peak_rss_bytes": peak_rss_bytes(), "seconds": time.monotonic() - began}))


def copying_s(base: Path, target: Path) -> float:
    """Return the seconds that copying the weight files takes, down to the disk."""
    target.mkdir()
    began = time.monotonic()
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as read, (target / path.name).open("wb") as write:
            while piece := read.read(_COPY_BYTES):
                write.write(piece)
            write.flush()
            os.fsync(write.fileno())
    return time.monotonic() - began


def arithmetic_s(base: Path, max_ram_bytes: int) -> float:
    """Return the seconds of widening, adding B A and rounding for every adapted weight, without any reading."""
    stored = read_checkpoint(base)
    adapted = [tensor for name, tensor in stored.items() if any(f".{linear}." in name for linear in _LINEARS)]
    elements, total = block_elements(max_ram_bytes), 0.0
    for rows, columns in sorted({(tensor.rows, tensor.row_elements) for tensor in adapted}):
        a, b = torch.randn(_RANK, columns), torch.randn(rows, _RANK)
        block = torch.randn(min(rows, max(1, elements // columns)), columns).to(torch.bfloat16)
        began = time.monotonic()
        for first in range(0, rows, len(block)):
            part = block[: min(len(block), rows - first)]
            part.float().addmm_(b[first : first + len(part)], a, alpha=2.0).to(torch.bfloat16)
        count = sum((tensor.rows, tensor.row_elements) == (rows, columns) for tensor in adapted)
        total += count * (time.monotonic() - began)
    return total


def measure(folder: Path, layers: int, max_ram_bytes: int) -> dict[str, Any]:
    """Run everything once and return the figures."""
    base, adapter = folder / "base", folder / "adapter"
    write_model(base, layers)
    write_adapter(adapter, base, layers)
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    copy = copying_s(base, folder / "copy")
    shutil.rmtree(folder / "copy")
    arithmetic = arithmetic_s(base, max_ram_bytes)
    own = ours(folder / "workspace", adapter, folder / "merged", max_ram_bytes)
    shutil.rmtree(folder / "merged")
    peft = theirs(adapter, folder / "peft")
    return {
        "model_bytes": size,
        "max_ram_bytes": max_ram_bytes,
        "ours": own,
        "peft": peft,
        "copy_seconds": copy,
        "arithmetic_seconds": arithmetic,
        "within_the_bound": own["above_interpreter_bytes"] <= max_ram_bytes,
        "peft_memory_over_ours": peft["peak_rss_bytes"] / own["peak_rss_bytes"],
        "time_over_peft": own["seconds"] / peft["seconds"],
        "time_over_copy": own["seconds"] / copy,
        "time_over_copy_and_arithmetic": own["seconds"] / (copy + arithmetic),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
    }


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="24 make 3.3 GB")
    parser.add_argument("--max-ram", default="1GB")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="a disk with three times the model's size free")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "merge.json")
    parser.add_argument("--peft", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peft:
        merge_with_peft(options.peft, Path(options.folder))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="merge-benchmark-") as folder:
        found = measure(Path(folder), options.layers, size_bytes(options.max_ram))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
