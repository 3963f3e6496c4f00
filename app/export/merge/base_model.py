"""The 16-bit base that an adapter belongs to: found, fetched when it is a hub id, and described without weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from app.catalog.reader import read_config
from app.errors import ExportError, ModelError, OtherBaseError
from app.export.merge import mxfp4_base
from app.export.merge.tensor_map import Place, places_of
from app.hub.ids import is_local
from app.hub.network import fetch_folder
from app.jobs.directory import holding
from app.models.adapters import AdapterFolder
from app.models.loading import load_config, refuse_pickles, stored_method
from app.models.moe import mxfp4
from app.models.names import resolve
from app.models.tensors import StoredTensor, read_checkpoint
from app.models.text_tower import empty_language_model

_NO_CHOICE = "put the model that it was trained on back to its place"
# How publishers name their quantised copies.
_COPIES = re.compile(r"[-_.](unsloth[-_.])?(bnb[-_.]?)?(4bit|8bit|nf4|awq|gptq|int4|int8|w4a16|fp8)([-_.].*)?$", re.I)
_COMPARED_ELEMENTS = 1 << 22
_WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class Skeleton:
    """A model without its weights: its parameters, module types by name, and how its embeddings are tied.

    transposed: modules that store (in, out), as Conv1D does. transposed_experts: those that store experts so.
    aliases: the other names of a parameter that the model has in several places; files have it under one of them.
    """

    shapes: dict[str, tuple[int, ...]]
    transposed: frozenset[str]
    transposed_experts: frozenset[str]
    input_embedding: str
    output_embedding: str
    tied: bool
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)


class BaseModel:
    """A base model on disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        refuse_pickles(str(folder))
        self.config: PreTrainedConfig = load_config(str(folder))
        if is_quantised(folder):
            raise _quantised(name)
        self.tensors = read_checkpoint(folder)
        if stored_method(self.config) == mxfp4.METHOD:
            self.tensors = mxfp4_base.plain(self.tensors)
            del self.config.quantization_config
        with torch.device("meta"):
            model: PreTrainedModel = empty_language_model(self.config)
        self.skeleton = _skeleton(model)
        self.places = places_of(model, self.tensors)
        self._parts: dict[str, dict[str, Place]] = {}
        for name, place in self.places.items():
            self._parts.setdefault(place.parameter, {})[name] = place

    @cached_property
    def tied(self) -> bool:
        """Tell whether the output layer is the input embeddings.

        A configuration may say so while the files hold two different matrices; transformers 5 then keeps both.
        """
        first, last = (self.tensor_name(end) for end in self.ends)
        if not self.skeleton.tied or first is None or last is None or first == last:
            return self.skeleton.tied
        return _same_values(self.tensors[first], self.tensors[last])

    @property
    def ends(self) -> tuple[str, str]:
        """Return the parameters of the input embeddings and of the output layer."""
        return f"{self.skeleton.input_embedding}.weight", f"{self.skeleton.output_embedding}.weight"

    def tensor_name(self, parameter: str) -> str | None:
        """Return the name under which the files have a parameter of the model in one piece, or None.

        A matrix of one expert counts by the name that it has in the files, as adapters of transformers 4 name it.
        """
        for known in (parameter, *self.skeleton.aliases.get(parameter, ())):
            whole = [name for name, place in self._parts.get(known, {}).items() if place.expert is None]
            if whole or known in self.tensors:
                return next(iter(whole), known)
        return None

    def parts(self, parameter: str) -> dict[str, Place]:
        """Return the stored tensors that make up a parameter, and their places. Raises ExportError for none."""
        return self._parts.get(parameter) or {self.tensor(parameter).name: Place(parameter)}

    def tensor(self, parameter: str) -> StoredTensor:
        """Return where a parameter of the model is stored in one piece. Raises ExportError."""
        name = self.tensor_name(parameter)
        if name is None and parameter not in {*self.skeleton.shapes, *self.ends}:
            raise OtherBaseError(
                f"The adapter does not fit the base {self.name}",
                f"it changes {parameter}, and this model has no such parameter",
            )
        if name is None:
            raise ExportError(
                f"The base {self.name} has no weights for {parameter}",
                "the files store this layer under another name, or fused with others",
                "this model cannot be merged yet; serve the adapter beside its base",
            )
        return self.tensors[name]

    @property
    def bytes(self) -> int:
        """Return the size of all weights."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Return the number of weights in the files."""
        return sum(tensor.bytes // tensor.dtype.itemsize for tensor in self.tensors.values())


def find_base(adapter: AdapterFolder, override: str | None = None, *, fetch: bool = True) -> BaseModel:
    """Return the base of an adapter: the named one, else that of its training job, else that of its configuration.

    Without `fetch`, a base on the hub counts only when it was fetched before. Raises ExportError when none is known or
    it is stored quantised, ModelError or NetworkError when it cannot be read or fetched.
    """
    return BaseModel(*base_place(adapter, override, fetch=fetch))


def named_base(adapter: AdapterFolder, override: str | None = None) -> str:
    """Return what an adapter's base is called: as named now, else as in its training job, else as in its configuration.

    PEFT writes the folder that the base was loaded from, which may have moved since. Raises ExportError when nothing
    names it.
    """
    name = override or _name_in_job(adapter.path) or str(adapter.config.get("base_model_name_or_path") or "")
    if not name:
        raise ExportError(
            f"The base of {adapter.path} is not known",
            "its files do not name it",
            "name it with --base",
            on_page=_NO_CHOICE,
        )
    return name


def base_place(adapter: AdapterFolder, override: str | None = None, *, fetch: bool = True) -> tuple[str, Path]:
    """Return the name of an adapter's base and the folder that it lies in."""
    name = named_base(adapter, override)
    try:
        resolved = resolve(name)
    except ModelError as error:
        raise ExportError(
            f"The base {name!r:.120} cannot be used", error.line(), "name it with --base", on_page=_NO_CHOICE
        ) from None
    return name, _folder_of(resolved, fetch)


def is_quantised(folder: Path) -> bool:
    """Tell whether a model's weights are stored quantised, in another format than MXFP4: that is read as numbers."""
    stored = base_config(folder).get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    return bool(stored) and method != mxfp4.METHOD


def original_name(name: str) -> str:
    """Return what the 16-bit original of a quantised copy is probably called, or nothing."""
    stem = _COPIES.sub("", name)
    return "" if stem == name or Path(name).is_absolute() else stem


def _quantised(name: str) -> ExportError:
    original = original_name(name)
    named = f"the original 16-bit model ({original}, by its name)" if original else "the original 16-bit model"
    return ExportError(
        f"The base {name} is stored quantised",
        "merging into quantised weights would round every weight a second time",
        f"name {named} with --base, or add --dequantise",
        on_page=f"take the adapter folder away as it is, or merge at the command line, which can be given {named}",
    )


def training_quantization(adapter: Path) -> dict[str, object] | None:
    """Return the quantisation settings of the job that an adapter lies in, or None when it lies in none."""
    config = _job_config(adapter)
    return None if config is None else dict(config.get("quantization") or {})


def trained_on_a_copy(adapter: AdapterFolder) -> bool:
    """Tell by its names whether an adapter was trained on a quantised copy, whose weights are not those of its base."""
    names = (_name_in_job(adapter.path), str(adapter.config.get("base_model_name_or_path") or ""))
    return any(original_name(name) for name in names)


def public_name(name: str) -> str:
    """Return a model's name without the folders of this machine."""
    return Path(name).name if Path(name).expanduser().is_absolute() else name


def _name_in_job(adapter: Path) -> str:
    config = _job_config(adapter)
    return str((config or {}).get("model", {}).get("name") or "")


def _job_config(adapter: Path) -> dict[str, Any] | None:
    """Return the RunConfig of the training job whose result/adapter or checkpoint this folder is."""
    job = holding(adapter)
    return None if job is None else job.config


def _folder_of(resolved: str, fetch: bool) -> Path:
    if is_local(resolved):
        return Path(resolved)
    return fetch_folder(resolved, _WANTED, f"The base {resolved}", "check the network", fetch=fetch)


def _same_values(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return all(
        torch.equal(one.read(first, last), other.read(first, last)) for first, last in one.blocks(_COMPARED_ELEMENTS)
    )


def _skeleton(model: PreTrainedModel) -> Skeleton:
    modules = dict(model.named_modules())
    names = {id(module): name for name, module in modules.items()}
    text = model.config.get_text_config(decoder=True)
    output_embedding = names.get(id(model.get_output_embeddings()), "")
    return Skeleton(
        shapes={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        transposed=frozenset(name for name, module in modules.items() if hasattr(module, "nx")),
        transposed_experts=frozenset(n for n, module in modules.items() if getattr(module, "is_transposed", False)),
        input_embedding=names[id(model.get_input_embeddings())],
        output_embedding=output_embedding,
        tied=bool(getattr(text, "tie_word_embeddings", False)),
        aliases=_aliases(model, output_embedding),
    )


def _aliases(model: PreTrainedModel, output_embedding: str) -> dict[str, tuple[str, ...]]:
    """Return of every parameter that has several names the others, but for the output layer's.

    Whether the two ends are one is looked at in the file, and an adapter may part them: they are never one by name.
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name != f"{output_embedding}.weight":
            groups.setdefault(id(parameter), []).append(name)
    return {
        name: tuple(other for other in group if other != name)
        for group in groups.values()
        if len(group) > 1
        for name in group
    }


def base_config(folder: Path) -> dict[str, Any]:
    """Return config.json as it is stored. Raises ModelError."""
    return read_config(folder / "config.json")
