"""Load a mixture of experts expert by expert: read, dequantise where it is stored so, and quantise to 4 bits.

transformers stacks all experts of a layer at full width before anything else is done to them. Its loader is told here
to hand each expert's tensors over on the processor, one expert at a time, so that a layer's experts are never whole at
full width on the accelerator. MXFP4, as gpt-oss is published, is read by the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import (
    Concatenate,
    ConversionOps,
    MergeModulelist,
    Transpose,
    WeightConverter,
)
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from app.models.moe import mxfp4
from app.models.moe.experts import ExpertStack, StandIn, attach, stacked_names
from app.models.targets import kept_whole

_FOUR_BIT, _MXFP4 = "bitsandbytes_4bit", "mxfp4"
# A tensor of the checkpoint, or what reads it.
Source = Callable[[], Any] | Future[Any] | Any
# Makes an empty stack in 4 bits for a parameter of this module, name and full name; None where it stays as it is.
StackMaker = Callable[[nn.Module, str, str], ExpertStack | None]


@contextmanager
def experts_one_by_one(stored: str = "") -> Iterator[None]:
    """Let transformers load mixtures of experts expert by expert, to 4 bits where linear layers get 4 bits.

    `stored` is the method that the checkpoint is quantised by, where that is MXFP4.
    """
    before = dict(AUTO_QUANTIZER_MAPPING)
    AUTO_QUANTIZER_MAPPING[_FOUR_BIT] = partial(FourBitQuantizer, from_mxfp4=stored == mxfp4.METHOD)
    AUTO_QUANTIZER_MAPPING[_MXFP4] = SixteenBitReader
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING.update(before)


class FourBitQuantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """bitsandbytes' quantiser of linear layers, which takes stacked experts as well."""

    def __init__(self, quantization_config: Any, *, from_mxfp4: bool = False, **settings: Any) -> None:
        super().__init__(quantization_config, **settings)
        self._from_mxfp4 = from_mxfp4

    def _process_model_before_weight_loading(self, model: PreTrainedModel, device_map: Any, **settings: Any) -> None:
        super()._process_model_before_weight_loading(model, device_map, **settings)
        self._device = torch.device((device_map or {}).get("", "cpu"))
        self._dtypes = _dtypes(model)
        if self._from_mxfp4:
            _expect_bytes(model)

    @staticmethod
    def get_modules_to_not_convert(model: PreTrainedModel, *rest: Any, **settings: Any) -> list[str]:
        """Return the modules that keep 16 bits: the routers as well, whose choices small errors would change."""
        found: list[str] = HfQuantizer.get_modules_to_not_convert(model, *rest, **settings)
        return found + list(_routers(model)) + kept_whole(model)

    def param_element_size(self, model: PreTrainedModel, param_name: str, param: torch.Tensor) -> float:
        """Return the bytes of a weight: transformers reserves the sum of them before it loads."""
        if param_name in self._dtypes:
            return 0.5
        return float(super().param_element_size(model, param_name, param))

    def update_weight_conversions(self, weight_conversions: list[Any], model: PreTrainedModel) -> list[Any]:
        """Return transformers' conversions, those of experts replaced."""
        found = super().update_weight_conversions(weight_conversions, model)
        return _expert_conversions(found, model, ExpertReader(self._stack, self._dtypes))

    def _stack(self, module: nn.Module, name: str, full_name: str) -> ExpertStack | None:
        if not should_convert_module(full_name.rpartition(".")[0], self.modules_to_not_convert):
            return None
        settings = self.quantization_config
        return ExpertStack(
            module.get_parameter(name).shape,
            quant_type=settings.bnb_4bit_quant_type,
            double_quant=settings.bnb_4bit_use_double_quant,
            compute_dtype=settings.bnb_4bit_compute_dtype,
            device=self._device,
            transposed=bool(module.is_transposed),
        )

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
        """Let the modules compute from their stacks; experts that came by another way are quantised now."""
        for full_name, module, name in list(_stacks(model)):
            parameter = module.get_parameter(name)
            if not isinstance(parameter, StandIn):
                stack = self._stack(module, name, full_name)
                if stack is None:
                    continue
                parameter = _filled(stack, iter(parameter), parameter.dtype)
                setattr(module, name, parameter)
            attach(module, name, parameter.__dict__.pop("stack"))
        done: PreTrainedModel = super()._process_model_after_weight_loading(model, **settings)
        return done


class SixteenBitReader(HfQuantizer):  # type: ignore[misc]
    """The reader of MXFP4 for models that shall be loaded in 16 bits: nothing of the format is left behind it."""

    quantization_config: Any

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **settings: Any) -> None:
        self.quantization_config.dequantize = True
        self._dtypes = _dtypes(model)
        _expect_bytes(model)

    def param_element_size(self, model: PreTrainedModel, param_name: str, param: torch.Tensor) -> float:
        """Return the bytes of a weight: transformers reserves the sum of them before it loads."""
        return float(self._dtypes.get(param_name, param.dtype).itemsize)

    def update_weight_conversions(self, weight_conversions: list[Any], model: PreTrainedModel) -> list[Any]:
        """Return transformers' conversions with the readers of MXFP4."""
        return _expert_conversions(list(weight_conversions), model, ExpertReader(lambda *_: None, self._dtypes))

    def is_serializable(self) -> bool:
        """Tell whether the loaded model can be saved: it is a plain one."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Tell whether the loaded model can be trained: it is a plain one."""
        return True


class ExpertConverter(WeightConverter):  # type: ignore[misc]
    """A conversion of transformers that hands its tensors to an ExpertReader."""

    __slots__ = ("reader",)

    def __init__(self, source_patterns: Any, target_patterns: Any, operations: Any, reader: ExpertReader) -> None:
        # On the processor: an accelerator shall hold one expert at full width, and not a layer's.
        super().__init__(source_patterns, target_patterns, operations, force_cpu=True)
        self.reader = reader

    def convert(
        self, layer_name: str, model: Any = None, config: Any = None, hf_quantizer: Any = None, loading_info: Any = None
    ) -> dict[str, torch.Tensor]:
        """Return the parameters that the collected tensors make, as the loader asks for them."""
        if layer_name in self.reader.dtypes and len(self.target_patterns) == 1:
            matrices = self._matrices(model, layer_name, config)
            if matrices is not None:
                return {layer_name: self.reader.parameter(model, layer_name, matrices)}
        found = super().convert(layer_name, model, config, hf_quantizer, loading_info)
        return {name: self.reader.stored(model, name, value) for name, value in found.items()}

    def _matrices(self, model: Any, name: str, config: Any) -> Iterator[torch.Tensor] | None:
        """Return the experts' matrices one by one, None where the conversion needs them together."""
        tensors: dict[str, list[Source]] = self.collected_tensors
        stored = {pattern.removesuffix("$"): pattern for pattern in tensors}
        blocks = next((stored[key] for key in stored if key.endswith(mxfp4.BLOCKS)), None)
        if blocks is not None:
            scales = blocks.removesuffix(f"{mxfp4.BLOCKS}$") + f"{mxfp4.SCALES}$"
            return _from_mxfp4(_taken(tensors.pop(blocks)[0]), _taken(tensors.pop(scales)[0]), self.reader.dtypes[name])
        if self.operations[0].__class__ is not MergeModulelist:
            return iter(_taken(tensors.pop(next(iter(tensors)))[0])) if self.operations == [_AS_STORED] else None
        number = int(model.get_parameter(name).shape[0])
        if all(map(_by_expert, self.operations)) and all(len(found) == number for found in tensors.values()):
            return self._merged(number, config)
        return None

    def _merged(self, number: int, config: Any) -> Iterator[torch.Tensor]:
        """Run the conversion on the tensors of one expert after the other."""
        patterns = {"source_patterns": self.source_patterns, "target_patterns": self.target_patterns}
        tensors = {pattern: self.collected_tensors.pop(pattern) for pattern in list(self.collected_tensors)}
        for expert in range(number):
            one: dict[str, Any] = {}
            for pattern, found in tensors.items():
                one[pattern] = [_taken(found[expert])]
                found[expert] = None  # type: ignore[call-overload]
            for operation in self.operations:
                one = operation.convert(one, **patterns, config=config)
            (value,) = one.values()
            yield (value[0] if isinstance(value, list) else value)[0]


class ExpertReader:
    """What becomes of experts that were read: a stack in 4 bits, or a parameter at full width."""

    def __init__(self, stack: StackMaker, dtypes: Mapping[str, torch.dtype]) -> None:
        """`dtypes` names the parameters that are stacks of experts, with the dtype that each would have."""
        self._stack, self.dtypes = stack, dtypes

    def __deepcopy__(self, memory: Any) -> ExpertReader:
        """Return itself: the loader copies a conversion for every parameter."""
        return self

    def parameter(self, model: PreTrainedModel, name: str, matrices: Iterator[torch.Tensor]) -> nn.Parameter:
        """Return the parameter of a stack whose matrices come one by one."""
        module, short = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        dtype, stack = self.dtypes[name], self._stack(module, short, name)
        if stack is not None:
            return _filled(stack, matrices, dtype)
        whole = torch.empty(module.get_parameter(short).shape, dtype=dtype)
        for expert, matrix in enumerate(matrices):
            whole[expert] = matrix
        return nn.Parameter(whole, requires_grad=False)

    def stored(self, model: PreTrainedModel, name: str, value: Any) -> Any:
        """Return a converted tensor as it is kept: in 4 bits if it is a stack of experts, else as it is."""
        if name not in self.dtypes:
            return value
        return self.parameter(model, name, iter(value[0] if isinstance(value, list) else value))


class _AsStored(ConversionOps):  # type: ignore[misc]
    """The conversion of what is stored as the model keeps it."""

    def convert(self, input_dict: dict[str, Any], **settings: Any) -> dict[str, Any]:
        return input_dict

    @property
    def reverse_op(self) -> ConversionOps:
        return self

    def __deepcopy__(self, memory: Any) -> _AsStored:
        return self


_AS_STORED = _AsStored()


def _expert_conversions(conversions: list[Any], model: PreTrainedModel, reader: ExpertReader) -> list[Any]:
    """Return conversions in which those of experts read one expert at a time, and MXFP4 and whole stacks as well."""
    found = [_one_by_one(conversion, reader) for conversion in conversions]
    for tail in sorted({"." + ".".join(name.split(".")[-2:]) for name in reader.dtypes}):
        stored = [re.escape(tail) + ending + "$" for ending in ("", mxfp4.BLOCKS, mxfp4.SCALES)]
        found.append(ExpertConverter(stored[:1], tail, [_AS_STORED], reader))
        found.append(ExpertConverter(stored[1:], tail, [_AS_STORED], reader))
    return found


def _one_by_one(conversion: Any, reader: ExpertReader) -> Any:
    """Return an ExpertConverter for a conversion that makes stacks of experts, and any other as it is."""
    if not isinstance(conversion, WeightConverter) or len(conversion.target_patterns) != 1:
        return conversion
    ending = conversion.target_patterns[0].rpartition(".")[2]
    if not any(name.rpartition(".")[2] == ending for name in reader.dtypes):
        return conversion
    made = ExpertConverter(
        list(conversion._original_source_patterns),
        list(conversion._original_target_patterns),
        conversion.operations,
        reader,
    )
    made.scope_prefix, made.base_model_prefix = conversion.scope_prefix, conversion.base_model_prefix
    return made


def _by_expert(operation: Any) -> bool:
    """Tell whether an operation does to all experts together what it does to each of them."""
    if isinstance(operation, MergeModulelist):
        return bool(operation.dim == 0)
    if isinstance(operation, Concatenate):
        return bool(operation.dim != 0)
    return isinstance(operation, Transpose) and 0 not in (operation.dim0, operation.dim1)


def _from_mxfp4(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Yield the matrices (in, out) of blocks (experts, out, groups, 16), as gpt-oss keeps them in memory."""
    for expert in range(blocks.shape[0]):
        yield mxfp4.dequantise(blocks[expert], scales[expert], dtype).T


def _filled(stack: ExpertStack, matrices: Iterator[torch.Tensor], dtype: torch.dtype) -> StandIn:
    """Quantise matrices into a stack, and return the parameter that stands for it and carries it."""
    for expert, matrix in enumerate(matrices):
        stack.put(expert, matrix)
    made = StandIn((stack.experts, stack.rows, stack.columns), dtype, stack.packed.device)
    made.stack = stack  # type: ignore[attr-defined]
    return made


def _taken(source: Source) -> torch.Tensor:
    """Return a tensor of the checkpoint, read now where it was not yet."""
    if isinstance(source, torch.Tensor):
        return source
    found: torch.Tensor = source.result() if isinstance(source, Future) else source()
    return found


def _stacks(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the full name, module and name of every parameter that is a stack of experts."""
    for path, module in model.named_modules():
        for name in stacked_names(module):
            yield f"{path}.{name}", module, name


def _routers(model: nn.Module) -> Iterator[str]:
    """Yield the linear layers beside experts that score them; most families have none and keep a bare matrix."""
    for path, module in model.named_modules():
        if stacked_names(module):
            block = path.rpartition(".")[0]
            for name, beside in model.get_submodule(block).named_modules():
                if isinstance(beside, nn.Linear) and beside.out_features == module.num_experts:
                    yield f"{block}.{name}"


def _dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {full_name: module.get_parameter(name).dtype for full_name, module, name in _stacks(model)}


def _expect_bytes(model: nn.Module) -> None:
    """Let stacks of experts expect bytes: the loader would turn the packed weights into numbers of their dtype."""
    for _, module, name in list(_stacks(model)):
        empty = torch.empty(module.get_parameter(name).shape, dtype=torch.uint8, device="meta")
        setattr(module, name, nn.Parameter(empty, requires_grad=False))
