"""What an adapter does to its base, by the names of the model's parameters, read as PEFT 0.21 defines it.

Beside A and B of whole layers an adapter can bring parameters whole (modules_to_save, biases, embeddings of another
size), single rows of the embeddings (trainable_token_indices), and A and B of raw parameters such as fused experts
(target_parameters). For E experts A is (E r, in), expert by expert, and B is (out, r E) with the experts innermost; of
several parameters in one module the one that the module defines first is wrapped innermost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import ExportError, OtherBaseError
from app.export.adapter_kinds import refuse_unmergeable
from app.export.merge.base_model import BaseModel, Skeleton
from app.models.adapters import AdapterFolder
from app.models.tensors import StoredTensor, read_header

_FACTORS = {"lora_A.weight", "lora_B.weight"}


@dataclass(frozen=True)
class Addend:
    """An update and how it is added to a parameter.

    layer: its name in the adapter. name: what rank and alpha patterns are matched against. experts: the matrices that
    are stacked in the parameter. transposed: stored as (in, out), as embeddings and GPT-2's Conv1D are.
    """

    layer: str
    name: str
    experts: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class Rows:
    """Rows that take the place of a parameter's own. `key` is their tensor in the adapter's file."""

    numbers: tuple[int, ...]
    key: str


@dataclass
class Changes:
    """What an adapter does, by parameter. `whole` tensors take the place of the base's before anything is added."""

    updates: dict[str, Addend] = field(default_factory=dict)
    biases: dict[str, Addend] = field(default_factory=dict)
    whole: dict[str, StoredTensor] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)

    @property
    def parameters(self) -> set[str]:
        """Return all parameters that are changed."""
        return {*self.updates, *self.biases, *self.whole, *self.rows}

    def drop(self, parameter: str) -> None:
        """Forget what is done to a parameter."""
        for found in (self.updates, self.biases, self.whole, self.rows):
            found.pop(parameter, None)


def changes_of(adapter: AdapterFolder, base: BaseModel) -> Changes:
    """Return what an adapter does to the parameters of a base. Raises ExportError for what cannot be merged."""
    refuse_unmergeable(adapter)
    stored = read_header(adapter.weights_file)
    changes = Changes(whole={parameter: stored[key] for parameter, key in adapter.whole_tensors.items()})
    changes.rows = {f"{name}.weight": Rows(_numbers(adapter, name), key) for name, key in adapter.token_rows.items()}
    raw = _raw_parameters(adapter.config.get("target_parameters"), base.skeleton)
    for layer, parts in adapter.layers.items():
        module = layer.replace(".base_layer", "")
        if module in raw:
            parameter = _wrapped(layer, raw[module])
            changes.updates[parameter] = _raw_addend(layer, parameter, parts, base.skeleton)
            continue
        transposed = layer in base.skeleton.transposed or "lora_embedding_A" in parts
        changes.updates[f"{layer}.weight"] = Addend(layer, layer, transposed=transposed)
        if "lora_B.bias" in parts:
            changes.biases[_bias_of(layer, base)] = Addend(layer, layer)
    return changes


def _bias_of(layer: str, base: BaseModel) -> str:
    """Return the bias that a layer's own (lora_bias) is added to. Raises ExportError where the model has none."""
    if f"{layer}.bias" in base.skeleton.shapes:
        return f"{layer}.bias"
    raise ExportError(
        "The adapter cannot be merged",
        f"it adds a bias to {layer} (lora_bias), and the base model has none there",
        "serve it beside its base",
    )


def share_ends(changes: Changes, base: BaseModel, adapter: AdapterFolder) -> bool:
    """Settle what happens to embeddings that the base ties to its output layer, and tell whether they part.

    A tensor that the adapter brings for either end takes the place of both, unless it is a copy for training
    (modules_to_save); replaced rows are replaced at both ends.
    """
    ends = base.ends
    if base.skeleton.tied and not base.tied and ends[0] in changes.rows:
        changes.rows.setdefault(ends[1], changes.rows[ends[0]])  # PEFT goes by the configuration here
    if not base.tied or not changes.parameters & set(ends):
        return False
    # PEFT heeds the wish only for some names of embeddings; where it does, both ends are in the file.
    kept = bool(adapter.config.get("ensure_weight_tying")) and changes.parameters >= set(ends)
    saved = {end for end in ends if end in changes.whole and _is_saved(adapter, end)}
    shared = next((changes.whole[end] for end in ends if end in changes.whole and end not in saved), None)
    if shared is not None:
        changes.whole |= {end: shared for end in ends if end not in saved}
    shared_rows = _share_rows(changes, ends, saved)
    one_sided = saved | ({*changes.updates, *(() if shared_rows else changes.rows)} & set(ends))
    if kept or not one_sided:
        changes.drop(ends[1])
        return False
    return True


def _share_rows(changes: Changes, ends: tuple[str, str], saved: set[str]) -> bool:
    """Tell whether rows of the embeddings stand for the output layer too, as PEFT ties them unless they differ."""
    first, last = (changes.rows.get(end) for end in ends)
    if (first or last) and (saved or set(changes.updates) & set(ends)):
        raise ExportError(
            "The adapter cannot be merged",
            "it replaces single rows of tied embeddings and changes them in another way too",
            "serve it beside its base",
        )
    return first is not None and (last is None or last.numbers == first.numbers)


def _is_saved(adapter: AdapterFolder, parameter: str) -> bool:
    module = parameter.rpartition(".")[0]
    names = adapter.config.get("modules_to_save") or []
    return any(module == name or module.endswith(f".{name}") for name in names)


def _numbers(adapter: AdapterFolder, module: str) -> tuple[int, ...]:
    """Return the rows of a module that the configuration names. Raises ExportError."""
    wanted = adapter.config.get("trainable_token_indices")
    if isinstance(wanted, Mapping):
        fitting = [rows for name, rows in wanted.items() if module == name or module.endswith(f".{name}")]
        # The output layer of tied embeddings is stored along without being named.
        wanted = fitting[0] if fitting else next(iter(wanted.values()), None)
    if not isinstance(wanted, list) or not all(isinstance(row, int) and row >= 0 for row in wanted):
        raise ExportError(
            f"The adapter {adapter.path} cannot be merged",
            f"its trainable_token_indices do not say which rows of {module} it replaces",
            "use another copy of the adapter",
        )
    return tuple(wanted)


def _raw_parameters(targets: Any, skeleton: Skeleton) -> dict[str, list[str]]:
    """Return the parameters that target_parameters name, by module, in the order in which the module has them."""
    found: dict[str, list[str]] = {}
    wanted = [str(target) for target in targets or []]
    for parameter in skeleton.shapes if wanted else ():
        if any(parameter == target or parameter.endswith(f".{target}") for target in wanted):
            found.setdefault(parameter.rpartition(".")[0], []).append(parameter)
    return found


def _wrapped(layer: str, parameters: list[str]) -> str:
    """Return the parameter that a wrapper belongs to: the last one is outermost. Raises ExportError."""
    depth = layer.count(".base_layer")
    if depth >= len(parameters):
        raise OtherBaseError(
            "The adapter does not fit the base",
            f"it adapts more parameters of {layer.replace('.base_layer', '')} than its target_parameters name there",
        )
    return parameters[len(parameters) - 1 - depth]


def _raw_addend(layer: str, parameter: str, parts: Mapping[str, str], skeleton: Skeleton) -> Addend:
    if set(parts) != _FACTORS:
        raise ExportError(
            "The adapter cannot be merged",
            f"it has more than A and B for {parameter}, and PEFT knows no such update of a raw parameter",
            "use another copy of the adapter",
        )
    shape = skeleton.shapes[parameter]
    experts = shape[0] if len(shape) == 3 else 1
    stacked_transposed = len(shape) == 3 and parameter.rpartition(".")[0] in skeleton.transposed_experts
    return Addend(layer, parameter, experts, stacked_transposed)
