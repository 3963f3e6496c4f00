"""Column mappings under names of a person's own: `<workspace>/mappings/<name>.json`, role -> column."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app.data.formats.conversions import parse_mapping
from app.errors import DiskError, TakenError, UsageError, WorkbenchError
from app.files import replace_file
from app.reading import parsed_json
from app.workspace import Workspace

# A mapping names at most a handful of roles; anything larger is no mapping.
_MOST_BYTES = 64 * 1024


def names(workspace: Workspace) -> list[str]:
    """Return the names of all saved mappings."""
    return sorted(path.stem for path in workspace.mappings.glob("*.json") if not path.name.startswith("."))


def load(workspace: Workspace, name: str) -> dict[str, str]:
    """Return a saved mapping. Raises UsageError where there is none of this name, or it does not hold."""
    path = workspace.mapping_path(name)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        found = parsed_json(path.read_text("utf-8"))
    except OSError:
        known = ", ".join(names(workspace)) or "none yet"
        raise UsageError(f"There is no mapping {name!r:.60}", f"Saved are: {known}", "save one first") from None
    except ValueError as error:
        raise UsageError(f"The mapping {name!r:.60} cannot be read", str(error), "save it again") from None
    return _checked(found, f"The mapping {name!r:.60}")


def save(workspace: Workspace, name: str, mapping: Mapping[str, str], *, replace: bool = False) -> str:
    """Save a mapping under a name; return the name it can be asked by.

    Raises TakenError where another mapping has the name, unless it may be replaced.
    """
    if not name.strip():
        raise UsageError("The mapping has no name", "", "give it one, such as support-tickets")
    path = workspace.mapping_path(name)
    if not mapping:
        raise UsageError("There is no mapping to save", "", "say which column is the answer first")
    text = json.dumps(_checked(dict(mapping), "The mapping"), ensure_ascii=False, indent=2)
    if not replace and path.exists() and _differs(workspace, name, mapping):
        what = f"There is another mapping {path.stem!r:.60}"
        raise TakenError(what, "it is not written over", "choose another name, or add --force")
    try:
        replace_file(path, text + "\n")
    except OSError as error:
        raise DiskError(f"The mapping {name!r:.60} cannot be saved", str(error), "Free some disk space") from error
    return path.stem


def _differs(workspace: Workspace, name: str, mapping: Mapping[str, str]) -> bool:
    try:
        return load(workspace, name) != dict(mapping)
    except UsageError:  # it cannot be read
        return True


def _checked(found: object, what: str) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise UsageError(f"{what} is none", "It is not an object of role and column", "save it again")
    try:
        parse_mapping(found)
    except WorkbenchError as error:
        raise UsageError(what + " cannot be used", error.what, error.remedy) from error
    return found
