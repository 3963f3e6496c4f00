"""What an adapter's update of a layer is like: size, singular values, the rank it needs; 4-bit errors of the weight.

All of it comes from the factors: with B = Q1 R1 and A.T = Q2 R2, the singular values of s B A are those of the small
matrix s R1 R2.T.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from app.export.requests import LayerFigures
from app.models.adapters import LoraUpdate
from app.models.tensors import StoredTensor

# Share of the update's squared size that a cut rank shall keep.
KEPT = 0.99
# Weights that share one scale, as bitsandbytes has it by default (QLoRA, arXiv:2305.14314, section 3).
BLOCK = 64
# The 16 levels of NormalFloat4 (QLoRA, appendix E).
NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
# Integers of 4 bits around zero; -8 is left out, so that both signs reach equally far.
INT4_LEVELS = tuple(number / 7 for number in range(-7, 8))
# Elements that are read and rounded at once.
_CHUNK = 1 << 22


def singular_values(update: LoraUpdate) -> torch.Tensor:
    """Return the singular values of an update, largest first, in float64."""
    left = torch.linalg.qr(update.b.double(), mode="r").R
    right = torch.linalg.qr(update.a.double().T, mode="r").R
    return torch.linalg.svdvals(left @ right.T) * abs(update.scaling)


def effective_rank(values: torch.Tensor) -> float:
    """Return exp(entropy) of the singular values taken as shares (Roy & Vetterli 2007); 0 for a zero update."""
    total = float(values.sum())
    if not total:
        return 0.0
    shares = values[values > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))


def kept_rank(values: torch.Tensor, share: float = KEPT) -> int:
    """Return the smallest rank that keeps this share of the update's squared size; 0 for a zero update."""
    energy = values.square()
    total = float(energy.sum())
    if not total:
        return 0
    return int((energy.cumsum(0) < share * total).sum()) + 1


def measure(update: LoraUpdate, weight: StoredTensor | None) -> LayerFigures:
    """Return the figures of one layer."""
    values = singular_values(update)
    norm = float(values.norm())
    size, nf4, int4 = weight_figures(weight) if weight is not None else (None, None, None)
    return LayerFigures(
        update.module,
        update.rank,
        norm,
        [float(value) for value in values],
        effective_rank(values),
        kept_rank(values),
        relative=norm / size if size else None,
        nf4_error=nf4,
        int4_error=int4,
    )


def weight_figures(weight: StoredTensor) -> tuple[float, float, float]:
    """Return a weight's Frobenius norm, and what NF4 and int4 in blocks of 64 lose of it (relative)."""
    square = nf4 = int4 = 0.0
    for chunk in _chunks(weight):
        square += float(chunk.square().sum())
        nf4 += float((chunk - rounded(chunk, NF4_LEVELS)).square().sum())
        int4 += float((chunk - rounded(chunk, INT4_LEVELS)).square().sum())
    norm: float = square**0.5
    return norm, (nf4 / square) ** 0.5 if square else 0.0, (int4 / square) ** 0.5 if square else 0.0


def rounded(numbers: torch.Tensor, levels: tuple[float, ...]) -> torch.Tensor:
    """Round numbers to levels times the largest of each block of 64, as 4-bit storage does."""
    flat = numbers.flatten().float()
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale = padded.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    table = torch.tensor(levels)
    middles = (table[1:] + table[:-1]) / 2
    found = table[torch.bucketize(padded / scale, middles)] * scale
    return found.view(-1)[: len(flat)].view(numbers.shape)


def _chunks(weight: StoredTensor) -> Iterator[torch.Tensor]:
    """Yield a weight in pieces of whole blocks."""
    step = max(1, _CHUNK // max(1, weight.row_elements) // BLOCK) * BLOCK
    for first in range(0, weight.rows, step):
        yield weight.read(first, first + step).float()
