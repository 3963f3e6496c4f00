"""Which kinds of adapters go where, told by configuration and names alone. Free of heavy imports.

The jobs refuse by these functions, and what hands a job in asks them first.
"""

from __future__ import annotations

from app.errors import ExportError
from app.models.adapter_files import PEFT_ALONE, AdapterHeader

# Settings that are no plain sum of low-rank updates, but well defined.
_MERGED = frozenset(["target_parameters", "trainable_token_indices"])


def unmergeable(adapter: AdapterHeader) -> list[str]:
    """Return the settings in use under which an adapter cannot be merged."""
    return [name for name in adapter.foreign if name not in _MERGED]


def otherwise(adapter: AdapterHeader) -> str:
    """Return what can be done with an adapter that cannot be merged."""
    return PEFT_ALONE if adapter.unserved else "serve it beside its base"


def refuse_unmergeable(adapter: AdapterHeader) -> None:
    """Raise ExportError or ModelError for an adapter that cannot be merged into any base."""
    adapter.refuse_changed_base()
    foreign = unmergeable(adapter)
    if foreign:
        raise ExportError(
            f"The adapter {adapter.path} cannot be merged",
            f"it uses {', '.join(foreign)}, which is not a plain sum of low-rank updates",
            otherwise(adapter),
        )


def refuse_for_llama_cpp(adapter: AdapterHeader) -> None:
    """Raise ExportError or ModelError for an adapter that llama.cpp cannot add to its base (--lora)."""
    adapter.refuse_changed_base()
    if adapter.stackable and not adapter.config.get("lora_bias"):
        return
    why = "it is a DoRA adapter" if adapter.config.get("use_dora") else "it is more than A and B of linear layers"
    raise ExportError(
        "llama.cpp cannot add this adapter to its base",
        why,
        # A bias of its own can be merged only where the base has one there.
        otherwise(adapter)
        if unmergeable(adapter) or adapter.config.get("lora_bias")
        else "leave --lora-only out: the merged model can be written",
    )


def refuse_for_vllm(adapter: AdapterHeader) -> None:
    """Raise ExportError for what vLLM does not serve beside a base; the names in the file count, not the settings.

    A configuration does not always tell of embeddings or biases that came along.
    """
    adapter.refuse_changed_base()
    config = adapter.config
    parts = {part for layer in adapter.layers.values() for part in layer} - {"lora_A.weight", "lora_B.weight"}
    whole = [*adapter.whole_tensors, *sorted(parts)]
    obstacles = [
        reason
        for found, reason in (
            (config.get("use_dora"), "it is a DoRA adapter"),
            (config.get("modules_to_save"), "it brings whole modules"),
            (config.get("bias", "none") != "none" or config.get("lora_bias"), "it brings biases"),
            (config.get("rank_pattern") or config.get("alpha_pattern"), "its rank or alpha differs between layers"),
            (adapter.foreign, f"it uses {', '.join(adapter.foreign)}"),
        )
        if found
    ]
    if not obstacles and whole:
        obstacles.append(f"it brings {whole[0]}")
    if obstacles:
        raise ExportError(
            "vLLM cannot serve this adapter beside its base",
            ", and ".join(obstacles),
            otherwise(adapter) if unmergeable(adapter) else "merge it and serve the model",
        )


def refuse_for_blend(adapter: AdapterHeader) -> None:
    """Raise ExportError or ModelError for an adapter that is more than updates which can be added up."""
    adapter.refuse_changed_base()
    if not adapter.stackable:
        alone = unmergeable(adapter) or adapter.config.get("lora_bias")
        remedy = otherwise(adapter) if alone else "merge it into its base by itself"
        raise ExportError(f"{adapter.path} cannot be blended", _not_added_up(adapter), remedy)


def _not_added_up(adapter: AdapterHeader) -> str:
    if adapter.config.get("use_dora"):
        return "DoRA's magnitudes belong to one direction each and cannot be added up"
    if adapter.foreign:
        return f"it uses {', '.join(adapter.foreign)}"
    if adapter.whole_tensors:
        return f"it brings whole tensors ({', '.join(list(adapter.whole_tensors)[:2])}), which are no updates to add up"
    return "it has biases or embeddings of its own beside A and B"


def refuse_for_inspection(adapter: AdapterHeader) -> None:
    """Refuse adapters whose update is more than B A. Raises ExportError with the reason."""
    if adapter.config.get("use_dora"):
        why = "a DoRA update depends on the weight it changes, so it has no rank of its own"
        raise ExportError(f"{adapter.path} cannot be inspected", why, "choose a LoRA adapter")
    if adapter.foreign:
        raise ExportError(f"{adapter.path} cannot be inspected", f"it uses {', '.join(adapter.foreign)}", "")
