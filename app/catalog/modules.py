"""The linear modules of a layer, under the names their implementation gives them, and all parameter counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from app.catalog.spec import ModelSpec


@dataclass(frozen=True)
class LinearModule:
    """Describe one linear module: `role` says what it does, `name` what adapters call it."""

    name: str
    role: str
    d_in: int
    d_out: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Return the number of weights without the bias."""
        return self.d_in * self.d_out

    @property
    def biases(self) -> int:
        """Return the number of bias values."""
        return self.d_out if self.bias else 0


# Names of (attention input(s), attention output, MLP input(s), MLP output) where they differ from Llama's.
# Read in transformers 5.23 modeling_*.py of each family.
_NAMES: dict[str, tuple[str, str, str, str]] = {
    "gpt2": ("c_attn", "c_proj", "c_fc", "c_proj"),
    "gpt_bigcode": ("c_attn", "c_proj", "c_fc", "c_proj"),
    "bloom": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "falcon": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "phi": ("", "dense", "fc1", "fc2"),
    "opt": ("", "out_proj", "fc1", "fc2"),
    "starcoder2": ("", "o_proj", "c_fc", "c_proj"),
}
_LLAMA_NAMES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
# Names of (attention, MLP) modules that hold them, where they differ from Llama's; OPT's MLP lies in the layer itself.
_PARENTS: dict[str, tuple[str, str]] = {
    "gpt2": ("attn", "mlp"),
    "gpt_bigcode": ("attn", "mlp"),
    "bloom": ("self_attention", "mlp"),
    "falcon": ("self_attention", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "opt": ("self_attn", ""),
}
_LLAMA_PARENTS = ("self_attn", "mlp")
# Families whose code in transformers 5.23 does not look at where positions begin anew: the documents of a packed row
# would see each other, without a word. Measured for every family by tests/training/test_isolation.py.
SEES_PACKED = frozenset({"bloom", "falcon", "opt", "gpt_oss"})
# The target that means the routed experts of every layer, which are parameters and no modules, and their names in PEFT.
EXPERTS = "experts"
_EXPERT_PARAMETERS = ("experts.gate_up_proj", "experts.up_proj", "experts.down_proj")
_MLP_ROLES = frozenset({"gate", "up", "down", "gate_up", "shared_gate"})


def _attention(spec: ModelSpec) -> list[LinearModule]:
    """List the attention's linear modules of an ordinary layer."""
    qkv_name, out_name, _, _ = _NAMES.get(spec.family, _LLAMA_NAMES)
    width, kv = spec.query_width, spec.kv_width
    out = LinearModule(out_name, "o", width, spec.hidden, spec.out_bias)
    if spec.fused_qkv:
        return [LinearModule(qkv_name, "qkv", spec.hidden, width + 2 * kv, spec.qkv_bias), out]
    return [
        LinearModule("q_proj", "q", spec.hidden, width, spec.qkv_bias),
        LinearModule("k_proj", "k", spec.hidden, kv, spec.qkv_bias),
        LinearModule("v_proj", "v", spec.hidden, kv, spec.qkv_bias),
        out,
    ]


def _latent_attention(spec: ModelSpec) -> list[LinearModule]:
    """List the linear modules of multi-head latent attention."""
    mla = spec.latent
    assert mla is not None
    if mla.q_rank is None:
        query = [LinearModule("q_proj", "q", spec.hidden, spec.query_width)]
    else:
        query = [
            LinearModule("q_a_proj", "q_a", spec.hidden, mla.q_rank, spec.qkv_bias),
            LinearModule("q_b_proj", "q_b", mla.q_rank, spec.query_width),
        ]
    expanded = spec.heads * (mla.nope_dim + mla.value_dim)
    return [
        *query,
        LinearModule("kv_a_proj_with_mqa", "kv_a", spec.hidden, mla.kv_rank + mla.rope_dim, spec.qkv_bias),
        LinearModule("kv_b_proj", "kv_b", mla.kv_rank, expanded),
        LinearModule("o_proj", "o", spec.value_width, spec.hidden, spec.out_bias),
    ]


def _mlp(spec: ModelSpec, intermediate: int) -> list[LinearModule]:
    """List the linear modules of an MLP of this width."""
    _, _, in_name, out_name = _NAMES.get(spec.family, _LLAMA_NAMES)
    out = LinearModule(out_name, "down", intermediate, spec.hidden, spec.mlp_bias)
    if not spec.gated_mlp:
        return [LinearModule(in_name, "up", spec.hidden, intermediate, spec.mlp_bias), out]
    if spec.fused_gate_up:
        return [LinearModule("gate_up_proj", "gate_up", spec.hidden, 2 * intermediate, spec.mlp_bias), out]
    return [
        LinearModule("gate_proj", "gate", spec.hidden, intermediate, spec.mlp_bias),
        LinearModule("up_proj", "up", spec.hidden, intermediate, spec.mlp_bias),
        out,
    ]


def _mlp_modules(spec: ModelSpec, index: int) -> list[LinearModule]:
    """List the linear modules of layer `index` after the attention; routed experts are parameters, not modules."""
    if not spec.is_moe_layer(index):
        return _mlp(spec, spec.intermediate)
    experts = spec.experts
    assert experts is not None
    shared = _mlp(spec, experts.shared_intermediate) if experts.shared_intermediate else []
    gate = [LinearModule("shared_expert_gate", "shared_gate", spec.hidden, 1)] if experts.shared_gate else []
    return shared + gate


@lru_cache(maxsize=1024)
def _layer_modules(spec: ModelSpec, moe: bool) -> tuple[LinearModule, ...]:
    attention = _latent_attention(spec) if spec.latent else _attention(spec)
    dense_index = spec.experts.dense_layers if spec.experts and moe else 0
    return tuple(attention + _mlp_modules(spec, dense_index))


def layer_modules(spec: ModelSpec, index: int) -> tuple[LinearModule, ...]:
    """List the linear modules of layer `index` in the order of the forward pass; none where the class is traced."""
    if spec.simulated:
        return ()
    return _layer_modules(spec, spec.is_moe_layer(index))


def module_names(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names that adapters can target, in the order of the forward pass."""
    names = dict.fromkeys(module.name for index in (0, spec.layers - 1) for module in layer_modules(spec, index))
    return tuple(names)


def qualified_name(spec: ModelSpec, module: LinearModule) -> str:
    """Return a module's name with that of the block it lies in: `attn.c_proj`, where GPT-2 has two c_proj a layer."""
    attention, mlp = _PARENTS.get(spec.family, _LLAMA_PARENTS)
    parent = mlp if module.role in _MLP_ROLES else attention
    return f"{parent}.{module.name}" if parent else module.name


def attention_names(spec: ModelSpec) -> tuple[str, ...]:
    """Return the shortest targets that mean the attention's linear modules and no others."""
    modules = [module for index in (0, spec.layers - 1) for module in layer_modules(spec, index)]
    others = {module.name for module in modules if module.role in _MLP_ROLES}
    attention = [module for module in modules if module.role not in _MLP_ROLES]
    return tuple(
        dict.fromkeys(qualified_name(spec, module) if module.name in others else module.name for module in attention)
    )


def is_named(spec: ModelSpec, module: LinearModule, targets: Collection[str]) -> bool:
    """Tell whether a target names the module, by PEFT's rule: its name, or the end of its path after a dot."""
    return module.name in targets or qualified_name(spec, module) in targets


def unknown_names(spec: ModelSpec, targets: Iterable[str]) -> dict[str, str]:
    """Return the targets that name no module of this model, each with the nearest that does (or nothing).

    Of a class that is traced, only the trace knows its modules.
    """
    if spec.simulated:
        return {}
    modules = [module for index in (0, spec.layers - 1) for module in layer_modules(spec, index)]
    known = {name for module in modules for name in (module.name, qualified_name(spec, module))}
    known |= {EXPERTS} if spec.experts else set()
    wrong = [str(target) for target in targets if target not in known]
    return {name: next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.4)), "") for name in wrong}


def peft_targets(targets: str | Collection[str]) -> tuple[str | list[str], list[str]]:
    """Return PEFT's target_modules and target_parameters of a run's targets."""
    if isinstance(targets, str):
        return targets, []
    return [name for name in targets if name != EXPERTS], list(_EXPERT_PARAMETERS if EXPERTS in targets else ())


def distinct_layers(spec: ModelSpec) -> tuple[tuple[int, int], ...]:
    """Return (index of one, how many there are) for the layers that differ in their modules: dense and routed ones."""
    if spec.experts is None or not 0 < spec.experts.dense_layers < spec.layers:
        return ((0, spec.layers),)
    dense = spec.experts.dense_layers
    return ((0, dense), (dense, spec.layers - dense))


def norm_width(spec: ModelSpec, width: int) -> int:
    """Return the parameters of one norm over `width` features."""
    return {"rms": width, "layer": 2 * width, "layer-nobias": width, "plain": 0}[spec.norm]


def layer_vectors(spec: ModelSpec) -> int:
    """Return the norm and attention-sink parameters of one layer."""
    total = spec.norms * norm_width(spec, spec.hidden)
    if spec.qk_norm == "head":
        total += 2 * norm_width(spec, spec.head_dim)
    if spec.qk_norm == "full":
        total += norm_width(spec, spec.query_width) + norm_width(spec, spec.kv_width)
    if spec.latent:
        total += norm_width(spec, spec.latent.kv_rank) + norm_width(spec, spec.latent.q_rank or 0)
    return total + (spec.heads if spec.sinks else 0)


def expert_weights(spec: ModelSpec, index: int) -> int:
    """Return the weights of the routed experts' matrices of layer `index`, without biases and router."""
    if spec.experts is None or not spec.is_moe_layer(index):
        return 0
    return spec.experts.count * 3 * spec.hidden * spec.experts.intermediate


def expert_parameters(spec: ModelSpec, index: int) -> int:
    """Return the parameters of the routed experts and the router of layer `index`."""
    experts = spec.experts
    if experts is None or not spec.is_moe_layer(index):
        return 0
    biases = experts.count * (2 * experts.intermediate + spec.hidden) if experts.bias else 0
    router = experts.count * spec.hidden + (experts.count if experts.router_bias else 0)
    return expert_weights(spec, index) + biases + router


def linear_parameters(spec: ModelSpec) -> int:
    """Return the weights of all linear modules of all layers: what quantisation converts."""
    layers = distinct_layers(spec)
    return sum(count * module.weights for index, count in layers for module in layer_modules(spec, index))


def embedding_parameters(spec: ModelSpec) -> int:
    """Return the parameters of token and position embeddings (without the output head)."""
    # OPT keeps two extra rows in its position table.
    extra = 2 if spec.family == "opt" else 0
    positions = (spec.positions + extra) if spec.positions else 0
    return (spec.vocab + positions) * spec.hidden


def head_parameters(spec: ModelSpec) -> int:
    """Return the parameters of the output head that are not shared with the embedding."""
    return (0 if spec.tied else spec.vocab * spec.hidden) + (spec.vocab if spec.head_bias else 0)


@lru_cache(maxsize=1024)
def total_parameters(spec: ModelSpec) -> int:
    """Return the exact parameter count of the model; of a class that is traced, what is published (0: unknown)."""
    if spec.simulated:
        return spec.listing.parameters if spec.listing else 0
    layers = sum(
        count
        * (
            sum(module.weights + module.biases for module in layer_modules(spec, index))
            + layer_vectors(spec)
            + expert_parameters(spec, index)
        )
        for index, count in distinct_layers(spec)
    )
    norms = (int(spec.final_norm) + int(spec.embedding_norm)) * norm_width(spec, spec.hidden)
    return embedding_parameters(spec) + head_parameters(spec) + layers + norms + spec.unplanned
