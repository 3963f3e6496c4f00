"""What a merge writes: every tensor of the base in its order, and what the adapter does to each.

Where the embeddings are tied and the adapter changes one end only, the output layer becomes a tensor of its own, as
PEFT computes it: the other end keeps the base's weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from app.errors import ExportError, OtherBaseError
from app.export.merge.base_model import BaseModel
from app.export.merge.shards import Outline, layout
from app.export.merge.tensor_map import Place
from app.export.merge.weight_delta import Addend, Changes, Rows, changes_of, share_ends
from app.models.adapters import AdapterFolder
from app.models.peft_keys import refuse_ignored
from app.models.tensors import StoredTensor, read_header

_FACTORS = {"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"}
_FLOATS = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


@dataclass(frozen=True)
class Output:
    """One tensor of the merged model.

    source: where its plain values lie. place: what part of a parameter it is. addend: the update that is added to it,
    as a weight or, with `bias`, as a bias. rows: rows that take the place of its own.
    """

    outline: Outline
    source: StoredTensor
    place: Place
    addend: Addend | None = None
    bias: bool = False
    rows: Rows | None = None


@dataclass(frozen=True)
class Plan:
    """A merge, ready to be streamed.

    `digest` identifies inputs and layout; `untied` says that the ends are two matrices where the
    base's configuration ties them; `vocabulary` is the new number of tokens
    where the adapter changes it.
    """

    outputs: dict[str, Output]
    shards: dict[str, list[Outline]]
    untied: bool
    vocabulary: int | None
    digest: str

    @property
    def bytes(self) -> int:
        """Return the size of the merged weights."""
        return sum(output.outline.bytes for output in self.outputs.values())


def make_plan(base: BaseModel, adapter: AdapterFolder, dtype: torch.dtype | None, shard_bytes: int) -> Plan:
    """Plan a merge. Raises ExportError for an adapter that cannot be merged into this base."""
    changes = changes_of(adapter, base)
    _refuse_rescaled(adapter, base, changes)
    touched = base.tied and bool(changes.parameters & set(base.ends))
    untied = share_ends(changes, base, adapter)
    vocabulary = _vocabulary(base, changes, one_end=base.tied and not untied)
    outputs = dict(_outputs(base, changes, dtype, touched, untied))
    _check_shapes(adapter, outputs)
    # Every update is read once: what is damaged is said now, and not after an hour of merging.
    for addend in changes.updates.values():
        adapter.update(addend.layer, name=addend.name, experts=addend.experts)
    refuse_ignored(adapter, base.config, vocabulary, refusal=ExportError)
    shards = layout([output.outline for output in outputs.values()], shard_bytes)
    return Plan(outputs, shards, untied or base.tied != base.skeleton.tied, vocabulary, _digest(base, adapter, shards))


def _refuse_rescaled(adapter: AdapterFolder, base: BaseModel, changes: Changes) -> None:
    """Refuse rsLoRA on single experts, whose size PEFT changes when it stacks them: alpha / sqrt(r) does not survive.

    It doubles rank and alpha of gate and up projections, which keeps alpha / r only.
    """
    single = [name for name in changes.updates if (place := base.places.get(name)) and place.expert is not None]
    if single and adapter.config.get("use_rslora"):
        raise ExportError(
            "The adapter cannot be merged",
            f"it uses rsLoRA on single experts ({single[0]}), and PEFT 0.21 computes another size for them than "
            "the version that trained it",
            "use it with transformers 4",
        )


def _vocabulary(base: BaseModel, changes: Changes, *, one_end: bool) -> int | None:
    """Return the new number of tokens, or None where it stays. Raises ExportError where the ends would not fit.

    `one_end` says that the output layer is the embeddings.
    """
    first, last = base.ends
    known = base.tensor(first).shape
    sizes = {end: whole.shape for end in base.ends if (whole := changes.whole.get(end)) is not None}
    grown = {end: shape for end, shape in sizes.items() if shape != known}
    if not grown:
        return None
    end, shape = next(iter(grown.items()))
    if len(shape) != 2 or shape[1:] != known[1:]:
        raise OtherBaseError(
            "The adapter does not fit the base",
            f"its {end} is {shape}, the base has {known}",
        )
    missing = [other for other in ([first] if one_end else [first, last]) if sizes.get(other) != shape]
    if missing or base.tensor_name(f"{base.skeleton.output_embedding}.bias"):
        raise ExportError(
            f"The adapter resizes the vocabulary to {shape[0]:,} tokens, but only in part",
            f"it brings {end} in this size and not {(missing or [last])[0]}, so the new rows are not defined",
            "train with both in modules_to_save",
        )
    return int(shape[0])


def _outputs(
    base: BaseModel, changes: Changes, dtype: torch.dtype | None, touched: bool, untied: bool
) -> Iterator[tuple[str, Output]]:
    """Yield the tensors of the base in their order, changed ones marked, and a parted output layer last."""
    first, last = base.ends
    of_file: dict[str, Place] = {}
    for parameter in changes.parameters:
        if not (untied and parameter == last):
            of_file |= base.parts(parameter)
    # A stored copy of tied weights would be out of date once either end changes.
    left_out = base.tensor_name(last) if touched else None
    for name, stored in base.tensors.items():
        if name != left_out:
            yield name, _output(name, of_file.get(name, Place("")), stored, changes, dtype)
    if untied:
        yield last, _output(last, Place(last), base.tensor(first), changes, dtype)


def _output(name: str, place: Place, stored: StoredTensor, changes: Changes, dtype: torch.dtype | None) -> Output:
    parameter = place.parameter
    source = changes.whole.get(parameter)
    if source is not None and place.expert is not None:
        raise ExportError(
            "The adapter cannot be merged",
            f"it brings all experts of {parameter} whole, and the base stores them one by one",
            "serve it beside its base",
        )
    addend = changes.updates.get(parameter) or changes.biases.get(parameter)
    wanted = dtype if dtype is not None and stored.dtype in _FLOATS else stored.dtype
    source = stored if source is None else replace(source, name=name)
    return Output(
        Outline(name, wanted, source.shape),
        source,
        place,
        addend,
        bias=parameter not in changes.updates and parameter in changes.biases,
        rows=changes.rows.get(parameter),
    )


def _check_shapes(adapter: AdapterFolder, outputs: dict[str, Output]) -> None:
    """Compare every update with the weight that it is added to. Raises ExportError."""
    stored = read_header(adapter.weights_file)
    for output in outputs.values():
        if output.rows is not None:
            _check_rows(output, stored[output.rows.key])
        if output.addend is None or output.bias:
            continue
        parts = sorted(adapter.layers[output.addend.layer].items())
        a, b = (stored[key].shape for part, key in parts if part in _FACTORS)
        found, expected = output.source.shape, _fitting(output, a, b)
        if found != expected:
            raise OtherBaseError(
                f"The adapter does not fit the base at {output.addend.layer}",
                f"its update is {expected}, the weight is {found}",
            )


def _fitting(output: Output, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the weight that A and B fit."""
    addend, place = output.addend, output.place
    assert addend is not None
    matrix = (a[1], b[0]) if addend.transposed else (b[0] // place.parts, a[1])
    return (addend.experts, *matrix) if addend.experts > 1 and place.expert is None else matrix


def _check_rows(output: Output, rows: StoredTensor) -> None:
    assert output.rows is not None
    numbers, (count, width) = output.rows.numbers, output.source.shape
    if rows.shape != (len(numbers), width) or max(numbers, default=0) >= count:
        raise OtherBaseError(
            f"The adapter does not fit the base at {output.outline.name}",
            f"it replaces {len(numbers)} rows up to number {max(numbers, default=0)} by a tensor of {rows.shape}, "
            f"and the weight is {(count, width)}",
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
