"""The model of any config.json on the meta device: its text decoder, its kinds of layers, a shallow copy of it.

Imports torch and transformers: for the tracing child only. Nothing of a model but its configuration is read, and no
code that a folder brings along is run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from app.errors import PlanError, foreign_code
from app.models.encoder_decoder import is_encoder_decoder
from app.models.moe.experts import stacked_names
from app.models.targets import kept_whole, name_backbone

# More kinds than this are one layer each: a trace of all of them would take minutes.
_MOST_KINDS = 12
_NOT_OF_A_MODEL = ("dtype", "torch_dtype", "quantization_config", "auto_map", "architectures", "transformers_version")


@dataclass(frozen=True)
class Decoder:
    """Hold a decoder on the meta device, the name of its list of layers, and the kind of each layer.

    An encoder with a decoder has two lists, which a step runs through one after the other.
    """

    model: Any
    layers: tuple[str, ...]
    kinds: tuple[int, ...]

    @property
    def examples(self) -> tuple[int, ...]:
        """Return one layer of each kind: the last but for the first kind, whose layers before others feed them."""
        last = {kind: index for index, kind in enumerate(self.kinds)}
        return tuple(last[kind] for kind in range(len(last)))


def refused(what: str, why: str, remedy: str = "Choose another model") -> PlanError:
    """Return the error of a model that cannot be trained here."""
    return PlanError(f"The model {what} cannot be planned", why, remedy)


@contextmanager
def refusing(what: str, why: str, remedy: str = "Choose another model") -> Iterator[None]:
    """Turn what a library raises about a model that nobody here knows into a PlanError, with the library's reason."""
    with foreign_code(lambda error: refused(what, f"{why}: {_line(error)}", remedy), passing=()):
        yield


def text_config(config: Mapping[str, Any], name: str) -> PretrainedConfig:
    """Return the configuration of the text decoder. Raises PlanError where transformers has no class for it."""
    family = str(config.get("model_type", ""))
    if family not in CONFIG_MAPPING:
        version = transformers.__version__
        raise refused(name, f"transformers {version} has no architecture '{family[:60]}'")
    # A copy: transformers writes into the parts of what it is given.
    held = copy.deepcopy(dict(config))
    values = {key: value for key, value in held.items() if key not in (*_NOT_OF_A_MODEL, "model_type")}
    with refusing(name, "its configuration is not valid", "Restore its config.json"):
        whole = AutoConfig.for_model(family, **values)
    if is_encoder_decoder(whole):
        return whole
    if whole.is_encoder_decoder:
        raise refused(name, f"'{family[:60]}' is an encoder with a decoder that does more than read and write text")
    part = whole.get_text_config(decoder=True)
    for one in (part, whole):
        if type(one) in MODEL_FOR_CAUSAL_LM_MAPPING:
            return one
    raise refused(name, f"transformers has no class that generates text for '{family[:60]}'")


def build(config: Mapping[str, Any], name: str, dtype: torch.dtype, attention: str) -> Decoder:
    """Return the decoder on the meta device. Raises PlanError that says why it cannot be had."""
    text = text_config(config, name)
    with torch.device("meta"):
        model = _from_config(text, name, dtype, attention)
    name_backbone(model)
    layers = _layer_lists(model, name)
    kinds = _kinds_of_lists([model.get_submodule(one) for one in layers])
    if max(kinds) >= _MOST_KINDS:
        raise refused(name, f"its layers are of more than {_MOST_KINDS} kinds")
    return Decoder(model, layers, kinds)


def _from_config(text: PretrainedConfig, name: str, dtype: torch.dtype, attention: str) -> Any:
    """Build with the attention asked for, or with the one that the class has."""
    kind = AutoModelForSeq2SeqLM if is_encoder_decoder(text) else AutoModelForCausalLM
    for kernel in dict.fromkeys((attention, "eager")):
        with refusing(name, "transformers cannot build it"):
            try:
                return kind.from_config(copy.deepcopy(text), dtype=dtype, attn_implementation=kernel)
            except ValueError as error:
                if "attention implementation" not in str(error) or kernel == "eager":
                    raise
    raise refused(name, "transformers cannot build it")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def layers_of(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return the layers of a model in the order in which they run."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return [layer for name in names for layer in base.get_submodule(name)]


def _layer_lists(model: Any, name: str) -> tuple[str, ...]:
    """Return the names of a model's lists of layers: the decoder's, with an encoder's before it."""
    if not is_encoder_decoder(model.config):
        return (_layer_list(model, name),)
    parts = {
        key: part
        for part in (model.get_encoder(), model.get_decoder())
        for key, one in model.named_modules()
        if one is part
    }
    return tuple(f"{key}.{_layer_list(part, name)}" for key, part in parts.items())


def _kinds_of_lists(lists: Sequence[nn.ModuleList]) -> tuple[int, ...]:
    """Return of each layer of all lists which kind it is; the two where a list ends and another begins are their own.

    What a model does between two lists is counted to the layer before, and in the backward pass to the one behind.
    """
    found: list[int] = []
    for number, layers in enumerate(lists):
        before = max(found, default=-1) + 1
        kinds = [before + kind for kind in _kinds(layers)]
        if number and kinds.count(kinds[0]) > 1:
            kinds = [before, *(kind + 1 for kind in kinds[1:])]
        if number + 1 < len(lists) and kinds.count(kinds[-1]) > 1:
            kinds[-1] = max(kinds) + 1
        found += kinds
    return tuple(found)


def _layer_list(model: Any, name: str) -> str:
    """Return the name of the decoder's list of layers: that of the right length which lies highest."""
    lists = [(key, part) for key, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    count = getattr(model.config, "num_hidden_layers", 0)
    right = [key for key, part in lists if len(part) == count]
    if right:
        return str(min(right, key=lambda key: key.count(".")))
    if not lists:
        raise refused(name, "it has no list of layers")
    return str(max(lists, key=lambda item: len(item[1]))[0])


def _kinds(layers: nn.ModuleList) -> tuple[int, ...]:
    """Return of each layer which kind it is, kinds counted from 0 in the order of their first layers."""
    settings = [_settings(layer) for layer in layers]
    numbered = {
        key
        for key, value in settings[0].items()
        if len(layers) > 1 and not isinstance(value, (bool, str)) and _counts_up([one.get(key) for one in settings])
    }
    signatures = [
        repr(({key: value for key, value in own.items() if key not in numbered}, _shapes(layer)))
        for layer, own in zip(layers, settings, strict=True)
    ]
    order = {signature: number for number, signature in enumerate(dict.fromkeys(signatures))}
    return tuple(order[signature] for signature in signatures)


def _counts_up(values: list[Any]) -> bool:
    """Tell whether numbers are those of the layers, not settings: each is one more than that before it."""
    known = [value for value in values if value is not None]
    return all(isinstance(value, int) for value in known) and len(set(known)) == len(known) > 1


def _settings(layer: nn.Module) -> dict[tuple[str, str], bool | str | int]:
    """Return what the modules of a layer hold as settings, by module and name."""
    return {
        (key, name): value
        for key, module in layer.named_modules()
        for name, value in sorted(vars(module).items())
        if isinstance(value, (bool, str, int)) and not name.startswith("_") and "idx" not in name
    }


def _shapes(layer: nn.Module) -> list[tuple[str, str, list[tuple[str, tuple[int, ...]]]]]:
    """Return the class and the parameters' shapes of every module of a layer."""
    return [
        (key, type(module).__name__, [(name, tuple(one.shape)) for name, one in module.named_parameters(recurse=False)])
        for key, module in layer.named_modules()
    ]


def chunks(decoder: Decoder) -> tuple[int, ...]:
    """Return for each kind of layer to what multiple its rows are filled up: state-space layers work in chunks."""
    layers = layers_of(decoder.model, decoder.layers)
    return tuple(
        max([1, *(size for part in layers[index].modules() if isinstance(size := _chunk(part), int))])
        for index in decoder.examples
    )


def _chunk(part: nn.Module) -> object:
    return next((vars(part)[name] for name in ("chunk_size", "mamba_chunk_size") if name in vars(part)), None)


def shallow(decoder: Decoder, chosen: tuple[int, ...]) -> Any:
    """Return a copy of the model that runs only the layers `chosen`, in this order.

    Settings listed by layer are put into the same order; the depth that the configuration names stays, for tables that
    hold a part for every layer have its size.
    """
    memo: dict[int, Any] = {}
    begin, depths = 0, set()
    for name in decoder.layers:
        whole = decoder.model.get_submodule(name)
        own = [index - begin for index in chosen if begin <= index < begin + len(whole)]
        memo[id(whole)] = nn.ModuleList([copy.deepcopy(whole[index]) for index in own])
        begin += len(whole)
        depths.add(len(whole))
    model = copy.deepcopy(decoder.model, memo)
    depth = max(depths)
    for config in {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values():
        for key, value in list(vars(config).items()):
            if isinstance(value, (list, tuple)) and len(value) == depth and depth > 1:
                rest = [index for index in range(depth) if index not in chosen]
                order = [*chosen, *rest][:depth]
                try:
                    setattr(config, key, type(value)(value[index] for index in order))
                except (AttributeError, TypeError, ValueError):
                    continue
    return model


def four_bit_names(model: Any) -> set[str]:
    """Return the modules whose weight bitsandbytes stores in four bits.

    transformers' integration converts plain linear and Conv1D modules, those that it keeps excepted: the output head,
    tied weights, the module that holds the last parameter, and what a class keeps in fp32 (T5's `wo`). Stacks of
    experts are parameters, no modules: see `expert_stacks`.
    """
    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules) + kept_whole(model)
    return {
        name
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and should_convert_module(name, kept)
    }


def expert_stacks(model: Any) -> list[nn.Parameter]:
    """Return the stacks of experts that the workbench stores in four bits."""
    return [part.get_parameter(name) for part in model.modules() for name in stacked_names(part)]
