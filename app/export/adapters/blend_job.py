"""The blend's job: read adapters, blend layer after layer, write a new adapter folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file

from app.errors import ExportError
from app.export.adapter_kinds import refuse_for_blend
from app.export.adapters.blend import DENSITY, Blended, Method, Part, blend_layer, padded
from app.export.merge.model_folder import TOKENIZER_FILES
from app.export.requests import BlendAnswer, BlendRequest
from app.export.staging import opened, refuse_existing
from app.jobs.child import JobChild, Outcome, Result
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from app.models.adapters import AdapterFolder

# Settings under which a short name does not mean every layer of that name.
_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")
# Above this share of the update lost to a cut rank, the blend is no longer what was asked for.
MOST_RELATIVE_ERROR = 0.1
# The same for the methods that cut nothing: what float32 rounds.
MOST_EXACT_ERROR = 1e-3


@dataclass(frozen=True)
class Ingredient:
    """An adapter and its weight."""

    adapter: AdapterFolder
    weight: float


def run(child: JobChild) -> tuple[Outcome, Result]:
    """Blend, and return what `blend --json` answers."""
    request = child.request(BlendRequest)
    out = Path(request.out)
    refuse_existing(out)
    ingredients = [Ingredient(AdapterFolder(Path(part.dir)), part.weight) for part in request.adapters]
    check(ingredients)
    if request.method == "cat":
        check_cat_rank(ingredients, request.rank)
    modules = modules_of(ingredients)
    blended: dict[str, Blended] = {}
    for number, module in enumerate(modules):
        if child.stop_requested():
            return "stopped", {}
        blended[module] = _blend_module(ingredients, module, request)
        child.progress(number + 1, len(modules), "blending")
    return "finished", asdict(write(out, ingredients, blended, request))


def modules_of(ingredients: list[Ingredient]) -> list[str]:
    """Return the layers that any of the adapters changes."""
    return sorted({module for ingredient in ingredients for module in ingredient.adapter.layers})


def _blend_module(ingredients: list[Ingredient], module: str, request: BlendRequest) -> Blended:
    method = cast(Method, request.method)  # the request has looked that it is one
    rank = None if method == "cat" else request.rank
    return blend_layer(_parts(ingredients, module), method, rank, request.density or DENSITY, request.seed)


def _parts(ingredients: list[Ingredient], module: str) -> list[Part]:
    """Return the updates of one layer; they are read as they are needed."""
    return [
        Part(ingredient.adapter.update(module), ingredient.weight)
        for ingredient in ingredients
        if module in ingredient.adapter.layers
    ]


def check(ingredients: list[Ingredient]) -> None:
    """Refuse adapters that cannot be blended. Raises ExportError or ModelError with the one reason."""
    if not ingredients:
        raise ExportError(
            "A blend needs an adapter", "", "name them with --adapter name=DIR:weight", on_page="choose one"
        )
    shapes: dict[str, tuple[int, int]] = {}
    for ingredient in ingredients:
        adapter = ingredient.adapter
        refuse_for_blend(adapter)
        if not math.isfinite(ingredient.weight):
            raise ExportError(f"The weight {ingredient.weight} is not a number", "", "use numbers such as 0.5")
        for update in adapter.updates():
            shape = (int(update.b.shape[0]), int(update.a.shape[1]))
            if shapes.setdefault(update.module, shape) != shape:
                raise ExportError(
                    f"{adapter.path} does not fit the others",
                    f"the layer {update.module} is {shape} in it and {shapes[update.module]} in another (out, in)",
                    "blend adapters of one base model",
                )
    _refuse_other_architecture([ingredient.adapter for ingredient in ingredients])


def check_cat_rank(ingredients: list[Ingredient], rank: int | None) -> None:
    """Refuse a rank below the sum of the ranks, which `cat` keeps. Raises ExportError."""
    needed = max(sum(part.update.rank for part in _parts(ingredients, name)) for name in modules_of(ingredients))
    if rank is not None and rank < needed:
        raise ExportError(
            f"cat cannot make rank {rank}",
            f"it keeps all ranks, and they add up to {needed}",
            "leave --rank out, or choose svd, which cuts",
            on_page="set the rank to 0, or choose svd, which cuts",
        )


def _refuse_other_architecture(adapters: list[AdapterFolder]) -> None:
    """Refuse adapters of different bases whose layers have different names: their updates never meet."""
    names = {str(adapter.config.get("base_model_name_or_path")) for adapter in adapters}
    stems = {adapter.path: {module.split(".", 1)[0] for module in adapter.layers} for adapter in adapters}
    first = stems[adapters[0].path]
    for path, stem in stems.items():
        if len(names) > 1 and not stem & first:
            raise ExportError(
                f"{path} does not fit the others",
                f"its layers are named {min(stem)}..., those of another {min(first)}...",
                "blend adapters of one base model",
            )


@dataclass(frozen=True)
class BlendReport:
    """The content of blend.json. `max_relative_error` is the worst layer's share that a cut rank lost."""

    rank: int
    max_abs_error: float
    max_relative_error: float
    verdict: str
    reasons: list[str]
    method: str
    adapters: list[BlendedPart]


@dataclass(frozen=True)
class BlendedPart:
    """An adapter of a blend by its hash, and its weight."""

    hash: str
    weight: float


def write(out: Path, ingredients: list[Ingredient], blended: dict[str, Blended], request: BlendRequest) -> BlendAnswer:
    """Write the adapter beside its place, read it back against the method's result, and move it there.

    Returns the answer. Raises ExportError when what was written is not what was blended.
    """
    rank = max(request.rank or 0, *(layer.a.shape[0] for layer in blended.values()))
    try:
        with opened(out) as staging:
            _write_adapter(staging.folder, ingredients, blended, rank)
            refuse_misread(staging.folder, blended)
            report = _report(ingredients, blended, rank, request)
            staging.add_text("blend.json", json.dumps(asdict(report), indent=2))
            staging.publish()
    except OSError as error:
        raise ExportError(f"{out} cannot be made", error.strerror or str(error), "choose another folder") from None
    return BlendAnswer(str(out), report.rank, report.max_abs_error, report.verdict)


def _write_adapter(folder: Path, ingredients: list[Ingredient], blended: dict[str, Blended], rank: int) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for module, layer in blended.items():
        a, b = padded(layer, rank)
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    settings = _adapter_config(ingredients, sorted(blended), rank)
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    first = ingredients[0].adapter.path
    for pattern in TOKENIZER_FILES:
        for path in first.glob(pattern):
            shutil.copyfile(path, folder / path.name)


def refuse_misread(folder: Path, blended: dict[str, Blended]) -> None:
    """Read a written adapter as any program would, and compare every update with the blended one."""
    found = AdapterFolder(folder)
    for module, layer in blended.items():
        update = found.update(module)
        difference = (update.b @ update.a) * update.scaling - layer.b @ layer.a
        size = float((layer.b.norm() * layer.a.norm()).clamp_(min=1e-30))
        if set(found.layers) != set(blended) or not float(difference.norm()) <= 1e-5 * size:
            raise ExportError("The blend was not written as it was made", f"the layer {module} differs", "try again")


def _adapter_config(ingredients: list[Ingredient], modules: list[str], rank: int) -> dict[str, object]:
    """Return a plain LoRA configuration with scaling 1; an rsLoRA or alpha of a part is in its factors already."""
    configs = [ingredient.adapter.config for ingredient in ingredients]
    first = configs[0]
    return {
        "peft_type": "LORA",
        "task_type": first.get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": first.get("base_model_name_or_path"),
        "revision": first.get("revision"),
        "fan_in_fan_out": any(bool(config.get("fan_in_fan_out")) for config in configs),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "target_modules": _target_modules(configs, modules),
    }


def _target_modules(configs: Sequence[Mapping[str, Any]], modules: list[str]) -> list[str]:
    """Return the short names that all parts share, which every program reads; else each layer by its whole name."""
    targets = [config.get("target_modules") for config in configs]
    narrowed = any(config.get(name) for config in configs for name in _NARROWING)
    if narrowed or not all(isinstance(one, list) and one for one in targets):
        return modules
    named = {tuple(sorted(map(str, one))) for one in targets if one}
    return list(named.pop()) if len(named) == 1 else modules


def _largest(errors: list[float]) -> float:
    """Return the largest error; one that is no number counts as larger than all."""
    return float("inf") if any(math.isnan(error) for error in errors) else max(errors)


def _report(
    ingredients: list[Ingredient], blended: dict[str, Blended], rank: int, request: BlendRequest
) -> BlendReport:
    relative = _largest([layer.relative_error for layer in blended.values()])
    bases = {str(ingredient.adapter.config.get("base_model_name_or_path")) for ingredient in ingredients}
    reasons = []
    exact = request.method == "cat" or (request.method == "linear" and not request.rank)
    if exact and not relative <= MOST_EXACT_ERROR:
        reasons.append(f"{request.method} loses nothing, but the worst layer is off by {relative:.1%}")
    elif not relative <= MOST_RELATIVE_ERROR:
        reasons.append(f"rank {rank} loses {relative:.1%} of the update in the worst layer; allow a higher rank")
    if all(layer.cancels or not (layer.b.any() and layer.a.any()) for layer in blended.values()):
        reasons.append("the blend changes nothing: its parts are empty or cancel each other out")
    if len(bases) > 1:
        reasons.append("the adapters name different base models")
    for name in sorted({name for part in ingredients for name in part.adapter.unknown}):
        reasons.append(f"the setting {name} is not known here and was taken to change nothing")
    return BlendReport(
        rank=rank,
        max_abs_error=_largest([layer.max_abs_error for layer in blended.values()]),
        max_relative_error=relative,
        verdict="warn" if reasons else "pass",
        reasons=reasons,
        method=request.method,
        adapters=[BlendedPart(part.adapter.hash, part.weight) for part in ingredients],
    )
