"""The shipped table of open models, and the one function that turns a person's words into a ModelSpec."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.catalog.families import FAMILIES
from app.catalog.reader import read_config, spec_from_config
from app.catalog.spec import Listing, ModelSpec
from app.errors import ModelError, NetworkError, UsageError
from app.hub.ids import is_repository
from app.workspace import expanded

_TABLE = Path(__file__).with_name("models.json")
_STARTER = Path(__file__).resolve().parents[2] / "assets" / "starter"
_FORBIDDEN = re.compile(r"^[a-z][a-z0-9+.-]*://|^\\\\|^//|^file:|[\x00-\x1f]", re.IGNORECASE)
_MAX_NAME_CHARS = 4096


@dataclass(frozen=True)
class Entry:
    """One row of the shipped table: a published model, its listing and the text part of its config.json."""

    name: str
    listing: Listing
    config: Mapping[str, Any]

    @property
    def has_formula(self) -> bool:
        """Tell whether the planner knows the architecture by a formula."""
        return self.config["model_type"] in FAMILIES


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Return the shipped catalogue, smallest first within a family."""
    return tuple(_entry(row) for row in json.loads(_TABLE.read_text(encoding="utf-8"))["models"])


def _entry(row: Mapping[str, Any]) -> Entry:
    listing = Listing(
        hub_id=row["hub_id"],
        licence=row["licence"],
        gated=row["gated"],
        parameters=row["parameters"],
        parameters_source=row["parameters_source"],
        config_source=row["config_source"],
        aliases=tuple(row["aliases"]),
        instruct=tuple(row["instruct"]),
        file_bytes=row["file_bytes"],
    )
    return Entry(row["name"], listing, row["config"])


@lru_cache(maxsize=1)
def all_models() -> tuple[ModelSpec, ...]:
    """Return the models of the catalogue that are planned by a formula, smallest first within a family."""
    return tuple(_spec(entry) for entry in entries() if entry.has_formula)


@lru_cache(maxsize=256)
def _spec_of(name: str) -> ModelSpec:
    return _spec(next(entry for entry in entries() if entry.name == name))


def _spec(entry: Entry) -> ModelSpec:
    """Return the architecture of an entry; raises ModelError for one that is not supported."""
    return replace(spec_from_config(entry.config, entry.name), listing=entry.listing)


@lru_cache(maxsize=1)
def _index() -> dict[str, Entry]:
    """Map every lower-case name, hub id and alias to its entry."""
    index: dict[str, Entry] = {}
    for entry in entries():
        for hub_id in (entry.listing.hub_id, *entry.listing.aliases):
            index.setdefault(hub_id.lower(), entry)
            index.setdefault(hub_id.split("/")[-1].lower(), entry)
        index[entry.name.lower()] = entry
    return index


@lru_cache(maxsize=1)
def _hub_ids() -> dict[str, str]:
    """Map every lower-case short name to the hub id that it means: not only an architecture, but these very weights."""
    ids: dict[str, str] = {}
    for entry in entries():
        for hub_id in (entry.listing.hub_id, *entry.listing.aliases):
            ids.setdefault(hub_id.split("/")[-1].lower(), hub_id)
        ids.setdefault(entry.name.lower(), entry.listing.hub_id)
    return ids


def hub_id_of(short_name: str) -> str | None:
    """Return the hub id that a name of the catalogue stands for, None for a name that it does not hold."""
    return _hub_ids().get(short_name.lower())


def search(text: str) -> tuple[ModelSpec, ...]:
    """Return the catalogue's models that contain every word of `text` in name, hub id, family or licence."""
    words = text.lower().split()
    return tuple(spec for spec in all_models() if all(word in _haystack(spec) for word in words))


def _haystack(spec: ModelSpec) -> str:
    listing = spec.listing
    assert listing is not None
    return " ".join((spec.name, spec.family, listing.hub_id, listing.licence, *listing.aliases)).lower()


def find(name_or_path: str, revision: str | None = None) -> ModelSpec:
    """Return the architecture of a catalogue name, `starter`, a local folder, a config.json or a hub id.

    Only config.json is read. The network is touched only for a hub id that the catalogue does not hold.
    """
    text = name_or_path.strip()
    if not text or len(text) > _MAX_NAME_CHARS or _FORBIDDEN.search(text):
        raise ModelError(
            f"'{text[:80]}' does not name a model",
            "addresses, network shares and empty names are not accepted",
            "Give a catalogue name, a local folder or a hub id such as Qwen/Qwen3-4B",
        )
    listed = _index().get(text.lower())
    if listed is not None and revision is None:
        return _spec_of(listed.name)
    path = _STARTER if text.lower() == "starter" else expanded(text)
    if _exists(path):
        return _from_path(path)
    if listed is not None:
        return _spec_of(listed.name)
    if text.lower() != "starter" and is_repository(text):
        return spec_from_config(read_config(hub_config(text, revision)), text)
    raise ModelError(
        f"'{text[:80]}' is not a known model",
        "it is neither in the catalogue, nor a local folder, nor a hub id",
        f"See the catalogue for names{_near(text)}",
    )


def find_or_none(name_or_path: str, revision: str | None = None) -> ModelSpec | None:
    """Return what `find` does, None for a model that cannot be read from here: whoever loads it says why."""
    try:
        return find(name_or_path, revision)
    except (ModelError, NetworkError, UsageError):
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name the file system cannot hold names no file
        return False


def _from_path(path: Path) -> ModelSpec:
    """Return the ModelSpec of a folder with a config.json, or of that file."""
    config = path / "config.json" if path.is_dir() else path
    if not config.is_file():
        raise ModelError(f"{path} holds no config.json", "", "Give a model folder in the transformers format")
    name = "starter" if path == _STARTER else (path if path.is_dir() else path.parent).resolve().name
    return spec_from_config(read_config(config), name)


def hub_config(hub_id: str, revision: str | None = None) -> Path:
    """Return the config.json of a hub model, from the cache or else fetched.

    Without it nothing of the model can be had. Raises ModelError when the hub has no such model, NetworkError when it
    cannot be asked; with a name of the catalogue that is nearly the same.
    """
    from app.hub.client import fetch_config

    try:
        return fetch_config(hub_id, revision)
    except NetworkError as error:
        near = _near(hub_id)
        raise NetworkError(error.what, error.why, f"{error.remedy}{near}") from error


def _near(text: str) -> str:
    import difflib

    names = difflib.get_close_matches(text.lower(), list(_index()), n=1, cutoff=0.75)
    return f". Did you mean {names[0]}?" if names and names[0] != text.lower() else ""
