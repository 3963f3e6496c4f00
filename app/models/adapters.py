"""Adapters as they lie on disk: one adapter_config.json and one safetensors file, read layer by layer."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from app.errors import ModelError
from app.reading import parsed_json

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# PEFT puts this in front of every name of the base model.
_PREFIX = "base_model.model."
_PARTS = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_magnitude_vector(?:\.weight)?"
    r"|lora_embedding_A|lora_embedding_B)"
)
_ROWS = ".token_adapter.trainable_tokens_delta"
# What PEFT's wrappers put into the names of the tensors that they wrap.
_INSIDE = re.compile(r"(\.token_adapter)?\.base_layer\.")
_COPIES = re.compile(r"\.(modules_to_save|original_module)\.")
_EMBEDDING = {"lora_embedding_A", "lora_embedding_B"}
# Settings of PEFT 0.21 under which a forward pass is not base + scaling * B(A(x)).
_FOREIGN = (
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
# Far above any alpha in use; larger ones are damage, and would overflow float32 in the product.
_LARGEST_ALPHA = 1e9
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
        if not _is_file(self.weights_file):
            pickled = _is_file(path / "adapter_model.bin")
            raise ModelError(
                f"{path} is not an adapter folder",
                "its weights are a pickle, and a pickle can run code" if pickled else f"it has no {WEIGHTS_FILE}",
                "name the folder that a training run left in result/adapter",
            )
        self.config = self._read_config()

    def _read_config(self) -> dict[str, Any]:
        try:
            config = parsed_json((self.path / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.path / CONFIG_FILE} cannot be read", str(error), "check the folder") from None
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
            raise ModelError(
                f"{self.path} is no LoRA adapter", f"its peft_type is {found!r:.60}", "choose a LoRA adapter"
            )
        problem = _problem_of(config)
        if problem:
            raise ModelError(f"{self.path / CONFIG_FILE} is damaged", problem, "use another copy of the adapter")
        return config

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
        found: dict[str, dict[str, str]] = {}
        for key in self.keys:
            match = _PARTS.fullmatch(key.removeprefix(_PREFIX))
            if match:
                part = match["part"].removesuffix(".weight") if "magnitude" in match["part"] else match["part"]
                found.setdefault(match["module"], {})[part] = key
        if not found:
            raise ModelError(f"{self.weights_file} holds no LoRA weights", "it has no A and B", "use another copy")
        for module, parts in found.items():
            if not ({"lora_A.weight", "lora_B.weight"} <= set(parts) or set(parts) >= _EMBEDDING):
                raise ModelError(
                    f"{self.weights_file} is incomplete", f"the layer {module} lacks A or B", "use another copy"
                )
        return found

    @cached_property
    def whole_tensors(self) -> dict[str, str]:
        """Return the base's parameters that the adapter brings whole (modules_to_save, biases), with tensor names.

        With embeddings of another size PEFT also writes what lies inside of its wrappers; of those copies the one
        that it reads back counts.
        """
        taken = {key for parts in self.layers.values() for key in parts.values()} | set(self.token_rows.values())
        found: dict[str, str] = {}
        for key in sorted(set(self.keys) - taken):
            parameter = _INSIDE.sub(".", key.removeprefix(_PREFIX))
            copied = bare_name(key)
            if copied == parameter or f"{_PREFIX}{copied}" not in self.keys:
                found[parameter] = key
        return found

    @cached_property
    def token_rows(self) -> dict[str, str]:
        """Return the modules of which the adapter replaces single rows (trainable_token_indices), with tensor names."""
        named = {key: key.removeprefix(_PREFIX) for key in self.keys if key.endswith(_ROWS)}
        return {name.removesuffix(_ROWS): key for key, name in named.items()}

    @property
    def rank(self) -> int:
        """Return the largest rank that the configuration names."""
        return max([int(self.config.get("r", 8)), *map(int, (self.config.get("rank_pattern") or {}).values())])

    @property
    def foreign(self) -> list[str]:
        """Return the settings in use under which the adapter is not a plain sum of low-rank updates."""
        return [name for name in _FOREIGN if self.config.get(name)]

    @property
    def unknown(self) -> list[str]:
        """Return the settings in use that this version does not know, of a newer PEFT or of another program."""
        return sorted(
            str(name) for name, value in self.config.items() if value and name not in _HARMLESS and name not in _FOREIGN
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
        embedding = set(parts) >= _EMBEDDING
        a = parts["lora_embedding_A" if embedding else "lora_A.weight"]
        b = parts["lora_embedding_B" if embedding else "lora_B.weight"]
        name = name or module
        problem = self._misfit(name, a, b, experts) or _not_numbers(module, parts)
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

    def _misfit(self, module: str, a: torch.Tensor, b: torch.Tensor, experts: int) -> str:
        """Return why A and B cannot be an update of the configured rank, once an expert, or nothing."""
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or not a.shape[0]:
            return f"A {tuple(a.shape)} and B {tuple(b.shape)} of {module} do not fit"
        rank = int(_of_pattern(self.config.get("rank_pattern"), module, self.config.get("r", a.shape[0])))
        if a.shape[0] != rank * experts:
            return f"{module} has rank {a.shape[0] / experts:g}, its {CONFIG_FILE} says {rank}"
        return ""

    def scaling(self, module: str, rank: int) -> float:
        """Return the factor of a layer's update: alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732)."""
        alpha = _of_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8))
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def bare_name(key: str) -> str:
    """Return a tensor's name without what PEFT puts into it: its prefix, its wrappers, and `weight` of a magnitude."""
    name = _COPIES.sub(".", _INSIDE.sub(".", key.removeprefix(_PREFIX)))
    return name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows, or a folder that may not be entered
        return False


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern that names the module's end, as PEFT reads rank_pattern and so on."""
    for expression, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({expression})$", module):
            return value
    return default


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


def _not_numbers(module: str, parts: Mapping[str, torch.Tensor]) -> str:
    """Return which tensor of a layer is not made of finite floating-point numbers, or nothing."""
    for part, tensor in parts.items():
        if not tensor.is_floating_point():
            return f"{part} of {module} is made of {str(tensor.dtype).removeprefix('torch.')}"
        if not bool(torch.isfinite(tensor.float()).all()):
            return f"{part} of {module} holds values that are not numbers"
    return ""
