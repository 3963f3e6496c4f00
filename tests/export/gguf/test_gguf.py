"""GGUF files, read back with the gguf package: names, order, values, settings, tokenizer."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from app.errors import ExportError
from app.export.gguf import writer
from app.export.gguf.adapter import write_adapter
from app.export.gguf.architecture.families import FAMILIES
from app.export.gguf.model import GgufFile, write_model
from app.export.gguf.tensors import parts_of
from app.export.merge.base_model import BaseModel
from app.export.targets.turn_format import read_turns
from app.models.adapters import AdapterFolder
from app.workspace import file_sha256
from tests.export.gguf import gguf_models
from tests.models import tiny_models


def written(folder: Path, path: Path, dtype: str = "f16") -> GgufFile:
    """Write with blocks of a few rows, so that every seam is crossed."""
    return write_model(BaseModel("tiny", folder), read_turns(folder), path, dtype, 8 << 10, name="tiny")


def values(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for tensor in GGUFReader(path).tensors:
        shape = [int(length) for length in reversed(tensor.shape)]
        data = dequantize(np.array(tensor.data).view(np.uint8).reshape(-1), tensor.tensor_type)
        found[tensor.name] = data.reshape(shape)
    return found


@pytest.mark.parametrize("family", [name for name in gguf_models.FAMILIES if name not in gguf_models.NEWER])
def test_every_family_is_written_and_read_back(tmp_path: Path, family: str) -> None:
    folder = gguf_models.save(tmp_path / "model", family)
    file = written(folder, tmp_path / "model.gguf")
    assert file.written.as_expected and 0 < file.written.max_abs_error < 1e-2
    said = writer.metadata(file.path)
    arch = said["general.architecture"]
    config = BaseModel("tiny", folder).config
    assert said[f"{arch}.block_count"] == config.num_hidden_layers
    assert said[f"{arch}.attention.head_count_kv"] == 2
    assert said[f"{arch}.context_length"] == 512
    assert said[f"{arch}.attention.key_length"] == config.head_dim
    assert said["tokenizer.chat_template"] == read_turns(folder).template.source
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = said["tokenizer.ggml.tokens"]
    assert len(pieces) == config.vocab_size > len(tokenizer)
    assert [pieces[token] for token in range(300)] == tokenizer.convert_ids_to_tokens(list(range(300)))
    assert said["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    found = values(file.path)
    embeddings = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].numpy()
    np.testing.assert_array_equal(found["token_embd.weight"], embeddings.astype(np.float16).astype(np.float32))
    assert ("output.weight" in found) != bool(config.tie_word_embeddings)


def test_rows_of_rotary_heads_are_interleaved_and_gemma_s_norms_are_shifted(tmp_path: Path) -> None:
    llama = gguf_models.save(tmp_path / "llama", "llama")
    found, stored = values(written(llama, tmp_path / "l.gguf").path), load_file(llama / "model.safetensors")
    own = stored["model.layers.1.self_attn.k_proj.weight"].half().float().numpy()
    theirs = found["blk.1.attn_k.weight"]
    for head in range(2):
        for half in range(16):
            np.testing.assert_array_equal(theirs[head * 32 + 2 * half], own[head * 32 + half])
            np.testing.assert_array_equal(theirs[head * 32 + 2 * half + 1], own[head * 32 + 16 + half])
    np.testing.assert_array_equal(found["blk.1.attn_v.weight"], stored["model.layers.1.self_attn.v_proj.weight"].half())
    assert found["rope_freqs.weight"].max() == 4.0 and found["rope_freqs.weight"].min() == 1.0
    gemma = gguf_models.save(tmp_path / "gemma", "gemma2")
    found, stored = values(written(gemma, tmp_path / "g.gguf").path), load_file(gemma / "model.safetensors")
    np.testing.assert_allclose(found["output_norm.weight"], 1 + stored["model.norm.weight"].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "kind", "largest"),
    [
        ("f16", GGMLQuantizationType.F16, 2**-11),
        ("bf16", GGMLQuantizationType.BF16, 2**-8),
        ("q8_0", GGMLQuantizationType.Q8_0, None),
    ],
)
def test_formats_are_within_their_rounding(tmp_path: Path, dtype: str, kind: Any, largest: float | None) -> None:
    folder = gguf_models.save(tmp_path / "model", "qwen3", dtype=torch.bfloat16)
    file = written(folder, tmp_path / "model.gguf", dtype)
    assert file.written.as_expected
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(file.path).tensors}
    assert kinds["blk.0.ffn_up.weight"] == kind and kinds["output_norm.weight"] == GGMLQuantizationType.F32
    source = load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].float().numpy()
    error = np.abs(values(file.path)["blk.0.ffn_up.weight"] - source)
    if largest is None:
        blocks = np.abs(source).reshape(source.shape[0], -1, 32).max(-1, keepdims=True)
        assert (error.reshape(source.shape[0], -1, 32) <= blocks / 127 * 0.6).all() and error.max() > 0
    else:
        assert (error <= np.abs(source) * largest + 1e-7).all()


def test_a_damaged_file_is_found_out(tmp_path: Path) -> None:
    folder = gguf_models.save(tmp_path / "model", "qwen3")
    path = tmp_path / "model.gguf"
    model = BaseModel("tiny", folder)

    def damage(done: int, size: int, phase: str) -> None:
        if phase == "reading GGUF back":
            data = bytearray(path.read_bytes())
            data[-3000] ^= 0x40
            data[-3001] ^= 0x40
            path.write_bytes(data)

    file = write_model(model, read_turns(folder), path, "f16", 1 << 20, name="tiny", progress=damage)
    assert not file.written.as_expected


def test_what_llama_cpp_does_not_have_is_refused(tmp_path: Path) -> None:
    other = tiny_models.save_model(tmp_path / "gpt2", "gpt2")
    with pytest.raises(ExportError, match=r"gpt2.*Qwen3.*Phi-3"):
        written(other, tmp_path / "a.gguf")
    scaled = gguf_models.save(tmp_path / "scaled", "gemma2", query_pre_attn_scalar=77)
    with pytest.raises(ExportError, match="attention scale"):
        written(scaled, tmp_path / "b.gguf")
    narrow = gguf_models.save(tmp_path / "narrow", "olmo2", head_dim=32)
    with pytest.raises(ExportError, match="4 heads of 32 are not as wide as the model"):
        written(narrow, tmp_path / "n.gguf")
    routed = gguf_models.save(tmp_path / "routed", "qwen3_moe", norm_topk_prob=False)
    with pytest.raises(ExportError, match="norm_topk_prob"):
        written(routed, tmp_path / "r.gguf")
    foreign = gguf_models.save(tmp_path / "foreign", "qwen2")
    stored = json.loads((foreign / "tokenizer.json").read_text())
    stored["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[aeiou]+"
    (foreign / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ExportError, match="splits text"):
        written(foreign, tmp_path / "c.gguf")


def test_experts_are_the_same_however_a_checkpoint_stores_them(tmp_path: Path) -> None:
    folder = gguf_models.save(tmp_path / "single", "qwen3_moe")
    found, stored = values(written(folder, tmp_path / "s.gguf").path), load_file(folder / "model.safetensors")
    joined = shutil.copytree(folder, tmp_path / "joined")
    stem = "model.layers.{}.mlp.experts"
    for layer in range(2):
        kinds = {
            kind: torch.stack([stored.pop(f"{stem.format(layer)}.{one}.{kind}_proj.weight") for one in range(4)])
            for kind in ("gate", "up", "down")
        }
        stored[f"{stem.format(layer)}.gate_up_proj"] = torch.cat([kinds["gate"], kinds["up"]], 1)
        stored[f"{stem.format(layer)}.down_proj"] = kinds["down"]
    save_file(stored, joined / "model.safetensors", {"format": "pt"})
    again = values(written(joined, tmp_path / "j.gguf").path)
    assert found.keys() == again.keys() and found["blk.1.ffn_up_exps.weight"].shape == (4, 64, 64)
    for name, one in found.items():
        np.testing.assert_array_equal(one, again[name])


def test_tokenizers_are_carried_exactly(tmp_path: Path) -> None:
    folder = gguf_models.save(tmp_path / "bpe", "qwen2")
    said = writer.metadata(written(folder, tmp_path / "bpe.gguf").path)
    stored = json.loads((folder / "tokenizer.json").read_text())
    assert said["tokenizer.ggml.model"] == "gpt2" and said["tokenizer.ggml.pre"] == "qwen2"
    assert said["tokenizer.ggml.merges"] == [" ".join(pair) for pair in stored["model"]["merges"]]
    assert said["tokenizer.ggml.add_bos_token"] is False
    kinds = dict(zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"], strict=True))
    assert kinds["<|im_start|>"] == TokenType.CONTROL and kinds["<think>"] == TokenType.USER_DEFINED
    folder = gguf_models.save(tmp_path / "spm", "gemma2")
    said = writer.metadata(written(folder, tmp_path / "spm.gguf").path)
    kinds = dict(zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"], strict=True))
    scores = dict(zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.scores"], strict=True))
    assert said["tokenizer.ggml.model"] == "llama" and said["tokenizer.ggml.add_space_prefix"] is False
    assert kinds["<0x0A>"] == TokenType.BYTE and kinds["<unk>"] != TokenType.NORMAL
    assert scores["\u2581t"] > scores["\u2581th"] > scores["<bos>"]
    assert said["tokenizer.ggml.add_bos_token"] is True and said["tokenizer.ggml.eot_token_id"] != 1


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 3}, "lora_alpha": 5}])
def test_an_adapter_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = gguf_models.save(tmp_path / "model", "llama")
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "adapter", folder, **settings))
    file = write_adapter(adapter, BaseModel("tiny", folder).config, tmp_path / "lora.gguf", name="tiny")
    said, found = writer.metadata(file.path), values(file.path)
    assert said["general.type"] == "adapter" and said["adapter.type"] == "lora"
    update = adapter.update("model.layers.0.self_attn.v_proj")
    a, b = found["blk.0.attn_v.weight.lora_a"], found["blk.0.attn_v.weight.lora_b"]
    theirs = (said["adapter.lora.alpha"] / b.shape[1]) * b @ a  # as llama.cpp computes it
    np.testing.assert_allclose(theirs, (update.scaling * update.b @ update.a).numpy(), rtol=1e-4, atol=1e-6)
    query = adapter.update("model.layers.0.self_attn.q_proj")
    np.testing.assert_array_equal(found["blk.0.attn_q.weight.lora_a"], query.a)


def test_adapters_that_are_more_than_factors_are_refused_alone(tmp_path: Path) -> None:
    folder = gguf_models.save(tmp_path / "model", "llama")
    adapter = AdapterFolder(tiny_models.save_adapter(tmp_path / "adapter", folder, use_dora=True))
    with pytest.raises(ExportError, match="DoRA"):
        write_adapter(adapter, BaseModel("tiny", folder).config, tmp_path / "lora.gguf", name="tiny")


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """A block is at most the asked number of values, or one head of rows where rows are permuted."""
    model = BaseModel("tiny", gguf_models.save(tmp_path / "model", "llama"))
    parts, _ = parts_of(model.tensors, FAMILIES["llama"], model.config, tied=False)
    elements = writer.block_elements(64 << 10)
    head = model.config.head_dim * model.config.hidden_size
    assert max(block.numel() for part in parts for block in part.blocks(elements)) <= max(elements, head)
    assert max(part.source.bytes for part in parts) > 8 * 4 * max(elements, head)


def test_a_value_that_is_no_number_in_the_file_is_beyond_rounding(tmp_path: Path) -> None:
    values = torch.ones(4, 32)
    entry = writer.Entry("t", (4, 32), GGMLQuantizationType.F32, lambda: iter([values]))
    path = tmp_path / "x.gguf"
    writer.write(path, writer.head_of(GGUFWriter(path, "llama"), path, [entry]), [entry])
    assert writer.check(tmp_path / "x.gguf", [entry]).as_expected
    data = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(data[:-4] + struct.pack("<f", float("nan")))
    found = writer.check(tmp_path / "x.gguf", [entry])
    assert not found.as_expected and found.beyond_rounding == 1 and not found.max_abs_error <= 1


class _Broken(Exception):
    """Stands for a kill between two blocks."""


def _whole(model: BaseModel, path: Path, pause: Callable[[], None] = lambda: None) -> list[int]:
    """Write a model and return how many bytes were done at each report of the writing."""
    done = []

    def progress(so_far: int, size: int, phase: str) -> None:
        if phase == "writing GGUF":
            done.append(so_far)

    file = write_model(model, read_turns(model.folder), path, "f16", 64 << 10, name="n", pause=pause, progress=progress)
    assert file.written.as_expected and file.sha256 == file_sha256(path)
    return done


def test_a_file_that_was_broken_off_is_gone_on_with(tmp_path: Path) -> None:
    model = BaseModel("tiny", gguf_models.save(tmp_path / "model", "llama"))
    whole = _whole(model, tmp_path / "whole.gguf")
    calls = iter(range(10_000))

    def breaks() -> None:
        if next(calls) == 30:
            raise _Broken

    part = tmp_path / "part.gguf"
    with pytest.raises(_Broken):
        _whole(model, part, breaks)
    assert 0 < part.stat().st_size < (tmp_path / "whole.gguf").stat().st_size
    rest = _whole(model, part)
    assert part.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert 0 < len(rest) < len(whole) and rest == whole[-len(rest) :]


def test_what_was_broken_off_of_other_values_is_written_anew(tmp_path: Path) -> None:
    model = BaseModel("tiny", gguf_models.save(tmp_path / "model", "llama"))
    whole = tmp_path / "whole.gguf"
    count = len(_whole(model, whole))
    data, part = bytearray(whole.read_bytes()), tmp_path / "part.gguf"
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)  # as after a power cut, where a file has its length before its values
    part.write_bytes(data)
    assert len(_whole(model, part)) == count and part.read_bytes() == whole.read_bytes()
    part.write_bytes(b"another head" + data[12:])
    assert len(_whole(model, part)) == count and part.read_bytes() == whole.read_bytes()
