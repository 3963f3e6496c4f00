"""presets/*.yaml: named RunConfigs, shipped or the user's own.

A preset file is the YAML of a RunConfig with one more section, `preset`: title, note, the card size it is made for
(`vram_gb`) and `alternatives` to its model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import yaml

from app.config.accelerators import INSTEAD, Kind, has_optimizer
from app.config.parsing import from_yaml, read_yaml
from app.config.schema import RunConfig, parse
from app.errors import ConfigError, Problem, TakenError, UsageError, keyed
from app.workspace import Workspace, existing_file

FOLDER = Path(__file__).resolve().parents[2] / "presets"
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

    def on(self, kind: Kind | None) -> Preset:
        """Return the preset for a kind of GPU: an optimiser that bitsandbytes has not there gives way to PyTorch's."""
        if has_optimizer(kind, self.config.training.optim):
            return self
        return replace(self, config=self.config.changed({"training.optim": INSTEAD}))


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
        raise UsageError(
            keyed("there_is_no_preset", "There is no preset {name}", name=f"{name!r:.60}"),
            "",
            keyed("choose_one_of", "choose one of {known}", known=known),
        )
    return read(path)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read(path: Path) -> Preset:
    """Read a preset or a run's YAML file. Raises ConfigError with every problem; takes nothing outside the schema."""
    return _parsed(path, _text(path))


@lru_cache(maxsize=128)  # the page asks for all of them at every change of its form
def _parsed(path: Path, text: str) -> Preset:
    try:
        tree = read_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
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


def _with_facts(path: Path, config: RunConfig, facts: object) -> Preset:
    if facts is None:
        return Preset(path.stem, path.stem, config)
    known = {"title", "note", "vram_gb", "alternatives"}
    if not isinstance(facts, dict) or not set(facts) <= known:
        raise ConfigError([Problem("preset", f"takes only {', '.join(sorted(known))}")], path.name)
    size = facts.get("vram_gb")
    if size is not None and (isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size < 1e6):
        raise ConfigError([Problem("preset.vram_gb", f"is not a number: {size!r:.40}", "write 12")], path.name)
    alternatives = facts.get("alternatives") or []
    if not isinstance(alternatives, list) or not all(isinstance(name, str) for name in alternatives):
        raise ConfigError([Problem("preset.alternatives", "is not a list of names", "write [A, B]")], path.name)
    return Preset(
        name=path.stem,
        title=str(facts.get("title", path.stem)),
        config=config,
        note=" ".join(str(facts.get("note", "")).split()),
        vram_gb=None if size is None else float(size),
        alternatives=tuple(alternatives),
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


def save_new(workspace: Workspace, name: str, config: RunConfig, note: str = "", *, replace: bool = False) -> Path:
    """Save a run's settings under a name; the data they were used on stays out of it.

    Raises TakenError for the name of a preset of the user's own, unless it may be replaced, and UsageError for an
    empty name and that of a shipped preset.
    """
    name = " ".join(name.split())[:60]
    if not name:
        raise UsageError(keyed("the_preset_has_no_name", "The preset has no name"), "", keyed("type_one", "type one"))
    if _plain(name) in {_plain(preset.name) for preset in all_presets()}:
        raise UsageError(
            keyed("there_is_a_preset_already", "There is a preset {name} already", name=f"{name!r}"),
            keyed("it_comes_with_the_program", "it comes with the program"),
            keyed("choose_another_name", "choose another name"),
        )
    own = next((path for path in workspace.presets.glob("*.yaml") if _plain(path.stem) == _plain(name)), None)
    if not replace and (own or workspace.preset_path(name).exists()):
        what, why = f"There is a preset {name!r} already", "it is not written over"
        other = "choose another name"
        raise TakenError(what, why, f"{other}, or add --force", on_page=other)
    empty = RunConfig().data
    no_data = {f"data.{field}": getattr(empty, field) for field in ("file", "format", "mapping", "drop", "repair")}
    return save(workspace, name, config.changed(no_data), note)
