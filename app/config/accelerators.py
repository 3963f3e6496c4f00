"""Kinds of accelerators, by the names that torch and its builds give them."""

from __future__ import annotations

from typing import Literal

Kind = Literal["cuda", "rocm", "xpu", "mps"]
"""NVIDIA's cards, AMD's (in torch they are `cuda` too), Intel's, and the GPU of Apple silicon."""
