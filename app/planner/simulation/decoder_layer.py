"""One decoder layer in the autograd simulator, for every family: norms, attention, MLP or experts, residuals."""

from __future__ import annotations

from dataclasses import dataclass

from app.catalog.modules import layer_modules
from app.catalog.spec import Experts, ModelSpec
from app.planner.simulation.attention import AttentionShape, Kernel, attend
from app.planner.simulation.autograd import Tensor
from app.planner.simulation.linear import LinearPolicy, linear
from app.planner.simulation.ops import Ops

# Families whose experts clamp both halves before the gate.
_CLAMPED_GATE = frozenset({"gpt_oss"})
# Families whose norm multiplies its weight in fp32 before casting back.
_WEIGHT_IN_FP32 = frozenset({"gemma", "gemma2", "gemma3_text", "olmo2", "gpt_oss"})
# Families that scale each branch by a number before the residual is added.
_SCALED_RESIDUAL = frozenset({"granite"})
# Families that look at parts of a fused projection one by one, each gradient scattered on its own.
_SLICED_QKV = frozenset({"phi3", "bloom", "falcon"})
# Of these, families whose heads are copies: an index list copies key and value, reshaping the heads copies the query.
_COPIED_HEADS = frozenset({"bloom", "falcon"})


@dataclass(frozen=True)
class LayerPlan:
    """Hold what one layer's forward pass needs to know."""

    spec: ModelSpec
    index: int
    kernel: Kernel
    shape: AttentionShape
    policy: LinearPolicy


class Layer:
    """Run one decoder layer on an Ops."""

    def __init__(self, ops: Ops, plan: LayerPlan) -> None:
        self.ops = ops
        self.plan = plan
        self.spec = plan.spec
        self.modules = {module.role: module for module in layer_modules(plan.spec, plan.index)}

    def run(self, x: Tensor) -> Tensor:
        """Return the layer's output for its input."""
        if self.spec.parallel:
            return self._parallel(x)
        return self._sequential(x)

    def _sequential(self, x: Tensor) -> Tensor:
        """Run attention, then the MLP, each around a residual; four-norm and post-norm families differ in the norms."""
        spec = self.spec
        post_only = spec.family == "olmo2"
        sandwich = spec.norms == 4
        hidden = x if post_only else self._norm(x)
        hidden = self._attention(hidden)
        if post_only or sandwich:
            hidden = self._norm(hidden)
        x = self._residual(x, hidden)
        hidden = x if post_only else self._norm(x)
        hidden = self._feed_forward(hidden)
        if post_only or sandwich:
            hidden = self._norm(hidden)
        return self._residual(x, hidden)

    def _parallel(self, x: Tensor) -> Tensor:
        """Run attention and MLP on the same input and add both (Phi, Falcon, GPT-NeoX)."""
        normed = self._norm(x)
        second = self._norm(x) if self.spec.norms == 2 else normed
        attended = self._attention(normed)
        attended = self.ops.dropout(attended, self.spec.hidden_dropout)
        fed = self._feed_forward(second)
        fed = self.ops.dropout(fed, self.spec.hidden_dropout)
        both = self.ops.add(fed, attended)
        return self.ops.add(both, x)

    def _residual(self, x: Tensor, branch: Tensor) -> Tensor:
        if self.spec.family in _SCALED_RESIDUAL:
            branch = self.ops.scale(branch)
        branch = self.ops.dropout(branch, self.spec.hidden_dropout)
        return self.ops.add(x, branch)

    def _norm(self, x: Tensor) -> Tensor:
        rows = self.ops.tokens
        if self.spec.norm == "rms":
            return self.ops.rms_norm(x, rows=rows, upcast_weight=self.spec.family in _WEIGHT_IN_FP32)
        if self.spec.norm == "plain":
            return self.ops.plain_norm(x, rows=rows)
        return self.ops.layer_norm(x, rows=rows)

    def _linear(self, x: Tensor, role: str) -> Tensor:
        return linear(self.ops, x, self.modules[role], self.plan.policy)

    def _attention(self, x: Tensor) -> Tensor:
        if self.spec.latent:
            query, key, value = self._latent_query_key_value(x)
        elif self.spec.fused_qkv:
            query, key, value = self._fused_query_key_value(x)
        else:
            query, key, value = self._linear(x, "q"), self._linear(x, "k"), self._linear(x, "v")
        if not self.spec.latent:
            query, key = self._positions(self._head_norm(query, "q"), self._head_norm(key, "k"))
        output = attend(self.ops, self.plan.kernel, self.plan.shape, query, key, value)
        return self._linear(output, "o")

    def _head_norm(self, x: Tensor, role: str) -> Tensor:
        """Normalise every head, or the whole projection, where the family does."""
        if self.spec.qk_norm == "none":
            return x
        heads = self.spec.heads if role == "q" else self.spec.kv_heads
        rows = self.ops.tokens * (heads if self.spec.qk_norm == "head" else 1)
        return self.ops.rms_norm(x, rows=rows, upcast_weight=self.spec.family in _WEIGHT_IN_FP32)

    def _positions(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate query and key where the family does."""
        spec = self.spec
        if not spec.rotary_dim or spec.alibi:
            return query, key
        share_q = query.elements * spec.rotary_dim // spec.head_dim
        share_k = key.elements * spec.rotary_dim // spec.head_dim
        return self.ops.rotate(query, share_q), self.ops.rotate(key, share_k)

    def _fused_query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take query, key and value out of one projection."""
        spec, ops = self.spec, self.ops
        fused = self._linear(x, "qkv")
        tokens = ops.tokens
        query_size, kv_size = tokens * spec.query_width, tokens * spec.kv_width
        if spec.family not in _SLICED_QKV:
            query, key, value = ops.split(fused, (query_size, kv_size, kv_size))
            return query, key, value
        query, key, value = (ops.slice(fused, size) for size in (query_size, kv_size, kv_size))
        if spec.family not in _COPIED_HEADS:
            return query, key, value
        return ops.scale(query), ops.scale(key), ops.scale(value)

    def _latent_query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Expand the latent query and key-value projections and join their rotary parts (DeepSeek)."""
        spec, ops = self.spec, self.ops
        mla = spec.latent
        assert mla is not None
        tokens = ops.tokens
        if mla.q_rank is None:
            query = self._linear(x, "q")
        else:
            query = self._linear(ops.rms_norm(self._linear(x, "q_a"), rows=tokens), "q_b")
        q_pass, q_rot = ops.split(query, (tokens * spec.heads * mla.nope_dim, tokens * spec.heads * mla.rope_dim))
        compressed = self._linear(x, "kv_a")
        latent, k_rot = ops.split(compressed, (tokens * mla.kv_rank, tokens * mla.rope_dim))
        expanded = self._linear(ops.rms_norm(latent, rows=tokens), "kv_b")
        k_pass, value = ops.split(expanded, (tokens * spec.heads * mla.nope_dim, tokens * spec.heads * mla.value_dim))
        q_rot, k_rot = self._complex_rotate(q_rot), self._complex_rotate(k_rot)
        query = ops.join(q_pass, q_rot)
        k_rot = ops.autograd.view(k_rot, q_rot.elements)
        key = ops.join(k_pass, k_rot)
        return query, key, value

    def _complex_rotate(self, x: Tensor) -> Tensor:
        """Rotate as complex numbers in fp32 and cast back."""
        wide = self.ops.cast(x, 4)
        turned = self.ops.scale(wide)
        del wide
        return self.ops.cast(turned, x.itemsize)

    def _feed_forward(self, x: Tensor) -> Tensor:
        experts = self.spec.experts
        if experts is None or not self.spec.is_moe_layer(self.plan.index):
            return self._mlp(x)
        routed = self._routed(x, experts)
        if not experts.shared_intermediate:
            return routed
        shared = self._mlp(x)
        if experts.shared_gate:
            gate = linear(self.ops, x, self.modules["shared_gate"], self.plan.policy)
            shared = self.ops.multiply(shared, self.ops.autograd.view(gate))
        return self.ops.add(routed, shared)

    def _mlp(self, x: Tensor) -> Tensor:
        """Run the MLP: gated, fused, or plain."""
        spec, ops = self.spec, self.ops
        if "gate_up" in self.modules:
            both = self._linear(x, "gate_up")
            gate, up = ops.split(both, (both.elements // 2, both.elements // 2))
            del both
            return self._linear(ops.multiply(up, ops.activation(gate, spec.activation)), "down")
        if spec.gated_mlp:
            inner = ops.activation(self._linear(x, "gate"), spec.activation)
            return self._linear(ops.multiply(inner, self._linear(x, "up")), "down")
        hidden = self._linear(x, "up")
        hidden = ops.activation(hidden, spec.activation)
        return self._linear(hidden, "down")

    def _routed(self, x: Tensor, experts: Experts) -> Tensor:
        """Route tokens to experts: grouped products over all 16-bit weights, or expert by expert where they have 4."""
        ops, tokens = self.ops, self.ops.tokens
        routed_rows = tokens * experts.per_token
        logits = ops.autograd.leaf(tokens * experts.count, 4)
        del logits
        chosen = ops.autograd.apply((x,), routed_rows * self.spec.hidden, x.itemsize)
        narrow = ops.cast(chosen, 2) if ops.precision.base == 2 else chosen
        del chosen
        first_rank = self.plan.policy.rank * (2 if self.plan.policy.gate_up_doubled else 1)
        up_weights = experts.count * 2 * experts.intermediate * self.spec.hidden
        both = self._grouped(narrow, 2 * routed_rows * experts.intermediate, up_weights, first_rank)
        del narrow
        inner = self._gated(both)
        del both
        down = self._grouped(inner, routed_rows * self.spec.hidden, up_weights // 2, self.plan.policy.rank)
        del inner
        # The routing weights want a gradient too: the answers are saved, and multiplied by the gradient once.
        weighted = ops.autograd.apply(
            (down,), down.elements, down.itemsize, saved=(down,), backward_scratch_bytes=down.size_bytes
        )
        del down
        ordered = ops.autograd.apply((weighted,), weighted.elements, weighted.itemsize)
        del weighted
        return ops.autograd.apply((ordered,), x.elements, x.itemsize)

    def _gated(self, both: Tensor) -> Tensor:
        """Gate the experts' first product; gpt-oss clamps both halves, and its gate is no single operation.

        (transformers 5.23, models/gpt_oss/modeling_gpt_oss.py, GptOssExperts._apply_gate)
        """
        ops = self.ops
        gate, up = ops.split(both, (both.elements // 2, both.elements // 2))
        if self.spec.family not in _CLAMPED_GATE:
            return ops.multiply(ops.activation(gate, "silu"), up)
        gate, up = ops.clamp(gate), ops.clamp(up)
        gated = ops.multiply(gate, ops.sigmoid(ops.scale(gate)))
        del gate
        return ops.multiply(ops.scale(up), gated)

    def _one_by_one(self, x: Tensor, elements: int, weights: int, rank: int) -> Tensor:
        """Multiply by each expert's matrix in turn, dequantised for a moment (app/models/moe/experts.py _Product).

        Without adapters nothing is saved. With them rows and thin products are, and A and B in the compute dtype; their
        gradients are made in it before they are widened.
        """
        autograd, precision = self.ops.autograd, self.ops.precision
        experts = self.spec.experts
        assert experts is not None
        matrix = precision.compute * weights // experts.count
        x = self.ops.cast(x, precision.compute)
        if not self.plan.policy.experts:
            return autograd.apply((x,), elements, x.itemsize, scratch_bytes=matrix, backward_scratch_bytes=matrix)
        rows = self.ops.tokens * experts.per_token
        trained = rank * experts.count * (weights // experts.count // self.spec.hidden + self.spec.hidden)
        thin = self.ops.buffer(rows * rank * x.itemsize)
        saved = [x, thin]
        if precision.compute != precision.adapter:
            saved.append(self.ops.buffer(precision.compute * trained))
        output = autograd.apply(
            (x,),
            elements,
            x.itemsize,
            saved=saved,
            scratch_bytes=matrix,
            backward_scratch_bytes=matrix + precision.compute * trained,
        )
        if output.node is None and autograd.recording:
            output.node = autograd.source(tuple(tensor.storage for tensor in saved), 0)
        if output.node is not None:
            output.node.kept_bytes = precision.adapter * trained
        return output

    def _grouped(self, x: Tensor, elements: int, weights: int, rank: int) -> Tensor:
        """Multiply by all experts' weights at once.

        With adapters on the experts PEFT folds base and update into a copy of the whole parameter for every forward
        pass (peft/tuners/lora/layer.py _LoraFactorsProxy); the copy is saved, and its gradient is as large.
        """
        autograd, policy = self.ops.autograd, self.plan.policy
        if policy.experts_in_4_bits:
            return self._one_by_one(x, elements, weights, rank)
        if not (policy.experts or policy.trained) or not autograd.recording:
            if policy.experts:
                autograd.scratch(2 * weights)
            return autograd.apply((x,), elements, x.itemsize)
        if policy.trained:
            output = autograd.apply((x,), elements, x.itemsize, saved=(x,))
            if output.node is not None:
                output.node.kept_bytes = self.ops.precision.base * weights
            return output
        folded = autograd.leaf(weights, 2)
        folded.node = autograd.source((), 0)
        return autograd.apply((x, folded), elements, x.itemsize, saved=(x, folded))
