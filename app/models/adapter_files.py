"""An adapter's two files: where they lie, and what is wrong with them. Free of heavy imports.

A child takes 10 s and more until it can look, so what asks for one looks here first.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from app.errors import ModelError, one_line
from app.hub.ids import is_local
from app.models.names import resolve_adapter
from app.reading import file_bytes, parsed_json

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
_ROWS = ".token_adapter.trainable_tokens_delta"
# What PEFT's wrappers put into the names of the tensors that they wrap.
_INSIDE = re.compile(r"(\.token_adapter)?\.base_layer\.")
_COPIES = re.compile(r"\.(modules_to_save|original_module)\.")
# What is left for a kind that neither the engine nor a merge can take.
PEFT_ALONE = "use it with PEFT itself in a script (PeftModel.from_pretrained), which knows this kind"
# Those that no forward pass of the base with PEFT's layers in it can answer: why, and what can.
_UNSERVED = {
    "layer_replication": "it repeats layers of the base, so that it runs on another model than the base",
    "alora_invocation_tokens": "it is active only behind certain tokens of a prompt",
    "arrow_config": "it routes between several adapters",
    "megatron_config": "it is made for Megatron's layers",
}
# Every other setting of PEFT 0.21, none of which changes what A and B of a linear layer do.
_HARMLESS = frozenset(
    [
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "r",
        "target_modules",
        "exclude_modules",
        "lora_alpha",
        "lora_dropout",
        "fan_in_fan_out",
        "bias",
        "use_rslora",
        "modules_to_save",
        "init_lora_weights",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "use_dora",
        "velora_config",
        "qalora_group_size",
        "runtime_config",
        "lora_bias",
        "ensure_weight_tying",
    ]
)
# Starts that move a part of the base weight into the adapter: it fits only the base as changed by that start.
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
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


class AdapterHeader:
    """What the configuration of a LoRA adapter and the names of its tensors say; no value is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights_file = path / WEIGHTS_FILE
        self.config = read_settings(path)

    @cached_property
    def hash(self) -> str:
        """Return the first 12 hex digits of the SHA-256 over configuration and weights."""
        digest = hashlib.sha256()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            with (self.path / name).open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        return digest.hexdigest()[:12]

    @cached_property
    def keys(self) -> list[str]:
        """Return the names of all tensors in the file."""
        try:
            if not self.weights_file.stat().st_size:
                raise SafetensorError("the file is empty")
            with safe_open(self.weights_file, "np") as file:
                return list(file.keys())
        except SafetensorError as error:
            raise ModelError(f"{self.weights_file} is damaged", str(error), _ANOTHER) from None

    @cached_property
    def layers(self) -> dict[str, dict[str, str]]:
        """Return, for every adapted module of the base, its parts and the names of their tensors."""
        return layers_of(self.weights_file, self.keys)

    @cached_property
    def whole_tensors(self) -> dict[str, str]:
        """Return the base's parameters that the adapter brings whole (modules_to_save, biases), with tensor names.

        With embeddings of another size PEFT also writes what lies inside of its wrappers; of those copies the one
        that it reads back counts.
        """
        taken = {key for parts in self.layers.values() for key in parts.values()} | set(self.token_rows.values())
        found: dict[str, str] = {}
        for key in sorted(set(self.keys) - taken):
            parameter = _INSIDE.sub(".", key.removeprefix(PREFIX))
            copied = bare_name(key)
            if copied == parameter or f"{PREFIX}{copied}" not in self.keys:
                found[parameter] = key
        return found

    @cached_property
    def token_rows(self) -> dict[str, str]:
        """Return the modules of which the adapter replaces single rows (trainable_token_indices), with tensor names."""
        named = {key: key.removeprefix(PREFIX) for key in self.keys if key.endswith(_ROWS)}
        return {name.removesuffix(_ROWS): key for key, name in named.items()}

    @property
    def rank(self) -> int:
        """Return the largest rank that the configuration names."""
        return max([int(self.config.get("r", 8)), *map(int, (self.config.get("rank_pattern") or {}).values())])

    @property
    def foreign(self) -> list[str]:
        """Return the settings in use under which the adapter is not a plain sum of low-rank updates."""
        return [name for name in FOREIGN if self.config.get(name)]

    @property
    def unknown(self) -> list[str]:
        """Return the settings in use that this version does not know, of a newer PEFT or of another program."""
        return sorted(
            str(name) for name, value in self.config.items() if value and name not in _HARMLESS and name not in FOREIGN
        )

    @property
    def stackable(self) -> bool:
        """Tell whether the adapter is nothing but A and B of linear layers, so that it can share a batch."""
        return self.sums_up and not self.whole_tensors

    @property
    def sums_up(self) -> bool:
        """Tell whether all updates are A and B of linear layers, whatever whole tensors the file has beside them."""
        plain = all(set(parts) == {"lora_A.weight", "lora_B.weight"} for parts in self.layers.values())
        return plain and not self.foreign and not self.config.get("use_dora")

    def trains_whole(self, parameter: str) -> bool:
        """Tell whether the configuration says that this parameter of the base was trained as a whole."""
        if parameter.endswith(".bias") and self.config.get("bias", "none") != "none":
            return True
        saved = self.config.get("modules_to_save")
        named = tuple(one for one in saved if isinstance(one, str)) if isinstance(saved, list) else ()
        parts = parameter.split(".")
        return any(".".join(parts[:end]).endswith(named) for end in range(1, len(parts)))

    def refuse_damaged(self) -> None:
        """Read the files whole, without what a child needs for it. Raises ModelError for what is wrong with them.

        Whether the adapter fits a base is not looked at: that takes the base.
        """
        data_start, tensors = _read_header(self.weights_file)
        # Under any other of these settings only the model knows what rank a layer has.
        plain = set(self.foreign) <= {"trainable_token_indices"}
        pairs = {module: factors(parts) for module, parts in self.layers.items() if plain}
        misfits = (misfit(self.config, module, tensors[a].shape, tensors[b].shape) for module, (a, b) in pairs.items())
        named = {key: f"{part} of {module}" for module, parts in self.layers.items() for part, key in parts.items()}
        problem = next(filter(None, misfits), "") or _not_numbers(self.weights_file, data_start, tensors, named)
        if problem:
            raise ModelError(f"{self.weights_file} is damaged", problem, _ANOTHER)

    def refuse_unserved(self) -> None:
        """Raise ModelError when no forward pass of the base with this adapter in it gives the adapter's answers."""
        for name, why in _UNSERVED.items():
            if self.config.get(name):
                raise ModelError(f"The adapter {self.path} cannot be served", f"{why} ({name})", PEFT_ALONE)

    @property
    def unserved(self) -> list[str]:
        """Return the settings in use under which the adapter cannot be served."""
        return [name for name in _UNSERVED if self.config.get(name)]

    def refuse_changed_base(self) -> None:
        """Raise ModelError when the adapter fits only a base whose weights its start has changed."""
        start = str(self.config.get("init_lora_weights", True)).lower()
        if start.startswith(_BASE_CHANGING) or self.config.get("lora_ga_config"):
            raise ModelError(
                f"The adapter {self.path} does not fit the plain base model",
                f"it began with {start}, which moves a part of the base weights into the adapter",
                "convert it with PEFT's path_initial_model_for_weight_conversion first",
            )


def bare_name(key: str) -> str:
    """Return a tensor's name without what PEFT puts into it: its prefix, its wrappers, and `weight` of a magnitude."""
    name = _COPIES.sub(".", _INSIDE.sub(".", key.removeprefix(PREFIX)))
    return name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name


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
        config = parsed_json(file_bytes(folder / CONFIG_FILE).decode())
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
