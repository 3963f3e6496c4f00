"""The shipped table of open models, and the one function that turns a person's words into a ModelSpec."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from app.catalog.hub_ids import is_repository
from app.catalog.reader import read_config, spec_from_config
from app.catalog.spec import Listing, ModelSpec
from app.errors import ModelError, NetworkError

_TABLE = Path(__file__).with_name("models.json")
_STARTER = Path(__file__).resolve().parents[2] / "assets" / "starter"
_FORBIDDEN = re.compile(r"^[a-z][a-z0-9+.-]*://|^\\\\|^//|^file:|[\x00-\x1f]", re.IGNORECASE)
_MAX_NAME_CHARS = 4096


@lru_cache(maxsize=1)
def all_models() -> tuple[ModelSpec, ...]:
    """Return every model of the shipped catalogue, smallest first within a family."""
    rows = json.loads(_TABLE.read_text(encoding="utf-8"))["models"]
    return tuple(_listed(row) for row in rows)


def _listed(row: dict[str, object]) -> ModelSpec:
    """Return the ModelSpec of one row of the table."""
    from dataclasses import replace

    listing = Listing(
        hub_id=str(row["hub_id"]),
        licence=str(row["licence"]),
        gated=bool(row["gated"]),
        parameters=int(str(row["parameters"])),
        parameters_source=str(row["parameters_source"]),
        config_source=str(row["config_source"]),
        aliases=tuple(str(alias) for alias in row.get("aliases", [])),  # type: ignore[attr-defined]
    )
    config = row["config"]
    assert isinstance(config, dict)
    return replace(spec_from_config(config, str(row["name"])), listing=listing)


@lru_cache(maxsize=1)
def _index() -> dict[str, ModelSpec]:
    """Map every lower-case name, hub id and alias to its model."""
    index: dict[str, ModelSpec] = {}
    for spec in all_models():
        assert spec.listing is not None
        for hub_id in (spec.listing.hub_id, *spec.listing.aliases):
            index.setdefault(hub_id.lower(), spec)
            index.setdefault(hub_id.split("/")[-1].lower(), spec)
        index[spec.name.lower()] = spec
    return index


@lru_cache(maxsize=1)
def _hub_ids() -> dict[str, str]:
    """Map every lower-case short name to the hub id that it means: not only an architecture, but these very weights."""
    ids: dict[str, str] = {}
    for spec in all_models():
        assert spec.listing is not None
        for hub_id in (spec.listing.hub_id, *spec.listing.aliases):
            ids.setdefault(hub_id.split("/")[-1].lower(), hub_id)
        ids.setdefault(spec.name.lower(), spec.listing.hub_id)
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
        return listed
    path = _STARTER if text.lower() == "starter" else Path(text).expanduser()
    if _exists(path):
        return _from_path(path)
    if listed is not None:
        return listed
    if text.lower() != "starter" and is_repository(text):
        return _from_hub(text, revision)
    raise _unknown(text)


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


def _from_hub(hub_id: str, revision: str | None) -> ModelSpec:
    """Return the ModelSpec of a hub model by its config.json alone."""
    return spec_from_config(read_config(hub_config(hub_id, revision)), hub_id)


def hub_config(hub_id: str, revision: str | None = None) -> Path:
    """Return the config.json of a hub model, from the cache or else fetched.

    Without it nothing of the model can be had. Raises ModelError when the hub has no such model, NetworkError when it
    cannot be asked; with a name of the catalogue that is nearly the same.
    """
    from app.catalog.hub import fetch_config

    try:
        return fetch_config(hub_id, revision)
    except NetworkError as error:
        near = _near(hub_id)
        raise NetworkError(error.what, error.why, f"{error.remedy}{near}") from error


def _near(text: str) -> str:
    import difflib

    names = difflib.get_close_matches(text.lower(), list(_index()), n=1, cutoff=0.75)
    return f". Did you mean {names[0]}?" if names and names[0] != text.lower() else ""


def _unknown(text: str) -> ModelError:
    return ModelError(
        f"'{text[:80]}' is not a known model",
        "it is neither in the catalogue, nor a local folder, nor a hub id",
        f"See the catalogue for names{_near(text)}",
    )
