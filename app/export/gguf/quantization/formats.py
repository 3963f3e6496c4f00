"""Number formats of GGUF tensors: how blocks are encoded, and how far an encoded value may be from its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

from app.export.gguf.quantization import llama_cpp
from app.export.merge.addition import rounded

# Values that are compared at once. They fit into a processor's cache, and torch shares out no fewer than these among
# threads: on a busy machine its threads wait for one another a hundred times as long as the work takes.
_COMPARED = 1 << 14
# Values of one Q8_0 block: 32 bytes that share a 16-bit factor.
_Q8_BLOCK = 32
_PLAIN = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}
# How far a value of the formats of few bits may be from its source, as a share of the largest value of its block. The
# quantiser weighs errors against each other, so there is no half step: this is half as much again as the worst of five
# million values (normal, uniform, heavy-tailed, of mixed scale, and positive ones; 1024 columns).
_LOOSEST: dict[Type, float] = {
    Type.Q2_K: 0.62,
    Type.Q3_K: 0.4,
    Type.Q4_0: 0.19,
    Type.IQ4_NL: 0.21,
    Type.IQ4_XS: 0.22,
    Type.Q4_K: 0.16,
    Type.Q5_0: 0.095,
    Type.Q5_1: 0.05,
    Type.Q5_K: 0.1,
    Type.Q6_K: 0.036,
}


@dataclass(frozen=True)
class Format:
    """A format of a file: that of its matrices, the word in the file's head, and where merged weights round first."""

    matrices: Type
    file_type: LlamaFileType
    merged: str = "fp16"

    @property
    def is_mix(self) -> bool:
        """Tell whether the matrices get several formats, which takes llama.cpp's quantiser."""
        return self.matrices not in _PLAIN and self.matrices != Type.Q8_0


# From the largest file to the smallest.
FORMATS = {
    "f16": Format(Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": Format(Type.BF16, LlamaFileType.MOSTLY_BF16, "bf16"),
    "q8_0": Format(Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": Format(Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": Format(Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q4_k_m": Format(Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "q4_k_s": Format(Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
    "iq4_xs": Format(Type.IQ4_XS, LlamaFileType.MOSTLY_IQ4_XS),
    "q3_k_m": Format(Type.Q3_K, LlamaFileType.MOSTLY_Q3_K_M),
    "q2_k": Format(Type.Q2_K, LlamaFileType.MOSTLY_Q2_K),
}


def format_of(shape: tuple[int, ...], matrices: Type) -> Type:
    """Return the format of one tensor: vectors stay in float32, rows that fill no Q8_0 block are kept in F16."""
    if len(shape) < 2:
        return Type.F32
    if matrices == Type.Q8_0 and shape[-1] % _Q8_BLOCK:
        return Type.F16
    return matrices


def encoded_bytes(shape: tuple[int, ...], kind: Type) -> int:
    """Return the size of an encoded tensor."""
    block, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // block * size


def encode(block: torch.Tensor, kind: Type, name: str, importance: llama_cpp.Floats | None = None) -> bytes:
    """Return the bytes of a block. Raises ExportError when a value does not fit the format.

    importance: how much each column counts, (columns) or (experts, columns), for the formats that can weigh them.
    """
    if kind == Type.Q8_0:
        return bytes(quantize(block.float().contiguous().numpy(), kind).tobytes())
    if kind not in _PLAIN:
        return llama_cpp.quantise(block.float().contiguous().numpy(), kind, importance)
    block = rounded(block, _PLAIN[kind], name).contiguous()
    return bytes(block.reshape(-1).view(torch.uint8).numpy().tobytes())


def decode(data: bytes, kind: Type, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a block from its bytes, in float32."""
    if kind in _PLAIN:
        return torch.frombuffer(bytearray(data), dtype=_PLAIN[kind]).float().view(shape)
    if kind != Type.Q8_0:
        return torch.from_numpy(llama_cpp.dequantise(data, kind)).view(shape)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(*shape[:-1], -1)
    return torch.from_numpy(dequantize(rows, kind)).view(shape)


def deviation(found: torch.Tensor, source: torch.Tensor, kind: Type, *, is_weighed: bool = False) -> tuple[float, int]:
    """Return the largest difference of encoded values from their source, and how many are beyond half a step.

    Both are float32 in whole rows. A difference that is no number counts as beyond and makes the largest one so.
    `is_weighed`: an importance matrix lets columns that are hardly used be far off, but never by more than the largest
    value of their block.

    F16 has 11 bits of mantissa and steps of 2^-24 below its normal range, BF16 has 8 bits; Q8_0 has steps of a 127th
    of its block's largest value, and its factor is rounded to F16.
    """
    width, largest, beyond = GGML_QUANT_SIZES[kind][0], 0.0, 0
    pieces = (values.reshape(-1, width).split(_COMPARED // width) for values in (found, source))
    for mine, theirs in zip(*pieces, strict=True):
        error = (mine - theirs).abs_()
        worst, allowed = error.amax(-1, keepdim=True), _tolerance(theirs, kind, is_weighed)
        largest = max(largest, float(worst.max()), key=lambda size: (math.isnan(size), size))
        # Asked this way round, what is no number counts as beyond.
        if not bool((worst <= allowed).all()):
            beyond += error.numel() - int(torch.count_nonzero(error <= allowed))
    return largest, beyond


def _tolerance(source: torch.Tensor, kind: Type, is_weighed: bool) -> torch.Tensor:
    """Return how far the values of blocks may be off, (blocks, 1), from their source, (blocks, values)."""
    if kind == Type.F16:
        return torch.clamp(source.abs() * 2.0**-11, min=2.0**-25)
    if kind == Type.BF16:
        return source.abs() * 2.0**-8
    if kind == Type.F32:
        return torch.zeros(())
    largest = source.abs().amax(-1, keepdim=True)
    if kind == Type.Q8_0:
        return largest * (0.501 / 127 + 2.0**-11) + 2.0**-19
    return largest * (1.0 if is_weighed else _LOOSEST[kind]) + 2.0**-19
