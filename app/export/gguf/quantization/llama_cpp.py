"""llama.cpp's own quantiser, out of the wheel `xllamacpp` (MIT): fetched when a small file is first asked for.

The wheel is an extension module; only one plain function of ggml is called in it, by ctypes.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from app.errors import ExportError
from app.jobs.supervisor import spawn_helper

WHEEL, DOWNLOAD = "xllamacpp==2026.10.11549", "34 MB"
Floats = npt.NDArray[np.float32]
_DECODERS = {
    kind: f"dequantize_row_{kind.name.lower().replace('_k', '_K')}"
    for kind in (
        *(GGMLQuantizationType.Q2_K, GGMLQuantizationType.Q3_K, GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K),
        *(GGMLQuantizationType.Q6_K, GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1),
        *(GGMLQuantizationType.IQ4_NL, GGMLQuantizationType.IQ4_XS),
    )
}
# Rows are shared out among threads in pieces of about this many values.
_PIECE = 1 << 20


def is_here() -> bool:
    """Tell whether the wheel is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def fetch() -> None:
    """Install the wheel into this environment. Raises ExportError when it cannot be had."""
    if is_here():
        return
    with TemporaryDirectory() as folder:
        log = Path(folder) / "pip.log"
        words = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--log", str(log), WHEEL]
        spawn_helper("pip", words).communicate()
        told = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    importlib.invalidate_caches()
    if not is_here():
        reasons = [line.partition("ERROR: ")[2] for line in told.splitlines() if "ERROR: " in line]
        why = reasons[-1] if reasons else "pip gave no reason"
        raise ExportError(
            f"llama.cpp's quantiser ({WHEEL}, {DOWNLOAD}) could not be fetched",
            why[:300],
            "try again with a network, or choose q8_0, which needs no quantiser",
        )


@cache
def _library() -> ctypes.CDLL:
    """Return the extension as a plain library. Raises ExportError."""
    spec = importlib.util.find_spec("xllamacpp")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.glob("xllamacpp*.so")) + sorted(folder.glob("xllamacpp*.pyd")) if folder else []
    if not files:
        raise ExportError("llama.cpp's quantiser is not installed", "", f"install it: pip install {WHEEL}")
    library = ctypes.CDLL(str(files[0]))
    chunk = library.ggml_quantize_chunk
    # (type, source, destination, first value, rows, columns, importance of each column or null) -> bytes written
    chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunk.restype = ctypes.c_size_t
    for name in _DECODERS.values():
        # (source, destination, values)
        decode = getattr(library, name)
        decode.argtypes, decode.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    return library


def quantise(values: Floats, kind: GGMLQuantizationType, importance: Floats | None = None) -> bytes:
    """Return rows of float32 values, (rows, columns) or (experts, rows, columns), in a format of blocks.

    importance: the mean square of what each column is multiplied by, (columns), or (experts, columns) for each expert
    by itself; None counts all alike.
    """
    if importance is not None and importance.ndim == 2:
        return b"".join(quantise(one, kind, its) for one, its in zip(values, importance, strict=True))
    columns = values.shape[-1]
    rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, columns)
    block, size = GGML_QUANT_SIZES[kind]
    row_bytes = columns // block * size
    made = np.empty(len(rows) * row_bytes, dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    chunk = _library().ggml_quantize_chunk

    def piece(first: int) -> None:
        count = min(step, len(rows) - first)
        source, place = rows.ctypes.data + first * columns * 4, made.ctypes.data + first * row_bytes
        written = chunk(int(kind), source, place, 0, count, columns, None if weights is None else weights.ctypes.data)
        assert written == count * row_bytes

    step = max(1, _PIECE // columns)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # the library works without Python's lock
        list(threads.map(piece, range(0, len(rows), step)))
    return made.tobytes()


def dequantise(data: bytes, kind: GGMLQuantizationType) -> Floats:
    """Return the values of whole blocks in float32, (values), as llama.cpp itself reads them."""
    block, size = GGML_QUANT_SIZES[kind]
    stored = np.frombuffer(data, dtype=np.uint8)
    made = np.empty(len(data) // size * block, dtype=np.float32)
    decode = getattr(_library(), _DECODERS[kind])

    def piece(first: int) -> None:
        count = min(step, len(made) - first)
        decode(stored.ctypes.data + first // block * size, made.ctypes.data + first * 4, count)

    step = _PIECE // block * block
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(piece, range(0, len(made), step)))
    return made
