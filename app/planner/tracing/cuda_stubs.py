"""Stand-ins that make a trace on fake CPU tensors allocate what CUDA allocates. For the tracing child only.

Imports torch: never import this from a process that serves the page or the command line.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import bitsandbytes as bnb
import torch
from peft.tuners.lora import dora
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from app.planner.parts.weights import NF4_BLOCK
from app.planner.simulation.linear import FUSED_GEMM_ROWS
from app.planner.simulation.loss import TILE_COLUMNS, TILE_TOKENS


class MemoryMeter(TorchDispatchMode):  # type: ignore[misc]
    """Count live storages: each once when an operation first returns it, until its last reference goes."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.operation = ""
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and count what it returns."""
        self.operation = str(func)
        if func is torch.ops.aten._softmax_backward_data.default:
            # CUDA multiplies gradient and output into a temporary first (SoftMax.cu, softmax_backward_cuda_out).
            self.touch(args[0].numel() * args[0].element_size())
            product = torch.empty_like(args[0])
            self._count(product)
            result = func(*args, **(kwargs or {}))
            self._count(result)
            del product
            return result
        result = func(*args, **(kwargs or {}))
        self._count(result)
        return result

    def touch(self, size_bytes: int) -> None:
        """Count bytes that are free again at once."""
        self.peak = max(self.peak, self.live + size_bytes)

    def _count(self, result: Any) -> None:
        if isinstance(result, Tensor):
            self.register(result)
        elif isinstance(result, (list, tuple)):
            for item in result:
                self._count(item)

    def register(self, tensor: Tensor) -> None:
        """Count a tensor's storage unless it is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Allocate what the CUDA attention kernels allocate: flash without a mask, memory-efficient with one."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return an output of the query's shape, laid out rows x length x heads x width."""
        rows, heads, length, _ = query.shape
        width = value.shape[-1]
        size = rows * heads * length * width
        # Output and log-sum-exps share one storage here, so that one tensor is saved for both.
        whole = query.new_empty(size + rows * heads * length * 4 // query.element_size())
        # A boolean mask is turned into numbers for the kernel; one of numbers is used as it is.
        bias = query.new_empty(mask.shape) if mask is not None and mask.dtype == torch.bool else mask
        ctx.save_for_backward(query, key, value, whole, bias)
        return whole[:size].view(rows, length, heads, width).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of the inputs' shapes; accumulate the query's in fp32 as the kernels do."""
        query, key, value, _, bias = ctx.saved_tensors
        workspace = [torch.empty(query.shape[:-1], dtype=torch.float32)]
        if query.element_size() == 2:
            workspace.append(torch.empty(query.shape, dtype=torch.float32))
        if bias is None and key.shape[1] != query.shape[1]:
            shape = (query.shape[0], query.shape[1], key.shape[2], key.shape[3])
            workspace += [key.new_empty(shape), value.new_empty(shape)]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **kwargs: Any
) -> Tensor:
    """Stand in for scaled_dot_product_attention."""
    if _under_autocast():
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    return _Attention.apply(query, key, value, attn_mask)


def _under_autocast() -> bool:
    return bool(torch.is_autocast_enabled("cpu"))


def _is_autocast_enabled(device_type: str = "cpu") -> bool:
    """Answer for the CPU when no device is named: PEFT asks without one and means the accelerator."""
    return bool(_asked_of_torch(device_type))


_asked_of_torch = torch.is_autocast_enabled


def _in_fp32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that casts its tensors to fp32 under autocast, as CUDA's list of fp32 operations says."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if _under_autocast():
            args = tuple(item.float() if isinstance(item, Tensor) else item for item in args)
            kwargs = {name: item.float() if isinstance(item, Tensor) else item for name, item in kwargs.items()}
        return function(*args, **kwargs)

    return call


def _softmax(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return softmax as `_in_fp32` does it, but in the format that is named with the call, where one is.

    Autocast sets fp32 only where no dtype is given (pytorch/aten/src/ATen/autocast_mode.h, fp32_set_opt_dtype); gpt-oss
    names the one of its scores.
    """
    widened = _in_fp32(function)

    def call(*args: Any, **kwargs: Any) -> Any:
        named = kwargs.get("dtype")
        return (widened if named in (None, torch.float32) else function)(*args, **kwargs)

    return call


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop with a mask of one byte an element, as the CUDA kernel does."""
    return torch.native_dropout(x, p, True)[0] if p and training else x


@contextmanager
def cuda_behaviour() -> Iterator[None]:
    """Replace what the CPU does otherwise than CUDA: attention kernels, autocast's fp32 list, dropout masks.

    Names are replaced where the modelling code looks them up; a torch function mode would not see recomputation.
    """
    functional = nn.functional
    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (functional, "scaled_dot_product_attention", _attend),
        (functional, "dropout", _dropout),
        (functional, "layer_norm", _in_fp32(functional.layer_norm)),
        (functional, "softmax", _softmax(functional.softmax)),
        (torch, "is_autocast_enabled", _is_autocast_enabled),
        (torch, "pow", _in_fp32(torch.pow)),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, function in replaced:
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


class _FourBitProduct(torch.autograd.Function):  # type: ignore[misc]
    """Multiply by a packed weight: nothing saved but the weight, dequantised for a moment in both passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """Return x times the weight."""
        ctx.shape, ctx.packed = shape, packed
        output = x.new_empty(*x.shape[:-1], shape[0])
        if x.numel() // x.shape[-1] > StandInLinear4bit.fused_rows or x.element_size() == 4:
            weight = x.new_empty(shape)
            del weight
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the input's gradient by the dequantised weight."""
        weight = gradients[0].new_empty(ctx.shape)
        return gradients[0] @ weight, None, None, None


class StandInLinear4bit(bnb.nn.Linear4bit):  # type: ignore[misc]
    """A Linear4bit of the right shapes and sizes without quantised numbers, so that PEFT treats it as the real one.

    Up to `fused_rows` rows are multiplied without dequantising the weight.
    """

    fused_rows = FUSED_GEMM_ROWS

    def __init__(self, source: nn.Module, compute_dtype: torch.dtype, double: bool) -> None:
        d_out, d_in = _shape(source)
        nn.Module.__init__(self)
        self.in_features, self.out_features = d_in, d_out
        self.compute_dtype = compute_dtype
        self.compute_type_is_set = True
        count = d_in * d_out
        statistics = count // NF4_BLOCK
        size = statistics + 4 * (statistics // 256) if double else 4 * statistics
        # A plain parameter: Params4bit cannot wrap a fake tensor. PEFT asks it for these two properties.
        self.weight = nn.Parameter(torch.empty(count // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.weight.compress_statistics, self.weight.quant_type = double, "nf4"
        self.register_buffer("statistics", torch.empty(size, dtype=torch.uint8))
        bias = getattr(source, "bias", None)
        self.bias = None if bias is None else nn.Parameter(torch.empty_like(bias), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute in the configured dtype and answer in the input's."""
        narrow = x.to(self.compute_dtype)
        shape = (self.out_features, self.in_features)
        return _FourBitProduct.apply(narrow, self.weight, shape, self.bias).to(x.dtype)


def _shape(module: nn.Module) -> tuple[int, int]:
    """Return (outputs, inputs) of a linear or Conv1D module."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    rows, columns = weight.shape
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


_dequantised_by_peft = dora.dequantize_module_weight


def _dequantised(module: nn.Module) -> Tensor:
    """Return a weight's shape in numbers, as PEFT's dequantize_module_weight does."""
    if isinstance(module, StandInLinear4bit):
        return torch.empty(
            module.out_features, module.in_features, dtype=module.compute_dtype, device=module.weight.device
        )
    weight: Tensor = _dequantised_by_peft(module)
    return weight


def quantise(model: nn.Module, names: Collection[str], compute_dtype: torch.dtype, double: bool) -> None:
    """Replace the modules of these names by stand-ins of what bitsandbytes makes of them."""
    dora.dequantize_module_weight = _dequantised
    for name in names:
        model.set_submodule(name, StandInLinear4bit(model.get_submodule(name), compute_dtype, double))


class FusedHead(torch.autograd.Function):  # type: ignore[misc]
    """Allocate what TRL's fused output head allocates on CUDA with Triton (trl/kernels/chunked_logprob.py).

    `mark` is told where the head begins and where its gradients are done. `tiled` false leaves the tile out, whose size
    follows the tokens only up to TILE_TOKENS.
    """

    mark: Callable[[str], None] = staticmethod(lambda _: None)
    tiled = True

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return one log-probability a token."""
        FusedHead.mark("head")
        tokens = hidden.shape[0]
        vectors = [torch.empty(tokens, dtype=torch.float32) for _ in range(10)]
        tile = FusedHead.tile(tokens)
        del tile
        ctx.save_for_backward(hidden, weight, vectors[0], vectors[1])
        return vectors[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the hidden states' gradient, gathered in fp32; and the head's when it is trained."""
        hidden, weight, _, _ = ctx.saved_tensors
        gathered = torch.empty(hidden.shape, dtype=torch.float32)
        head = torch.empty(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        tile = FusedHead.tile(hidden.shape[0])
        narrow = gathered.to(hidden.dtype)
        del tile, gathered
        FusedHead.mark("tail")
        return narrow, head.to(weight.dtype) if head is not None else None

    @staticmethod
    def tile(tokens: int) -> Tensor:
        """Return the tile of logits in which the head works."""
        return torch.empty(min(tokens, TILE_TOKENS) if FusedHead.tiled else 0, TILE_COLUMNS, dtype=torch.bfloat16)
