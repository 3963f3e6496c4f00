"""MXFP4 as gpt-oss stores it: 32 weights share one power of two, each weight is four bits.

OCP Microscaling Formats (MX) Specification 1.0, section 5.3 and 6: the element E2M1 is a sign, two bits of exponent
with bias 1 and one bit of mantissa; the scale E8M0 is the exponent of a power of two with bias 127, and 255 is NaN.
A byte of the blocks holds two weights, the lower half first.
"""

from __future__ import annotations

import torch

METHOD = "mxfp4"
BLOCKS, SCALES = "_blocks", "_scales"
_SCALE_BIAS, _SCALE_NAN = 127, 255


def _elements() -> list[float]:
    """Return the sixteen numbers of E2M1, by their bits."""
    found = []
    for bits in range(16):
        exponent, mantissa = (bits >> 1) & 3, bits & 1
        size = mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1)
        found.append(-size if bits & 8 else size)
    return found


_ELEMENTS = torch.tensor(_elements())


def dequantise(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weights (..., 32 * groups) of blocks (..., groups, 16) and scales (..., groups).

    All of them are exact in bfloat16 and float32; in float16, numbers beyond its range become infinite or zero.
    """
    if blocks.shape[:-1] != scales.shape:
        raise ValueError(f"blocks {tuple(blocks.shape)} and scales {tuple(scales.shape)} do not fit each other")
    blocks, scales = blocks.to(torch.uint8), scales.to(torch.uint8)
    # Both weights of a byte in one look-up: a table of 256 pairs.
    byte = torch.arange(256, device=blocks.device)
    pairs = torch.stack([_ELEMENTS.to(blocks.device)[byte & 15], _ELEMENTS.to(blocks.device)[byte >> 4]], dim=1)
    weights = pairs[blocks.int()].flatten(-2)  # (..., groups, 32)
    powers = torch.exp2(scales.float() - _SCALE_BIAS)
    powers = powers.masked_fill(scales == _SCALE_NAN, torch.nan)
    return (weights * powers.unsqueeze(-1)).flatten(-2).to(dtype)
