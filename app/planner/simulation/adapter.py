"""LoRA on a model: which modules it targets, how many parameters it trains, and its forward pass simulated."""

from __future__ import annotations

from functools import lru_cache

from app.catalog.modules import (
    EXPERTS,
    LinearModule,
    distinct_layers,
    is_named,
    layer_modules,
    layer_vectors,
    unknown_names,
)
from app.catalog.spec import ModelSpec

ALL_LINEAR = "all-linear"
# Families whose experts PEFT 0.21 adapts by all-linear (peft/utils/transformers_weight_conversion.py); a test holds the
# list to the library, for families with a formula say it of themselves.
PEFT_ADAPTS_EXPERTS = frozenset(
    (
        "afmoe",
        "beam",
        "cohere2_moe",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "dots1",
        "ernie4_5_moe",
        "exaone_moe",
        "flex_olmo",
        "glm4_moe",
        "glm4_moe_lite",
        "glm4v_moe",
        "glm_moe_dsa",
        "hunyuan_v1_moe",
        "longcat_flash",
        "mellum",
        "minimax",
        "minimax_m2",
        "mixtral",
        "olmoe",
        "qwen3_moe",
        "qwen3_next",
        "qwen3_omni_moe",
        "qwen3_omni_moe_text",
        "qwen3_omni_moe_thinker",
        "solar_open",
    )
)
_MLP_ROLES = frozenset({"gate", "up", "down", "gate_up"})
_HEAD_NAMES = ("lm_head", "embed_out")
_EMBEDDING_NAMES = ("embed_tokens", "wte", "word_embeddings", "embed_in")


def is_target(spec: ModelSpec, module: LinearModule, targets: tuple[str, ...]) -> bool:
    """Tell whether an adapter is put on `module`, by PEFT's rule of the last name."""
    if ALL_LINEAR in targets:
        return not (doubles_gate_up(spec, targets) and module.role in _MLP_ROLES)
    return is_named(spec, module, targets)


def adapts_experts(spec: ModelSpec, targets: tuple[str, ...]) -> bool:
    """Tell whether the routed experts' parameters get adapters: named, or by PEFT's reading of all-linear."""
    if spec.simulated:
        return ALL_LINEAR in targets and spec.family in PEFT_ADAPTS_EXPERTS
    return spec.experts is not None and (EXPERTS in targets or doubles_gate_up(spec, targets))


def doubles_gate_up(spec: ModelSpec, targets: tuple[str, ...]) -> bool:
    """Tell whether PEFT takes all-linear for what was linear in transformers 4: each expert's layers and the router.

    Gate and up projections are one parameter now and get twice the rank (peft/utils/transformers_weight_conversion.py).
    """
    return spec.experts is not None and spec.experts.adaptable and ALL_LINEAR in targets


def expert_adapters(spec: ModelSpec, index: int, rank: int, targets: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (inputs + outputs, rank) of each adapted parameter of the experts of layer `index`, all experts together.

    By all-linear the router is adapted as well, like a linear module.
    """
    experts = spec.experts
    if experts is None or not spec.is_moe_layer(index) or not adapts_experts(spec, targets):
        return []
    doubled = doubles_gate_up(spec, targets)
    return [
        (experts.count * (spec.hidden + 2 * experts.intermediate), 2 * rank if doubled else rank),
        (experts.count * (experts.intermediate + spec.hidden), rank),
        *([(spec.hidden + experts.count, rank)] if doubled else []),
    ]


def unknown_targets(spec: ModelSpec, targets: tuple[str, ...]) -> dict[str, str]:
    """Return the targets that name no module of this model, each with the nearest that does (or nothing)."""
    named = [target for target in targets if target != ALL_LINEAR]
    return unknown_names(spec, named) if named else {}


@lru_cache(maxsize=1024)
def _targeted(spec: ModelSpec, moe: bool, targets: tuple[str, ...]) -> tuple[LinearModule, ...]:
    index = spec.experts.dense_layers if moe and spec.experts else 0
    return tuple(module for module in layer_modules(spec, index) if is_target(spec, module, targets))


def targeted(spec: ModelSpec, index: int, targets: tuple[str, ...]) -> tuple[LinearModule, ...]:
    """Return the modules of layer `index` that carry adapters."""
    return _targeted(spec, spec.is_moe_layer(index), targets)


def module_parameters(module: LinearModule, rank: int, dora: bool) -> int:
    """Return the parameters of one adapter: two low-rank factors, and DoRA's magnitude of each output."""
    return rank * (module.d_in + module.d_out) + (module.d_out if dora else 0)


def layer_parameters(spec: ModelSpec, index: int, rank: int, targets: tuple[str, ...], dora: bool) -> int:
    """Return the adapter parameters of layer `index`."""
    modules = targeted(spec, index, targets)
    experts = sum(width * own_rank for width, own_rank in expert_adapters(spec, index, rank, targets))
    return sum(module_parameters(module, rank, dora) for module in modules) + experts


def adapter_parameters(spec: ModelSpec, rank: int, targets: tuple[str, ...], dora: bool = False) -> int:
    """Return the adapter parameters of the whole model."""
    return sum(count * layer_parameters(spec, index, rank, targets, dora) for index, count in distinct_layers(spec))


def saved_module_parameters(spec: ModelSpec, names: tuple[str, ...]) -> int:
    """Return the parameters of whole modules that are trained as a full copy (`modules_to_save`)."""
    total = 0
    for name in names:
        if name in _HEAD_NAMES or name in _EMBEDDING_NAMES:
            total += spec.vocab * spec.hidden
        elif "norm" in name or name.startswith("ln_"):
            total += spec.layers * layer_vectors(spec) // max(spec.norms, 1)
        else:
            for index, count in distinct_layers(spec):
                found = [module for module in layer_modules(spec, index) if module.name == name]
                total += count * sum(module.weights + module.biases for module in found)
    return total


def trains_head(names: tuple[str, ...]) -> bool:
    """Tell whether the output head is trained as a whole."""
    return any(name in _HEAD_NAMES for name in names)
