"""The adapter that a run goes on from: where it lies, and what of the run's settings it decides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from app.catalog.modules import EXPERTS, layer_modules
from app.catalog.spec import ModelSpec
from app.config.schema import RunConfig
from app.errors import ModelError, keyed
from app.jobs import directory
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, read_settings
from app.reading import read_object
from app.workspace import Workspace, expanded

# Where a factor of a linear layer lies: `...layers.3.self_attn.q_proj.lora_A.weight`.
_FACTOR = re.compile(r".*?\.(?P<layer>\d+)\.(?:.*\.)?(?P<module>\w+)\.lora_(?P<part>[AB])\.weight")
_LAYER = re.compile(r"\.\d+\.")
_MOST_NAMED = 4
# Settings that the adapter's shape or meaning follows from, by PEFT's names.
_DECIDED = ("r", "lora_alpha", "use_rslora", "use_dora", "bias")


def folder_of(workspace: Workspace, name: str) -> Path:
    """Return the folder of an adapter by its path or the id of the run that made it. Raises ModelError for no such."""
    folder = expanded(name)
    if not folder.is_dir():
        ids = {job.id: job for job in directory.all_jobs(workspace, "train", "blend")}
        folder = ids[name].result / "adapter" if name in ids else folder
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(
            keyed("no_start", "There is no adapter {name} to go on from", name=f"{name!r:.160}"),
            keyed("no_start_why", "no folder of this name holds {file}", file=WEIGHTS_FILE),
            keyed("no_start_fix", "name a run, or the folder that it left in result/adapter"),
        )
    return folder.absolute()


def with_start(workspace: Workspace, config: RunConfig) -> RunConfig:
    """Return the config with the settings that its starting adapter decides; the config itself without one.

    Raises ModelError where there is no such adapter or it is no LoRA.
    """
    if not config.adapter.start_from:
        return config
    folder = folder_of(workspace, config.adapter.start_from)
    stored = read_settings(folder)
    return config.changed({"adapter.start_from": str(folder), **_decided(stored, folder)}, "the adapter")


def refuse_misfit(spec: ModelSpec, folder: Path) -> None:
    """Raise ModelError, in one line, for an adapter whose layers are not those of the base.

    Of a class that is traced only the loaded model knows its layers, and of experts and vision towers only PEFT: the
    worker holds every adapter to those.
    """
    if spec.simulated:
        return
    why = _misfit(spec, _factors(folder))
    if why:
        own = str(read_object(folder / CONFIG_FILE).get("base_model_name_or_path") or "")
        raise ModelError(
            keyed("start_misfit", "The adapter {name} does not fit {model}", name=folder.name, model=spec.name),
            why,
            keyed("start_own_base", "train on its own base: {base}", base=f"{own:.120}")
            if own
            else keyed("choose_an_adapter_of_this_base", "choose an adapter of this base"),
        )


def _misfit(spec: ModelSpec, factors: list[tuple[int, str, str, int]]) -> str:
    """Return what an adapter changes that a base does not have, nothing where all of it fits."""
    layers = 1 + max((layer for layer, *_ in factors), default=0)
    sizes: dict[tuple[str, str], set[int]] = {}
    for index in (0, spec.layers - 1):
        for module in layer_modules(spec, index):
            sizes.setdefault((module.name, "A"), set()).add(module.d_in)
            sizes.setdefault((module.name, "B"), set()).add(module.d_out)
    strange = sorted({name for _, name, _, _ in factors if (name, "A") not in sizes})
    if strange:
        more = f" and {len(strange) - _MOST_NAMED} more" if len(strange) > _MOST_NAMED else ""
        named = ", ".join(strange[:_MOST_NAMED]) + more
        return keyed("start_names", "it adapts {names}, which {model} does not have", names=named, model=spec.name)
    if layers > spec.layers:
        return keyed(
            "start_layers",
            "it adapts {theirs} layers, {model} has {ours}",
            theirs=layers,
            model=spec.name,
            ours=spec.layers,
        )
    for _, name, part, size in factors:
        fitting = sizes[name, part]
        ours = " / ".join(f"{one:,}" for one in sorted(fitting))
        if size not in fitting and part == "A":
            return keyed(
                "start_inputs",
                "its {name} takes {theirs} inputs, that of {model} {ours}",
                name=name,
                theirs=f"{size:,}",
                model=spec.name,
                ours=ours,
            )
        if size not in fitting:
            return keyed(
                "start_outputs",
                "its {name} has {theirs} outputs, that of {model} {ours}",
                name=name,
                theirs=f"{size:,}",
                model=spec.name,
                ours=ours,
            )
    return ""


def _factors(folder: Path) -> list[tuple[int, str, str, int]]:
    """Return (layer, module, A or B, its size on the model's side) of every factor of a decoder's linear layers."""
    try:
        with safe_open(folder / WEIGHTS_FILE, "np") as file:  # reads the header alone
            return list(_read(file))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS_FILE} is damaged", str(error), "use another copy of the adapter") from None


def _read(file: Any) -> Iterator[tuple[int, str, str, int]]:
    for key in list(file.keys()):
        found = _FACTOR.fullmatch(key)
        if found and "experts." not in key and "vision" not in key:
            shape = file.get_slice(key).get_shape()
            yield int(found["layer"]), found["module"], found["part"], int(shape[1 if found["part"] == "A" else 0])


def _decided(stored: dict[str, Any], folder: Path) -> dict[str, Any]:
    found = {f"adapter.{name}": stored[name] for name in _DECIDED if stored.get(name) is not None}
    targets = stored.get("target_modules")
    experts = [EXPERTS] if stored.get("target_parameters") else []
    if isinstance(targets, list) and not any(_LAYER.search(str(name)) for name in targets):
        found["adapter.target_modules"] = [*sorted(map(str, targets)), *experts]
    elif targets:  # a pattern, or every module by its whole path: what they lead to stands in the weights
        names = sorted({name for _, name, _, _ in _factors(folder)})
        found["adapter.target_modules"] = [*names, *experts] or targets
    found["adapter.modules_to_save"] = list(stored.get("modules_to_save") or [])
    return found
