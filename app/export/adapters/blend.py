"""Blend adapters: weighted sums of their updates, without the base model.

All methods work on the updates D = s B A themselves (s is alpha / rank, or alpha / sqrt(rank) for rsLoRA), so ranks may
differ. Summing the factors instead, as PEFT's linear does, brings products of one adapter's B with another's A.

    cat     all factors side by side; exact; rank is the sum of the ranks
    linear  sum of w D; exact at the smallest rank that holds it, or cut to the rank that was asked for
    svd     sum of w D, cut to a rank (the largest of the adapters' unless asked for) by its singular values
    ties    the largest entries of each D, signs elected, agreeing entries averaged (arXiv:2306.01708); cut to a rank
    dare    random entries of each D dropped, the others raised (arXiv:2311.03099), w D summed; cut to a rank
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from app.errors import ExportError
from app.models.adapters import LoraUpdate

Method = Literal["linear", "cat", "svd", "ties", "dare"]
# Singular values below this share of the largest are rounding: float32 has 24 bits, and a rank of 1024 ten more.
_NEGLIGIBLE = 1e-6
# A sum below this share of its parts is what rounding leaves of parts that cancel each other out.
_ROUNDING = 1e-5
# Share of entries that ties and dare keep; both papers find little loss at a half.
DENSITY = 0.5
_OVERSAMPLING, _ITERATIONS = 16, 4


@dataclass(frozen=True)
class Part:
    """One adapter's update of a layer, and how much of it is wanted."""

    update: LoraUpdate
    weight: float

    def scaled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A (rank, in) and weighted B (out, rank), whose product is w s B A."""
        return self.update.a.float(), self.update.b.float() * (self.weight * self.update.scaling)

    def dense(self) -> torch.Tensor:
        """Return the update without its weight, (out, in)."""
        return (self.update.b.float() * self.update.scaling) @ self.update.a.float()


@dataclass(frozen=True)
class Blended:
    """The blend of one layer, B A with scaling 1, how far it is from the exact result, and if its parts cancel."""

    a: torch.Tensor
    b: torch.Tensor
    max_abs_error: float
    relative_error: float
    cancels: bool


def blend_layer(parts: Sequence[Part], method: Method, rank: int | None, density: float, seed: int) -> Blended:
    """Blend the updates of one layer. `rank` None leaves it to the method."""
    largest = max(part.update.rank for part in parts)
    if method in ("ties", "dare"):
        exact = _finite(_DENSE[method](parts, density, _layer_seed(seed, parts[0].update.module)), parts)
        a, b = _cut_dense(exact, rank or largest, seed)
    else:
        exact = _finite(_sum([part.weight * part.dense() for part in parts]), parts)
        factors = [part.scaled() for part in parts]
        a, b = torch.cat([first for first, _ in factors]), torch.cat([second for _, second in factors], dim=1)
        if method != "cat":
            a, b = _cut(a, b, rank or largest if method == "svd" else rank)
    difference = exact - b @ a
    norm = float(exact.norm())
    error = float(difference.norm()) / norm if norm else float(difference.norm())
    parts_size = sum(float(a.norm() * b.norm()) for a, b in (part.scaled() for part in parts))
    return Blended(a, b, float(difference.abs().max()), error, cancels=norm <= _ROUNDING * parts_size)


def _finite(exact: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
    """Return an update if all of it can be stored. Raises ExportError."""
    if bool(torch.isfinite(exact).all()):
        return exact
    raise ExportError("The blend overflows", f"in the layer {parts[0].update.module}", "use smaller weights")


def padded(blended: Blended, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A and B filled up with zeros to a rank, so that all layers have one."""
    missing = rank - int(blended.a.shape[0])
    pad = torch.nn.functional.pad
    return pad(blended.a, (0, 0, 0, missing)).contiguous(), pad(blended.b, (0, missing)).contiguous()


def _cut(a: torch.Tensor, b: torch.Tensor, rank: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return B A at a smaller rank; without a rank, at the smallest that loses nothing.

    The singular values of B A are those of the small matrix between the QR factors of B and of A's transpose.
    """
    left, left_core = torch.linalg.qr(b.double())
    right, right_core = torch.linalg.qr(a.double().T)
    u, values, v = torch.linalg.svd(left_core @ right_core.T)
    kept = max(1, int((values > _NEGLIGIBLE * values[0]).sum()))
    kept = kept if rank is None else min(rank, len(values))
    root = values[:kept].sqrt()
    return (root[:, None] * (v[:kept] @ right.T)).float(), ((left @ u[:, :kept]) * root).float()


def _cut_dense(exact: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the leading part of a dense update by a randomised decomposition (Halko et al., arXiv:0909.4061)."""
    most = min(exact.shape)
    rank = min(rank, most)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, values, v = torch.svd_lowrank(exact, q=min(most, rank + _OVERSAMPLING), niter=_ITERATIONS)
    root = values[:rank].sqrt()
    return root[:, None] * v[:, :rank].T, u[:, :rank] * root


def _ties(parts: Sequence[Part], density: float, seed: int) -> torch.Tensor:
    """Trim each update to its largest entries, elect a sign for each place, average the weighted ones that agree."""
    trimmed = [_largest(part.dense(), density) for part in parts]
    elected = torch.where(_sum(trimmed) >= 0, 1.0, -1.0)
    total = torch.zeros_like(elected)
    count = torch.zeros_like(elected)
    for part, update in zip(parts, trimmed, strict=True):
        agrees = update.sign() == elected
        total += torch.where(agrees, part.weight * update, 0.0)
        count += agrees
    return total / count.clamp_(min=1.0)


def _dare(parts: Sequence[Part], density: float, seed: int) -> torch.Tensor:
    """Drop entries at random and raise the others, so that the expected sum stays the same."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in parts:
        update = part.dense()
        stays = torch.rand(update.shape, generator=generator) < density
        found.append(torch.where(stays, update * (part.weight / density), 0.0))
    return _sum(found)


_DENSE: dict[str, Callable[[Sequence[Part], float, int], torch.Tensor]] = {"ties": _ties, "dare": _dare}


def _largest(update: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the share of entries that are largest in size."""
    count = int(density * update.numel())
    kept = torch.zeros(update.numel(), dtype=torch.bool)
    kept[update.abs().flatten().topk(count).indices] = True
    return torch.where(kept.view_as(update), update, 0.0)


def _sum(updates: Sequence[torch.Tensor]) -> torch.Tensor:
    total = updates[0].clone()
    for update in updates[1:]:
        total += update
    return total


def _layer_seed(seed: int, module: str) -> int:
    """Return a seed of its own for each layer, the same on every machine; torch looks at 32 bits only."""
    return zlib.crc32(f"{seed} {module}".encode())
