"""An adapter's two files: where they lie, and what is wrong with them. Free of heavy imports.

A child takes 10 s and more until it can look, so what asks for one looks here first.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from app.errors import ModelError, one_line
from app.hub.ids import is_local
from app.models.names import resolve_adapter
from app.reading import parsed_json

Kept = TypeVar("Kept")

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# PEFT puts this in front of every name of the base model.
PREFIX = "base_model.model."
EMBEDDING = {"lora_embedding_A", "lora_embedding_B"}
_PARTS = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_magnitude_vector(?:\.weight)?"
    r"|lora_embedding_A|lora_embedding_B)"
)
# Settings of PEFT 0.21 under which a forward pass is not base + scaling * B(A(x)).
FOREIGN = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "megatron_config",
)
_WANTED = (CONFIG_FILE, WEIGHTS_FILE, "tokenizer_config.json", "chat_template.jinja", "workbench.json")
# Far above any alpha in use; larger ones are damage, and would overflow float32 in the product.
_LARGEST_ALPHA = 1e9
# Floating-point formats: the bytes of a value, and the bits that are all set in what is no finite number.
_NOT_FINITE = {
    "F64": (8, 0x7FF0 << 48),
    "F32": (4, 0x7F80 << 16),
    "F16": (2, 0x7C00),
    "BF16": (2, 0x7F80),
    "F8_E4M3": (1, 0x7F),
    "F8_E5M2": (1, 0x7C),
}
_INTEGERS = {"I": "int", "U": "uint"}
_PIECE_BYTES = 16 << 20
_ANOTHER = "use another copy of the adapter"


@dataclass(frozen=True)
class TensorHeader:
    """What a file of safetensors says of one tensor: format, shape, and first and last byte behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def locate(name: str) -> Path:
    """Return the folder of an adapter, fetched from the hub where it is named there.

    Raises ModelError for what is no name, NetworkError when the hub has no such adapter or cannot be reached.
    """
    from app.hub.network import fetch_folder

    resolved = resolve_adapter(name)
    if is_local(resolved):
        return Path(resolved)
    remedy = "check the name and the network, or name a folder on this machine"
    return fetch_folder(resolved, _WANTED, f"The adapter {resolved} is no folder here and", remedy)


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a model of its own and no adapter."""
    try:
        return (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file()
    except OSError:  # a name longer than the file system allows
        return False


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the configuration of a LoRA adapter. Raises ModelError for a folder or a configuration that is none."""
    if not _is_file(folder / WEIGHTS_FILE):
        pickled = _is_file(folder / "adapter_model.bin")
        raise ModelError(
            f"{folder} is not an adapter folder",
            "its weights are a pickle, and a pickle can run code" if pickled else f"it has no {WEIGHTS_FILE}",
            "name the folder that a training run left in result/adapter",
        )
    try:
        config = parsed_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{folder / CONFIG_FILE} cannot be read", why, "check the folder") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ModelError(f"{folder} is no LoRA adapter", f"its peft_type is {found!r:.60}", "choose a LoRA adapter")
    problem = _problem_of(config)
    if problem:
        raise ModelError(f"{folder / CONFIG_FILE} is damaged", problem, _ANOTHER)
    return config


def layers_of(weights_file: Path, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return, for every adapted module of the base, its parts and the names of their tensors.

    Raises ModelError where the names hold no A and B, or one without the other.
    """
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _PARTS.fullmatch(key.removeprefix(PREFIX))
        if match:
            part = match["part"].removesuffix(".weight") if "magnitude" in match["part"] else match["part"]
            found.setdefault(match["module"], {})[part] = key
    if not found:
        raise ModelError(f"{weights_file} holds no LoRA weights", "it has no A and B", "use another copy")
    for module, parts in found.items():
        if not ({"lora_A.weight", "lora_B.weight"} <= set(parts) or set(parts) >= EMBEDDING):
            raise ModelError(f"{weights_file} is incomplete", f"the layer {module} lacks A or B", "use another copy")
    return found


def factors(parts: Mapping[str, Kept]) -> tuple[Kept, Kept]:
    """Return A and B, or their names, among the parts of a layer."""
    both = ("lora_embedding_A", "lora_embedding_B") if set(parts) >= EMBEDDING else ("lora_A.weight", "lora_B.weight")
    return parts[both[0]], parts[both[1]]


def misfit(config: Mapping[str, Any], module: str, a: tuple[int, ...], b: tuple[int, ...], experts: int = 1) -> str:
    """Return why A and B of these shapes cannot be an update of the configured rank, once an expert, or nothing."""
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
        return f"A {a} and B {b} of {module} do not fit"
    rank = int(of_pattern(config.get("rank_pattern"), module, config.get("r", a[0])))
    if a[0] != rank * experts:
        return f"{module} has rank {a[0] / experts:g}, its {CONFIG_FILE} says {rank}"
    return ""


def of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern that names the module's end, as PEFT reads rank_pattern and so on."""
    for expression, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({expression})$", module):
            return value
    return default


def refuse_damaged(folder: Path) -> None:
    """Read an adapter's files whole, without what a child needs for it. Raises ModelError for what is wrong with them.

    Whether the adapter fits a base is not looked at: that takes the base.
    """
    config = read_settings(folder)
    file = folder / WEIGHTS_FILE
    data_start, tensors = _read_header(file)
    layers = layers_of(file, tensors)
    # Under any other of these settings only the model knows what rank a layer has.
    plain = not any(config.get(name) for name in FOREIGN if name != "trainable_token_indices")
    shapes = {module: [tensors[key].shape for key in factors(parts)] for module, parts in layers.items() if plain}
    misfits = filter(None, (misfit(config, module, a, b) for module, (a, b) in shapes.items()))
    named = {key: f"{part} of {module}" for module, parts in layers.items() for part, key in parts.items()}
    problem = next(misfits, "") or _not_numbers(file, data_start, tensors, named)
    if problem:
        raise ModelError(f"{file} is damaged", problem, _ANOTHER)


def _read_header(file: Path) -> tuple[int, dict[str, TensorHeader]]:
    """Return where the values begin, and what the header says of each tensor. Raises ModelError."""
    try:
        if not file.stat().st_size:
            raise SafetensorError("the file is empty")
        with safe_open(file, "np"):  # the library's own proof that header and length fit each other
            pass
        with file.open("rb") as read:
            (length,) = struct.unpack("<Q", read.read(8))
            held = json.loads(read.read(length))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged", one_line(error), _ANOTHER) from None
    held.pop("__metadata__", None)
    return 8 + length, {
        name: TensorHeader(one["dtype"], tuple(one["shape"]), *one["data_offsets"]) for name, one in held.items()
    }


def _not_numbers(file: Path, data_start: int, tensors: Mapping[str, TensorHeader], named: Mapping[str, str]) -> str:
    """Return which tensor is not made of finite floating-point numbers, or nothing."""
    with file.open("rb") as read:
        for key, tensor in tensors.items():
            if tensor.dtype not in _NOT_FINITE:
                if key in named:
                    return f"{named[key]} is made of {_plain_dtype(tensor.dtype)}"
                continue
            size, bits = _NOT_FINITE[tensor.dtype]
            kind = np.dtype(f"<u{size}")
            read.seek(data_start + tensor.start)
            for begin in range(tensor.start, tensor.end, _PIECE_BYTES):
                values = np.frombuffer(read.read(min(_PIECE_BYTES, tensor.end - begin)), kind)
                if bool(((values & kind.type(bits)) == bits).any()):
                    return f"{named.get(key, key)} holds values that are not numbers"
    return ""


def _plain_dtype(dtype: str) -> str:
    """Return the name of a format as torch and numpy have it: int8 for I8."""
    return _INTEGERS.get(dtype[0], dtype[0].lower()) + dtype[1:].lower()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows, or a folder that may not be entered
        return False


def _problem_of(config: Mapping[str, Any]) -> str:
    """Return what is wrong with the numbers that decide an update's size, or with the base's name; else nothing."""
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(name)
        if pattern is not None and not (isinstance(pattern, dict) and all(map(_is_expression, pattern))):
            return f"its {name} is no table of module names"
    ranks = [config.get("r", 8), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in ranks):
        return f"its rank is no whole number above 0: {ranks!r:.80}"
    alphas = [config.get("lora_alpha", 8), *(config.get("alpha_pattern") or {}).values()]
    if not all(isinstance(alpha, (int, float)) and abs(alpha) <= _LARGEST_ALPHA for alpha in alphas):
        return f"its alpha is no number: {alphas!r:.80}"
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        return f"its base_model_name_or_path is no text: {base!r:.80}"
    return ""


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
