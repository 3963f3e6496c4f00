"""The adapter that a run goes on from: where it lies, and what of the run's settings it decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.catalog.modules import EXPERTS
from app.config.schema import RunConfig
from app.errors import ModelError, keyed
from app.jobs import directory
from app.reading import read_object
from app.workspace import Workspace, expanded

_CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Settings that the adapter's shape or meaning follows from, by PEFT's names.
_DECIDED = ("r", "lora_alpha", "use_rslora", "use_dora", "bias")


def folder_of(workspace: Workspace, name: str) -> Path:
    """Return the folder of an adapter by its path or the id of the run that made it. Raises ModelError for no such."""
    folder = expanded(name)
    if not folder.is_dir():
        ids = {job.id: job for job in directory.all_jobs(workspace, "train", "blend")}
        folder = ids[name].result / "adapter" if name in ids else folder
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            keyed("no_start", "There is no adapter {name} to go on from", name=f"{name!r:.160}"),
            keyed("no_start_why", "no folder of this name holds {file}", file=WEIGHTS),
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
    try:
        stored = read_object(folder / _CONFIG)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / _CONFIG} cannot be read", str(error), "use another copy of the adapter") from None
    if stored.get("peft_type") != "LORA":
        raise ModelError(
            f"{folder} is no LoRA adapter", f"its peft_type is {stored.get('peft_type')!r:.60}", "choose one"
        )
    return config.changed({"adapter.start_from": str(folder), **_decided(stored)}, "the adapter")


def _decided(stored: dict[str, Any]) -> dict[str, Any]:
    found = {f"adapter.{name}": stored[name] for name in _DECIDED if stored.get(name) is not None}
    targets = stored.get("target_modules")
    if isinstance(targets, list):
        experts = [EXPERTS] if stored.get("target_parameters") else []
        found["adapter.target_modules"] = [*sorted(map(str, targets)), *experts]
    found["adapter.modules_to_save"] = list(stored.get("modules_to_save") or [])
    return found
