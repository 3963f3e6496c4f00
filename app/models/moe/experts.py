"""Experts in 4 bits: the stacked weights of a mixture of experts as NF4 blocks, dequantised one expert at a time.

transformers keeps all experts of a layer in one parameter (experts, rows, columns), which bitsandbytes passes over
because it is no linear layer. Here each expert's matrix is quantised by itself, and a forward pass dequantises the
experts that its tokens were sent to, one after the other. The backward pass dequantises them again, so that nothing
but the packed weights is kept for it. Routers, biases and norms stay as they are.

PEFT adapts such a parameter by adding A and B of each expert to it. In the parameter's place stands a stand-in of its
shape that takes two bytes; the low-rank products are added to the output instead, which is the same sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

# What transformers' models are told to run their experts with.
IMPLEMENTATION = "workbench_4bit"
# The parameters of a layer's experts, by transformers' convention for classes that can change how experts are run.
_FIRST, _UNGATED, _LAST = "gate_up_proj", "up_proj", "down_proj"
_BLOCK, _NESTED_BLOCK = 64, 256


class ExpertStack(nn.Module):  # type: ignore[misc]
    """The matrices of all experts of one layer in 4 bits, each quantised by itself as a linear layer would be.

    Buffers: packed (experts, half a byte a weight), absmax (experts, blocks of 64); with double quantisation absmax is
    one byte a block and nested (experts, blocks of 256 blocks) and offset (experts) restore it.
    """

    packed: torch.Tensor
    absmax: torch.Tensor
    nested: torch.Tensor
    offset: torch.Tensor
    nested_code: torch.Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        quant_type: str,
        double_quant: bool,
        compute_dtype: torch.dtype,
        device: torch.device,
        transposed: bool = False,
    ) -> None:
        """`shape` is (experts, rows, columns); `transposed` says that rows are inputs and columns outputs."""
        super().__init__()
        experts, self.rows, self.columns = (int(size) for size in shape)
        self.quant_type, self.double_quant = quant_type, double_quant
        self.compute_dtype, self.transposed = compute_dtype, transposed
        weights = self.rows * self.columns
        blocks = math.ceil(weights / _BLOCK)
        self._hold("packed", experts, math.ceil(weights / 2), dtype=torch.uint8, device=device)
        self._hold("absmax", experts, blocks, dtype=torch.uint8 if double_quant else torch.float32, device=device)
        if double_quant:
            self._hold("nested", experts, math.ceil(blocks / _NESTED_BLOCK), dtype=torch.float32, device=device)
            self._hold("offset", experts, dtype=torch.float32, device=device)
            self._hold("nested_code", 256, dtype=torch.float32, device=device)

    def _hold(self, name: str, *shape: int, dtype: torch.dtype, device: torch.device) -> None:
        self.register_buffer(name, torch.empty(*shape, dtype=dtype, device=device), persistent=False)

    @property
    def experts(self) -> int:
        """Return the number of experts."""
        return int(self.packed.shape[0])

    @property
    def inputs(self) -> int:
        """Return the inputs of one expert's matrix."""
        return self.rows if self.transposed else self.columns

    @property
    def outputs(self) -> int:
        """Return the outputs of one expert's matrix."""
        return self.columns if self.transposed else self.rows

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def put(self, expert: int, matrix: torch.Tensor) -> None:
        """Quantise one expert's matrix (rows, columns) into its place."""
        matrix = matrix.to(self.packed.device).contiguous()
        packed, state = quantize_4bit(
            matrix, blocksize=_BLOCK, compress_statistics=self.double_quant, quant_type=self.quant_type
        )
        self.packed[expert].copy_(packed.view(-1))
        self.absmax[expert].copy_(state.absmax.view(-1))
        if self.double_quant:
            self.nested[expert].copy_(state.state2.absmax)
            self.offset[expert].copy_(state.offset)
            self.nested_code.copy_(state.state2.code)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def matrix(self, expert: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one expert's matrix (rows, columns), dequantised."""
        flat = dequantize_4bit(self.packed[expert].unsqueeze(-1), self._state(expert, dtype or self.compute_dtype))
        return flat.view(self.rows, self.columns)

    def towards_outputs(self, expert: int, dtype: torch.dtype) -> torch.Tensor:
        """Return one expert's matrix as (inputs, outputs), dequantised."""
        matrix = self.matrix(expert, dtype)
        return matrix if self.transposed else matrix.T

    def _state(self, expert: int, dtype: torch.dtype) -> QuantState:
        nested: dict[str, object] = {}
        if self.double_quant:
            inner = QuantState(
                absmax=self.nested[expert], code=self.nested_code, blocksize=_NESTED_BLOCK, dtype=torch.float32
            )
            nested = {"offset": self.offset[expert], "state2": inner}
        return QuantState(
            absmax=self.absmax[expert],
            # In one line: on a processor bitsandbytes 0.50 mistakes the blocks of rows that are no multiple of 64 long.
            shape=torch.Size((1, self.rows * self.columns)),
            blocksize=_BLOCK,
            quant_type=self.quant_type,
            dtype=dtype,
            **nested,
        )


class StandIn(nn.Parameter):  # type: ignore[misc]
    """A parameter of the stack's shape and dtype that takes the memory of one number, which is not a number.

    It is what PEFT reads shape, dtype and device from. PEFT's sum of weight and update is left undone: the forward pass
    finds the update's factors where PEFT has registered them. Whatever else computes with it gets NaN, never a number.
    """

    def __new__(cls, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> StandIn:
        """Make the stand-in of a stack of this shape."""
        number = torch.full((), math.nan, dtype=dtype, device=device)
        made: StandIn = torch.Tensor._make_subclass(cls, number.expand(tuple(shape)), False)
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer torch's functions as a plain parameter does, but for PEFT's sum."""
        if func is torch.baddbmm and isinstance(args[0], cls):
            return args[0]
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})


def stacked_names(module: nn.Module) -> list[str]:
    """Return the parameters of a module that are stacks of experts, none where its class keeps or runs them otherwise.

    transformers' `use_experts_implementation` marks its classes with how their stacks are laid out.
    """
    if not all(hasattr(module, mark) for mark in ("num_experts", "has_gate", "has_bias", "is_transposed", "config")):
        return []
    held = {_FIRST if module.has_gate else _UNGATED, _LAST}
    return [
        name for name, parameter in module._parameters.items() if name in held and getattr(parameter, "ndim", 0) == 3
    ]


def stack_of(module: nn.Module, name: str) -> ExpertStack | None:
    """Return the stack in 4 bits that stands for a parameter, None where it is stored as it is."""
    found = module._modules.get(_stack_name(name))
    return found if isinstance(found, ExpertStack) else None


def attach(module: nn.Module, name: str, stack: ExpertStack) -> None:
    """Let a module of experts compute one of its parameters from a stack in 4 bits."""
    module.add_module(_stack_name(name), stack)
    # The implementation is chosen by the configuration that all layers share, whose experts all become stacks.
    module.config._experts_implementation = IMPLEMENTATION


def has_stacks(model: nn.Module) -> bool:
    """Tell whether any experts of a model are stored in 4 bits."""
    return any(isinstance(module, ExpertStack) for module in model.modules())


def run_experts(
    module: nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Return the experts' answer (tokens, width) for hidden_states (tokens, width), for transformers to call.

    top_k_index and top_k_weights are (tokens, chosen). The rows are sorted by expert, go through each expert's two
    matrices, and are summed by token in a fixed order.
    """
    chosen = top_k_index.shape[-1]
    experts, order = torch.sort(top_k_index.reshape(-1), stable=True)
    counts = rows_per_expert(experts, int(module.num_experts))
    rows = hidden_states[order // chosen]
    inner = _project(module, _FIRST if module.has_gate else _UNGATED, rows, experts, counts)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    answers = _project(module, _LAST, inner, experts, counts)
    if getattr(module, "has_post_expert_norm", False):
        answers = module.post_expert_norm(answers)
    answers = answers * top_k_weights.reshape(-1)[order].unsqueeze(-1)
    answers = answers[torch.argsort(order)].view(-1, chosen, answers.shape[-1])
    return answers.sum(dim=1).to(hidden_states.dtype)


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, run_experts)


def rows_per_expert(experts: torch.Tensor, number: int) -> list[int]:
    """Return how many rows each expert has."""
    counts: list[int] = torch.bincount(experts, minlength=number).tolist()
    return counts


def _project(
    module: nn.Module, name: str, rows: torch.Tensor, experts: torch.Tensor, counts: list[int]
) -> torch.Tensor:
    """Multiply rows (sorted by expert) by their experts' matrices, add the adapter's update and the biases."""
    stack = stack_of(module, name)
    if stack is None:
        raise RuntimeError(f"{name} of these experts is not stored in 4 bits: {type(module).__name__}")
    rows = rows.to(stack.compute_dtype)
    left, right, scaling = _update(module, name)
    if left is not None and right is not None:
        left, right = left.to(rows.dtype), right.to(rows.dtype)
    output: torch.Tensor = _Product.apply(rows, stack, counts, left, right, scaling)
    if module.has_bias:
        output = output + getattr(module, f"{name}_bias")[experts].to(output.dtype)
    return output


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """rows (sorted by expert) times W + scaling L R of their experts, with W in 4 bits and L, R of an adapter or None.

    L is (experts, rows of W, rank) and R (experts, rank, columns of W). L R is never computed; without an adapter
    nothing is saved for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        stack: ExpertStack,
        counts: list[int],
        left: torch.Tensor | None,
        right: torch.Tensor | None,
        scaling: float,
    ) -> torch.Tensor:
        ctx.stack, ctx.counts, ctx.scaling = stack, counts, scaling
        first, second = (left, right) if stack.transposed else (_turned(right), _turned(left))
        output = rows.new_empty(rows.shape[0], stack.outputs)
        hidden = None if first is None else rows.new_empty(rows.shape[0], first.shape[-1])
        with torch.autocast(rows.device.type, enabled=False):
            for expert, part in _parts(counts):
                torch.mm(rows[part], stack.towards_outputs(expert, rows.dtype), out=output[part])
                if first is not None and second is not None and hidden is not None:
                    torch.mm(rows[part], first[expert], out=hidden[part])
                    output[part].addmm_(hidden[part], second[expert], alpha=scaling)
        if hidden is not None:
            ctx.save_for_backward(rows, hidden, first, second)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        stack: ExpertStack = ctx.stack
        saved: Any = ctx.saved_tensors or (None, None, None, None)
        rows, hidden, first, second = saved
        of_rows = gradient.new_empty(gradient.shape[0], stack.inputs) if ctx.needs_input_grad[0] else None
        of_first, of_second = (None, None) if first is None else (torch.zeros_like(first), torch.zeros_like(second))
        with torch.autocast(gradient.device.type, enabled=False):
            for expert, part in _parts(ctx.counts):
                if of_rows is not None:
                    torch.mm(gradient[part], stack.towards_outputs(expert, gradient.dtype).T, out=of_rows[part])
                if first is None or of_first is None or of_second is None:
                    continue
                of_hidden = (gradient[part] @ second[expert].T).mul_(ctx.scaling)
                torch.mm(rows[part].T, of_hidden, out=of_first[expert])
                torch.mm(hidden[part].T, gradient[part], out=of_second[expert]).mul_(ctx.scaling)
                if of_rows is not None:
                    of_rows[part].addmm_(of_hidden, first[expert].T)
        of_left, of_right = (of_first, of_second) if stack.transposed else (_turned(of_second), _turned(of_first))
        return of_rows, None, None, of_left, of_right, None


def _turned(matrices: torch.Tensor | None) -> torch.Tensor | None:
    return None if matrices is None else matrices.transpose(-1, -2)


def _parts(counts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield the experts in use with their rows."""
    start = 0
    for expert, count in enumerate(counts):
        if count:
            yield expert, slice(start, start + count)
        start += count


def _update(module: nn.Module, name: str) -> tuple[torch.Tensor | None, torch.Tensor | None, float]:
    """Return the factors of the update that PEFT has put on a parameter for this forward pass, and their scaling."""
    registered = getattr(module, "parametrizations", None)
    if registered is None or name not in registered:
        return None, None, 0.0
    (proxy,) = registered[name]
    if not all(hasattr(proxy, part) for part in ("lhs", "rhs", "scaling")):
        raise RuntimeError(f"experts in 4 bits take one adapter at a time, and {type(proxy).__name__} holds others")
    return proxy.lhs, proxy.rhs, float(proxy.scaling)


def _stack_name(name: str) -> str:
    return f"{name}_4bit"
