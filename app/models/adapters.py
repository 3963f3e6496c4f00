"""Adapters as they lie on disk: one adapter_config.json and one safetensors file, read layer by layer."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from app.errors import ModelError
from app.models.adapter_files import (
    CONFIG_FILE,
    EMBEDDING,
    FOREIGN,
    PREFIX,
    WEIGHTS_FILE,
    factors,
    layers_of,
    misfit,
    of_pattern,
    read_settings,
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


@dataclass(frozen=True)
class LoraUpdate:
    """The update of one layer. Shapes: a (rank, in), b (out, rank), magnitude (out), bias (out); all as stored."""

    module: str
    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Return the rank of the update."""
        return int(self.a.shape[0])

    def expert(self, number: int, experts: int) -> LoraUpdate:
        """Return the update of one of several stacked experts: A lies expert by expert, B with the experts innermost.

        As in PEFT's ParamWrapper.get_delta_weight (0.21).
        """
        a = self.a.view(experts, -1, self.a.shape[1])[number]
        b = self.b.view(self.b.shape[0], -1, experts)[:, :, number]
        return replace(self, a=a, b=b)

    def share(self, part: int, parts: int) -> LoraUpdate:
        """Return the update of one of several equal shares of the outputs."""
        rows = self.b.shape[0] // parts
        return replace(self, b=self.b[part * rows : (part + 1) * rows])


class AdapterFolder:
    """One LoRA adapter on disk. Tensors are read when they are asked for."""

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
            with safe_open(self.weights_file, "pt") as file:
                return list(file.keys())
        except SafetensorError as error:
            raise ModelError(f"{self.weights_file} is damaged", str(error), "use another copy of the adapter") from None

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

    def tensor(self, key: str) -> torch.Tensor:
        """Return one tensor of the file."""
        with safe_open(self.weights_file, "pt") as file:
            loaded: torch.Tensor = file.get_tensor(key)
        return loaded

    def updates(self) -> Iterator[LoraUpdate]:
        """Yield the update of every adapted layer."""
        for module in self.layers:
            yield self.update(module)

    def finite(self, key: str) -> torch.Tensor:
        """Return one tensor of the file. Raises ModelError when it is not made of finite numbers."""
        tensor = self.tensor(key)
        problem = _not_numbers(key, {"a tensor": tensor})
        if problem:
            raise ModelError(f"{self.weights_file} is damaged", problem, "use another copy of the adapter")
        return tensor

    def update(self, module: str, *, name: str | None = None, experts: int = 1) -> LoraUpdate:
        """Return the update of one adapted layer.

        `name` is what rank and alpha patterns are matched against where that is not the module itself; `experts` is
        the number of matrices whose updates lie in one A and B. Raises ModelError when A and B do not fit each other or
        the configuration, or are not finite.
        """
        parts = {part: self.tensor(key) for part, key in self.layers[module].items()}
        embedding = set(parts) >= EMBEDDING
        a, b = factors(parts)
        name = name or module
        shapes = tuple(a.shape), tuple(b.shape)
        problem = misfit(self.config, name, *shapes, experts) or _not_numbers(module, parts)
        if problem:
            raise ModelError(f"{self.weights_file} is damaged", problem, "use another copy of the adapter")
        return LoraUpdate(
            module,
            a,
            b,
            self.scaling(name, int(a.shape[0]) // experts),
            magnitude=parts.get("lora_magnitude_vector"),
            bias=parts.get("lora_B.bias"),
            embedding=embedding,
        )

    def scaling(self, module: str, rank: int) -> float:
        """Return the factor of a layer's update: alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732)."""
        alpha = of_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8))
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def bare_name(key: str) -> str:
    """Return a tensor's name without what PEFT puts into it: its prefix, its wrappers, and `weight` of a magnitude."""
    name = _COPIES.sub(".", _INSIDE.sub(".", key.removeprefix(PREFIX)))
    return name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name


def _not_numbers(module: str, parts: Mapping[str, torch.Tensor]) -> str:
    """Return which tensor of a layer is not made of finite floating-point numbers, or nothing."""
    for part, tensor in parts.items():
        if not tensor.is_floating_point():
            return f"{part} of {module} is made of {str(tensor.dtype).removeprefix('torch.')}"
        if not bool(torch.isfinite(tensor.float()).all()):
            return f"{part} of {module} holds values that are not numbers"
    return ""
