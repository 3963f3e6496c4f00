"""What a merge writes: every tensor of the base in its order, and what the adapter does to each.

Where the embeddings are tied and the adapter changes one end only, the output layer becomes a tensor of its own, as
PEFT computes it: the other end keeps the base's weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from app.errors import ExportError
from app.export.base_model import BaseModel
from app.export.shards import Outline, layout
from app.models.adapters import AdapterFolder
from app.models.tensors import StoredTensor, read_header

_FACTORS = {"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"}
_FLOATS = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


@dataclass(frozen=True)
class Output:
    """One tensor of the merged model.

    source: where its plain values lie. layer: the adapted module whose update is added to it, as a weight or, with
    `bias`, as a bias. transposed: stored as (in, out), as embeddings and GPT-2's Conv1D are.
    """

    outline: Outline
    source: StoredTensor
    layer: str | None = None
    bias: bool = False
    transposed: bool = False

    @property
    def changed(self) -> bool:
        """Tell whether the stored bytes cannot be copied as they are."""
        return self.layer is not None or self.outline.dtype != self.source.dtype


@dataclass(frozen=True)
class Plan:
    """A merge, ready to be streamed. `digest` identifies inputs and layout; `untied` says that the ends part."""

    outputs: dict[str, Output]
    shards: dict[str, list[Outline]]
    untied: bool
    digest: str

    @property
    def bytes(self) -> int:
        """Return the size of the merged weights."""
        return sum(output.outline.bytes for output in self.outputs.values())


@dataclass
class _Changes:
    """What an adapter does to parameters of the model, by their names in the model."""

    layers: dict[str, str] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)
    whole: dict[str, StoredTensor] = field(default_factory=dict)
    embeddings: set[str] = field(default_factory=set)

    @property
    def parameters(self) -> set[str]:
        return {*self.layers, *self.biases, *self.whole}

    def drop(self, parameter: str) -> None:
        for found in (self.layers, self.biases, self.whole):
            found.pop(parameter, None)


def make_plan(base: BaseModel, adapter: AdapterFolder, dtype: torch.dtype | None, shard_bytes: int) -> Plan:
    """Plan a merge. Raises ExportError for an adapter that cannot be merged into this base."""
    _refuse(adapter)
    changes = _changes_of(adapter)
    ends = (f"{base.skeleton.input_embedding}.weight", f"{base.skeleton.output_embedding}.weight")
    touched = base.skeleton.tied and bool(changes.parameters & set(ends))
    untied = touched and not adapter.config.get("ensure_weight_tying")
    if touched and not untied:
        changes.drop(ends[1])
    # A stored copy of tied weights would be out of date once either end changes.
    left_out = base.tensor_name(ends[1]) if touched else None
    outputs = dict(_outputs(base, changes, dtype, left_out, ends if untied else None))
    _check_shapes(adapter, outputs)
    shards = layout([output.outline for output in outputs.values()], shard_bytes)
    return Plan(outputs, shards, untied, _digest(base, adapter, shards))


def _refuse(adapter: AdapterFolder) -> None:
    adapter.refuse_changed_base()
    if adapter.foreign:
        raise ExportError(
            f"The adapter {adapter.path} cannot be merged",
            f"it uses {', '.join(adapter.foreign)}, which is not a plain sum of low-rank updates",
            "serve it beside its base",
        )


def _changes_of(adapter: AdapterFolder) -> _Changes:
    changes, stored = _Changes(), read_header(adapter.weights_file)
    for module, parts in adapter.layers.items():
        changes.layers[f"{module}.weight"] = module
        if "lora_embedding_A" in parts:
            changes.embeddings.add(module)
        if "lora_B.bias" in parts:
            changes.biases[f"{module}.bias"] = module
    changes.whole = {parameter: stored[key] for parameter, key in adapter.whole_tensors.items()}
    return changes


def _outputs(
    base: BaseModel,
    changes: _Changes,
    dtype: torch.dtype | None,
    left_out: str | None,
    parted: tuple[str, str] | None,
) -> Iterator[tuple[str, Output]]:
    """Yield the tensors of the base in their order, changed ones marked, and the parted output layer last."""
    of_model = {base.tensor(p).name: p for p in changes.parameters if not (parted and p == parted[1])}
    for name, stored in base.tensors.items():
        if name != left_out:
            yield name, _output(name, of_model.get(name, name), stored, base, changes, dtype)
    if parted:
        yield parted[1], _output(parted[1], parted[1], base.tensor(parted[0]), base, changes, dtype)


def _output(
    name: str, parameter: str, stored: StoredTensor, base: BaseModel, changes: _Changes, dtype: torch.dtype | None
) -> Output:
    whole = changes.whole.get(parameter)
    if whole is not None and whole.shape != stored.shape:
        raise ExportError(
            f"The adapter changes the size of {parameter}",
            f"it is {whole.shape}, the base has {stored.shape}",
            "an adapter with a resized vocabulary cannot be merged yet",
        )
    wanted = dtype if dtype is not None and stored.dtype in _FLOATS else stored.dtype
    layer = changes.layers.get(parameter)
    return Output(
        Outline(name, wanted, stored.shape),
        stored if whole is None else replace(whole, name=name),
        layer or changes.biases.get(parameter),
        bias=layer is None and parameter in changes.biases,
        transposed=layer is not None and (layer in base.skeleton.transposed or layer in changes.embeddings),
    )


def _check_shapes(adapter: AdapterFolder, outputs: dict[str, Output]) -> None:
    """Compare every update with the weight it is added to. Raises ExportError."""
    stored = read_header(adapter.weights_file)
    for output in outputs.values():
        if output.layer is None or output.bias:
            continue
        a, b = (stored[key].shape for part, key in sorted(adapter.layers[output.layer].items()) if part in _FACTORS)
        expected = (a[1], b[0]) if output.transposed else (b[0], a[1])
        if output.source.shape != expected:
            raise ExportError(
                f"The adapter does not fit the base at {output.layer}",
                f"its update is {expected}, the weight is {output.source.shape}",
                "name the model that it was trained on with --base",
            )


def _digest(base: BaseModel, adapter: AdapterFolder, shards: dict[str, list[Outline]]) -> str:
    """Return a digest of everything that decides the bytes of the shards."""
    files = sorted({tensor.file for tensor in base.tensors.values()})
    inputs = {
        "adapter": adapter.hash,
        "base": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "shards": {name: [[t.name, str(t.dtype), list(t.shape)] for t in shard] for name, shard in shards.items()},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
