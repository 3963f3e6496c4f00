"""presets/*.yaml: named RunConfigs, shipped or the user's own.

A preset file is the YAML of a RunConfig with one more section, `preset`: title, note, the card size it is made for
(`vram_gb`) and `alternatives` to its model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.config import RunConfig, from_yaml, parse
from app.errors import ConfigError, Problem, UsageError
from app.workspace import Workspace, existing_file

FOLDER = Path(__file__).resolve().parents[1] / "presets"
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Preset:
    """A named RunConfig. `vram_gb` is the card size it is made for; None runs on the processor."""

    name: str
    title: str
    config: RunConfig
    note: str = ""
    vram_gb: float | None = None
    alternatives: tuple[str, ...] = ()


def all_presets(workspace: Workspace | None = None) -> list[Preset]:
    """Return the shipped presets, smallest card first, and then the user's own that can be read."""
    shipped = [read(path) for path in FOLDER.glob("*.yaml")]
    shipped.sort(key=lambda preset: (preset.vram_gb or 0.0, preset.name))
    own = sorted(workspace.presets.glob("*.yaml")) if workspace else []
    for path in own:
        try:
            shipped.append(read(path))
        except ConfigError:  # one damaged file of the user's must not hide the others; loading it by name says why
            continue
    return shipped


def load(name: str, workspace: Workspace | None = None) -> Preset:
    """Return a preset by name; `8`, `8gb` and `8 GB` are the same. Raises UsageError with the names there are."""
    if workspace is not None and workspace.preset_path(name).is_file():
        return read(workspace.preset_path(name))
    presets = {_plain(path.stem): path for path in FOLDER.glob("*.yaml")}
    wanted = _plain(name)
    path = presets.get(wanted) or presets.get(wanted + "gb")
    if path is None:
        known = ", ".join(preset.name for preset in all_presets(workspace))
        raise UsageError(f"There is no preset {name!r:.60}", "", f"choose one of {known}")
    return read(path)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read(path: Path) -> Preset:
    """Read a preset or a run's YAML file. Raises ConfigError with every problem; takes nothing outside the schema."""
    text = _text(path)
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        from_yaml(text, path.name)  # says where
        raise AssertionError("unreachable: the same text was not YAML a moment ago") from None
    facts = tree.pop("preset", None) if isinstance(tree, dict) else None
    config = parse({} if tree is None else tree, path.name)
    return _with_facts(path, config, facts)


def _text(path: Path) -> str:
    if path.stat().st_size > _LARGEST_BYTES:
        raise ConfigError([Problem("(file)", "is larger than 1 MiB", "a run's settings are a few kB")], path.name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem("(file)", "is not UTF-8 text", "save it as UTF-8")], path.name) from None


def _with_facts(path: Path, config: RunConfig, facts: Any) -> Preset:
    if facts is None:
        return Preset(path.stem, path.stem, config)
    known = {"title", "note", "vram_gb", "alternatives"}
    if not isinstance(facts, dict) or not set(facts) <= known:
        raise ConfigError([Problem("preset", f"takes only {', '.join(sorted(known))}")], path.name)
    size = facts.get("vram_gb")
    if size is not None and not isinstance(size, (int, float)):
        raise ConfigError([Problem("preset.vram_gb", f"is not a number: {size!r:.40}", "write 12")], path.name)
    return Preset(
        name=path.stem,
        title=str(facts.get("title", path.stem)),
        config=config,
        note=" ".join(str(facts.get("note", "")).split()),
        vram_gb=None if size is None else float(size),
        alternatives=tuple(str(name) for name in facts.get("alternatives") or ()),
    )


def read_named_file(text: str) -> Preset:
    """Read the file that a person named with --config."""
    return read(existing_file(text, "settings file"))


def save(workspace: Workspace, name: str, config: RunConfig, note: str = "") -> Path:
    """Save a RunConfig as a preset of the user's own and return its file."""
    path = workspace.preset_path(name)
    facts = yaml.safe_dump({"preset": {"title": name, "note": note}}, allow_unicode=True, sort_keys=False)
    path.write_text(facts + config.to_yaml(), encoding="utf-8")
    return path


def save_new(workspace: Workspace, name: str, config: RunConfig, note: str = "") -> Path:
    """Save a run's settings under a name that is not taken; the data they were used on stays out of it.

    Raises UsageError for an empty name and for one that is taken.
    """
    name = " ".join(name.split())[:60]
    if not name:
        raise UsageError("The preset has no name", "", "type one")
    taken = {_plain(preset.name) for preset in all_presets(workspace)}
    if workspace.preset_path(name).exists() or _plain(name) in taken:
        raise UsageError(f"There is a preset {name!r} already", "", "choose another name")
    empty = RunConfig().data
    own = {f"data.{field}": getattr(empty, field) for field in ("file", "format", "mapping", "drop", "repair")}
    return save(workspace, name, config.changed(own), note)
