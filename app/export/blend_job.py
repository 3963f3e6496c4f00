"""The blend's job: read adapters, blend layer after layer, write a new adapter folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from app.errors import ExportError
from app.export.blend import DENSITY, Blended, Method, Part, blend_layer, padded
from app.export.folder import TOKENIZER_FILES, refuse_existing
from app.jobs.child import JobChild, Outcome
from app.models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterFolder

# Above this share of the update lost to a cut rank, the blend is no longer what was asked for.
MOST_RELATIVE_ERROR = 0.1


@dataclass(frozen=True)
class Ingredient:
    """An adapter and its weight."""

    adapter: AdapterFolder
    weight: float


def run(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Blend, and return what `blend --json` answers."""
    config, out = child.config, Path(child.config["out"])
    refuse_existing(out)
    ingredients = [Ingredient(AdapterFolder(Path(item["dir"])), float(item["weight"])) for item in config["adapters"]]
    check(ingredients)
    modules = sorted({module for ingredient in ingredients for module in ingredient.adapter.layers})
    blended: dict[str, Blended] = {}
    for number, module in enumerate(modules):
        if child.stop_requested():
            return "stopped", {}
        parts = [
            Part(ingredient.adapter.update(module), ingredient.weight)
            for ingredient in ingredients
            if module in ingredient.adapter.layers
        ]
        method: Method = config["method"]
        density = float(config.get("density") or DENSITY)
        blended[module] = blend_layer(parts, method, config.get("rank"), density, int(config.get("seed") or 0))
        child.progress(number + 1, len(modules), "blending")
    return "finished", write(out, ingredients, blended, config)


def check(ingredients: list[Ingredient]) -> None:
    """Refuse adapters that cannot be blended. Raises ExportError with the reason."""
    if len(ingredients) < 2:
        raise ExportError("A blend needs two adapters or more", "", "name them with --adapter name=DIR:weight")
    shapes: dict[str, tuple[int, int]] = {}
    for ingredient in ingredients:
        adapter = ingredient.adapter
        adapter.refuse_changed_base()
        if not math.isfinite(ingredient.weight):
            raise ExportError(f"The weight {ingredient.weight} is not a number", "", "use numbers such as 0.5")
        if not adapter.stackable:
            raise ExportError(f"{adapter.path} cannot be blended", _obstacle(adapter), "merge it instead")
        for update in adapter.updates():
            shape = (int(update.b.shape[0]), int(update.a.shape[1]))
            if shapes.setdefault(update.module, shape) != shape:
                raise ExportError(
                    f"{adapter.path} does not fit the others",
                    f"the layer {update.module} is {shape} in it and {shapes[update.module]} in another (out, in)",
                    "blend adapters of one base model",
                )


def _obstacle(adapter: AdapterFolder) -> str:
    if adapter.config.get("use_dora"):
        return "DoRA's magnitudes belong to one direction each and cannot be added up"
    if adapter.whole_tensors:
        return f"it brings whole tensors ({', '.join(list(adapter.whole_tensors)[:2])}), which are no updates to add up"
    if adapter.foreign:
        return f"it uses {', '.join(adapter.foreign)}"
    return "it has biases or embeddings of its own beside A and B"


def write(
    out: Path, ingredients: list[Ingredient], blended: dict[str, Blended], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the adapter beside its place and move it there. Return the answer."""
    draft = out.with_name(f".{out.name}.blending")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    rank = max(layer.a.shape[0] for layer in blended.values())
    tensors: dict[str, torch.Tensor] = {}
    for module, layer in blended.items():
        a, b = padded(layer, rank)
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    save_file(tensors, draft / WEIGHTS_FILE, {"format": "pt"})
    settings = _adapter_config(ingredients, sorted(blended), rank)
    (draft / CONFIG_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    first = ingredients[0].adapter.path
    for pattern in TOKENIZER_FILES:
        for path in first.glob(pattern):
            shutil.copyfile(path, draft / path.name)
    report = _report(ingredients, blended, rank, config)
    (draft / "blend.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    refuse_existing(out)
    draft.rename(out)
    return {"adapter": str(out), **{key: report[key] for key in ("rank", "max_abs_error", "verdict")}}


def _adapter_config(ingredients: list[Ingredient], modules: list[str], rank: int) -> dict[str, Any]:
    """Return a plain LoRA configuration with scaling 1; an rsLoRA or alpha of a part is in its factors already."""
    first = ingredients[0].adapter.config
    targets = [ingredient.adapter.config.get("target_modules") for ingredient in ingredients]
    same = isinstance(targets[0], list) and all(sorted(other or []) == sorted(targets[0]) for other in targets)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": first.get("base_model_name_or_path"),
        "revision": first.get("revision"),
        "fan_in_fan_out": bool(first.get("fan_in_fan_out")),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "target_modules": sorted(targets[0]) if same and targets[0] else modules,
    }


def _report(
    ingredients: list[Ingredient], blended: dict[str, Blended], rank: int, config: Mapping[str, Any]
) -> dict[str, Any]:
    relative = max(layer.relative_error for layer in blended.values())
    bases = {str(ingredient.adapter.config.get("base_model_name_or_path")) for ingredient in ingredients}
    reasons = []
    if relative > MOST_RELATIVE_ERROR:
        reasons.append(f"rank {rank} loses {relative:.1%} of the update in the worst layer; allow a higher rank")
    if len(bases) > 1:
        reasons.append("the adapters name different base models")
    return {
        "rank": rank,
        "max_abs_error": max(layer.max_abs_error for layer in blended.values()),
        "max_relative_error": relative,
        "verdict": "warn" if reasons else "pass",
        "reasons": reasons,
        "method": config["method"],
        "adapters": [{"hash": part.adapter.hash, "weight": part.weight} for part in ingredients],
    }
