"""Number formats of GGUF tensors: how blocks are encoded, and how far an encoded value may be from its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType
from gguf.quants import dequantize, quantize

from app.export.merge import rounded

# Values of one Q8_0 block: 32 bytes that share a 16-bit factor.
_Q8_BLOCK, _Q8_BYTES = 32, 34


@dataclass(frozen=True)
class Format:
    """A format of a file: that of its matrices, the word in the file's head, and where merged weights round first."""

    matrices: Type
    file_type: LlamaFileType
    merged: str


FORMATS = {
    "f16": Format(Type.F16, LlamaFileType.MOSTLY_F16, "fp16"),
    "bf16": Format(Type.BF16, LlamaFileType.MOSTLY_BF16, "bf16"),
    "q8_0": Format(Type.Q8_0, LlamaFileType.MOSTLY_Q8_0, "fp16"),
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
    count = math.prod(shape)
    return count // _Q8_BLOCK * _Q8_BYTES if kind == Type.Q8_0 else count * (4 if kind == Type.F32 else 2)


def encode(block: torch.Tensor, kind: Type, name: str) -> bytes:
    """Return the bytes of a block. Raises ExportError when a value does not fit the format."""
    if kind == Type.Q8_0:
        return bytes(quantize(block.float().contiguous().numpy(), kind).tobytes())
    dtype = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}[kind]
    block = rounded(block, dtype, name).contiguous()
    return bytes(block.reshape(-1).view(torch.uint8).numpy().tobytes())


def decode(data: bytes, kind: Type, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a block from its bytes, in float32."""
    if kind in (Type.F32, Type.F16, Type.BF16):
        dtype = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}[kind]
        return torch.frombuffer(bytearray(data), dtype=dtype).float().view(shape)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(*shape[:-1], -1)
    return torch.from_numpy(dequantize(rows, kind)).view(shape)


def tolerance(source: torch.Tensor, kind: Type) -> torch.Tensor:
    """Return how far each encoded value of a block may be from its source: half a step of the format.

    F16 has 11 bits of mantissa and steps of 2^-24 below its normal range, BF16 has 8 bits; Q8_0 has steps of a 127th
    of its block's largest value, and its factor is rounded to F16.
    """
    size = source.abs().float()
    if kind == Type.F16:
        return torch.clamp(size * 2.0**-11, min=2.0**-25)
    if kind == Type.BF16:
        return size * 2.0**-8
    if kind == Type.Q8_0:
        largest = size.view(*size.shape[:-1], -1, _Q8_BLOCK).amax(-1, keepdim=True).expand(-1, -1, _Q8_BLOCK)
        return (largest * (0.501 / 127 + 2.0**-11)).reshape(size.shape) + 2.0**-19
    return torch.zeros_like(size)
