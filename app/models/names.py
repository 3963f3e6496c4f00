"""Names of models: what a person types, and the folder or hub id that it stands for."""

from __future__ import annotations

from pathlib import Path

from app.catalog.catalogue import hub_id_of
from app.errors import ModelError
from app.hub.ids import is_model_id, is_repository
from app.workspace import expanded

STARTER = "starter"
_STARTER_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "starter"
# Linux's limit of a whole path, in bytes.
_LONGEST_PATH = 4096


def resolve(name: str) -> str:
    """Return the folder (absolute) or the hub id that a model name stands for; a short name is the catalogue's.

    Raises ModelError for addresses, network shares, missing folders and anything that is no hub id.
    """
    text = name.strip()
    if "://" in text or text.startswith(("\\\\", "//")) or "\0" in text:
        raise ModelError(
            f"{name!r:.120} is not a model name", "addresses are not opened", "name a local folder or a hub id"
        )
    if text == STARTER:
        return str(_existing(_STARTER_FOLDER))
    folder = expanded(text)
    if _is_folder(folder):
        return str(_existing(folder.absolute()))
    if not is_model_id(text):
        raise ModelError(
            f"There is no model {name!r:.120}", "it is neither a folder here nor a hub id", "check the name"
        )
    return hub_id_of(text) or text


def resolve_adapter(name: str) -> str:
    """Return the folder (absolute) or the hub id that an adapter's name stands for.

    A name that is no folder and could be a hub id is taken for one. Raises ModelError for anything else.
    """
    why = "" if _is_path(name) else "no folder can have this name"
    if "://" in name or name.startswith(("\\\\", "//")):
        why = "addresses are not opened"
    if why:
        raise ModelError(f"{name!r:.120} is not an adapter", why, "name a folder or a hub id")
    folder = expanded(name)
    if _is_folder(folder) or not is_repository(name):
        return str(folder.absolute())
    return name


def _is_path(name: str) -> bool:
    """Tell whether a file system could have this name at all."""
    try:
        name.encode()
    except UnicodeEncodeError:  # half a character, as JSON can hold it
        return False
    return bool(name.strip()) and "\0" not in name and len(name) <= _LONGEST_PATH


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name longer than the file system allows
        return False


def _existing(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is not a model folder", "it has no config.json", "name the folder that config.json lies in"
        )
    return folder
