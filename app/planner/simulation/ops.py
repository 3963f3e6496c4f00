"""The operations of a transformer layer in the autograd simulator: what each allocates, saves, and gives back.

Each function states the memory behaviour of PyTorch 2.13 on CUDA and of the modelling code of transformers 5.23,
PEFT 0.21 and bitsandbytes 0.50, read in their source and compared with traces of the real code (see trace_child.py).
Sizes are in elements; `itemsize` is bytes per element (2: bf16 or fp16, 4: fp32).
"""

from __future__ import annotations

from dataclasses import dataclass

from app.planner.simulation.autograd import PASS, Autograd, Kind, Tensor


@dataclass(frozen=True)
class Precision:
    """Say in which item size each part computes.

    `autocast` casts matrix products to 2 bytes and keeps reductions in fp32, as torch.autocast does on CUDA. `stream`
    is the residual stream, `compute` what quantised products work in, `base` an unquantised weight, `vector` a norm
    weight, `adapter` an adapter. `trained` says that norm weights are trained, so that what they multiply is saved,
    `fused_softmax` that softmax reads 2-byte scores and answers in fp32 (fp16 only).
    """

    autocast: bool
    stream: int
    compute: int
    base: int
    vector: int
    adapter: int
    trained: bool = False
    fused_softmax: bool = False


class Ops:
    """Run operations of one micro-batch of `tokens` tokens.

    `unpacks` is 1 where a product with a 4-bit weight dequantises the whole of it, 0 where bitsandbytes fuses both.
    """

    def __init__(self, autograd: Autograd, precision: Precision, tokens: int, unpacks: int = 1) -> None:
        self.autograd = autograd
        self.precision = precision
        self.tokens = tokens
        self.unpacks = unpacks

    def cast(self, x: Tensor, itemsize: int) -> Tensor:
        """Copy to another item size; the same size is no copy."""
        return (
            x if x.itemsize == itemsize else self.autograd.apply((x,), x.elements, itemsize, kind=Kind(x.storage.kind))
        )

    def compute_cast(self, x: Tensor) -> Tensor:
        """Cast as autocast does before a matrix product."""
        return self.cast(x, 2) if self.precision.autocast else x

    def scale(self, x: Tensor) -> Tensor:
        """Multiply by a number: a copy, nothing saved."""
        return self.autograd.apply((x,), x.elements, x.itemsize)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors of one shape; the wider item size wins and the narrower gradient is cast back."""
        itemsize = max(a.itemsize, b.itemsize)
        grads = [PASS if x.itemsize == itemsize else x.size_bytes for x in (a, b)]
        return self.autograd.apply((a, b), a.elements, itemsize, grads=grads)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply two activations: each is saved when the other wants a gradient."""
        saved = [x for x, other in ((a, b), (b, a)) if other.node is not None]
        itemsize = max(a.itemsize, b.itemsize)
        return self.autograd.apply((a, b), a.elements, itemsize, saved=saved)

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Drop elements: the output and a mask of one byte an element; nothing at probability 0."""
        if not probability:
            return x
        mask = self.autograd.leaf(x.elements, 1)
        return self.autograd.apply((x,), x.elements, x.itemsize, saved=(mask,))

    def matmul(self, x: Tensor, d_out_elements: int, weight_saved: Tensor | None, *, train: bool) -> Tensor:
        """Multiply by a small trained matrix: the input is saved for its gradient."""
        saved = [tensor for tensor in ((x if train else None), weight_saved) if tensor is not None]
        inputs = (x, weight_saved) if weight_saved is not None and weight_saved.node is not None else (x,)
        grads = [tensor.size_bytes for tensor in inputs]
        return self.autograd.apply(inputs, d_out_elements, x.itemsize, saved=saved, grads=grads)

    def rms_norm(self, x: Tensor, *, rows: int, upcast_weight: bool = False) -> Tensor:
        """Normalise in fp32 (Llama); `upcast_weight` multiplies the weight before the cast back (Gemma, OLMo 2)."""
        autograd = self.autograd
        wide = self.cast(x, 4)
        square = autograd.apply((wide,), wide.elements, 4, saved=(wide,), backward_scratch_bytes=8 * wide.elements)
        # mean, epsilon and rsqrt work on one number a row; the mean's backward expands to the full size once.
        mean = autograd.apply((square,), rows, 4, grads=(square.size_bytes,))
        del square
        root = autograd.apply((mean,), rows, 4)
        del mean
        normed = autograd.apply(
            (wide, root), wide.elements, 4, saved=(wide, root), backward_scratch_bytes=4 * wide.elements
        )
        del wide, root
        if upcast_weight:
            weighted = autograd.apply((normed,), normed.elements, 4, saved=(normed,) if self.precision.trained else ())
            del normed
            return self.cast(weighted, x.itemsize)
        narrow = self.cast(normed, x.itemsize)
        del normed
        itemsize = max(x.itemsize, self.precision.vector)
        return autograd.apply((narrow,), narrow.elements, itemsize, saved=(narrow,) if self.precision.trained else ())

    def layer_norm(self, x: Tensor, *, rows: int) -> Tensor:
        """Normalise with one fused operation; under autocast it works and answers in fp32."""
        if self.precision.autocast:
            x = self.cast(x, 4)
        statistics = self.autograd.leaf(2 * rows, 4)
        return self.autograd.apply((x,), x.elements, x.itemsize, saved=(x, statistics))

    def plain_norm(self, x: Tensor, *, rows: int) -> Tensor:
        """Normalise in fp32 without parameters and cast back (OLMo)."""
        normed = self.layer_norm(self.cast(x, 4), rows=rows)
        return self.cast(normed, x.itemsize)

    def activation(self, x: Tensor, name: str) -> Tensor:
        """Apply a pointwise non-linearity by its configuration name."""
        if name == "gelu_new":
            return self._gelu_new(x)
        # BLOOM writes its own gradient from simple operations: about four temporaries at a time.
        scratch = 4 * x.size_bytes if name == "bloom_gelu" else 0
        return self.autograd.apply((x,), x.elements, x.itemsize, saved=(x,), backward_scratch_bytes=scratch)

    def clamp(self, x: Tensor) -> Tensor:
        """Keep numbers within limits: the input is saved, and the backward pass masks the gradient by it."""
        return self.autograd.apply((x,), x.elements, x.itemsize, saved=(x,), backward_scratch_bytes=x.elements)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Apply the logistic function, which saves its own output."""
        output = self.autograd.apply((x,), x.elements, x.itemsize)
        if output.node is not None:
            output.node.saved = (output.storage,)
        return output

    def _gelu_new(self, x: Tensor) -> Tensor:
        """Apply GPT-2's GELU, written out in simple operations; its power is an fp32 operation under autocast."""
        autograd = self.autograd
        half = self.scale(x)
        wide = self.cast(x, 4) if self.precision.autocast else x
        cube = autograd.apply(
            (wide,), wide.elements, wide.itemsize, saved=(wide,), backward_scratch_bytes=2 * wide.size_bytes
        )
        del wide
        cube = self.scale(cube)
        total = self.add(x, cube)
        del cube
        total = self.scale(total)
        tanh = autograd.apply((total,), total.elements, total.itemsize)
        if tanh.node is not None:
            tanh.node.saved = (tanh.storage,)
        del total
        shifted = autograd.apply((tanh,), tanh.elements, tanh.itemsize, grads=(PASS,))
        del tanh
        return self.multiply(half, shifted)

    def rotate(self, x: Tensor, rotary_elements: int) -> Tensor:
        """Apply rotary embeddings to the first `rotary_elements` elements; the rest passes by and is joined again."""
        autograd = self.autograd
        rotated = rotary_elements
        part = x if rotated == x.elements else self.slice(x, rotated)
        straight = autograd.apply((part,), rotated, part.itemsize)
        first = self.slice(part, rotated // 2)
        second = self.slice(part, rotated // 2)
        negative = autograd.apply((second,), rotated // 2, part.itemsize)
        del second
        halves = autograd.apply((negative, first), rotated, part.itemsize, grads=(PASS, PASS))
        del negative, first
        turned = autograd.apply((halves,), rotated, part.itemsize)
        del halves
        embedded = self.add(straight, turned)
        del straight, turned
        if rotated == x.elements:
            return embedded
        rest = self.slice(x, x.elements - rotated)
        return autograd.apply((embedded, rest), x.elements, x.itemsize, grads=(PASS, PASS))

    def slice(self, x: Tensor, elements: int) -> Tensor:
        """Look at a part: no copy; the gradient is scattered into a tensor of the full size."""
        node = self.autograd.apply((x,), 0, x.itemsize, grads=(x.size_bytes,)).node if x.node is not None else None
        return Tensor(x.storage, elements, x.itemsize, node)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Copy two tensors beside each other; their gradients are views of one tensor."""
        return self.autograd.apply((a, b), a.elements + b.elements, max(a.itemsize, b.itemsize), grads=(PASS, PASS))

    def split(self, x: Tensor, parts: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Look at consecutive parts: no copy; their gradients are joined into one tensor."""
        if x.node is None:
            return tuple(Tensor(x.storage, part, x.itemsize) for part in parts)
        node = self.autograd.apply((x,), 0, x.itemsize, grads=(x.size_bytes,)).node
        assert node is not None
        node.outputs = len(parts)
        return tuple(Tensor(x.storage, part, x.itemsize, node) for part in parts)

    def buffer(self, size_bytes: int, kind: Kind = Kind.ACTIVATION) -> Tensor:
        """Allocate bytes that no gradient flows to."""
        return self.autograd.leaf(size_bytes, 1, kind)
