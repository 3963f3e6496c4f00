"""Where a person lets something be written: never over an input, never over a file that this program did not write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.errors import ExportError, UsageError, WorkspaceError, keyed
from app.files import replace_file
from app.workspace import Workspace, open_workspace

_NOTED = "written.json"
_MOST_NOTED = 200


def refuse_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is one of the inputs, by any name or link, or that would lie inside one.

    Raises UsageError.
    """
    place = _resolved(out)
    for one in inputs:
        source = _resolved(one)
        if place == source or _is_same(out, one):
            raise UsageError(
                f"{out} is an input of this very command",
                keyed("it_is_not_written_over", "it is not written over"),
                keyed("choose_another_name", "choose another name"),
            )
        if place.is_relative_to(source):
            why = "what is written there would change it"
            raise UsageError(
                keyed("lies_inside_the_input", "{out} lies inside the input {one}", out=out, one=one),
                why,
                keyed("choose_a_place_outside_of_it", "choose a place outside of it"),
            )


def refuse_unmakeable(out: Path) -> None:
    """Refuse a folder that could not be made: below a file or a dead link, or where this user may not write.

    What is looked at is the nearest thing above it that is there. Raises ExportError.
    """
    above = next((one for one in out.absolute().parents if os.path.lexists(one)), out.parent)
    if not above.is_dir():
        why = keyed("is_no_folder_that_takes_files", "{above} is a file or a link to nothing", above=above)
    elif not os.access(above, os.W_OK | os.X_OK):
        why = keyed("may_not_be_written_to", "{above} may not be written to", above=above)
    else:
        return
    raise ExportError(
        keyed("cannot_be_made", "{a} cannot be made", a=out),
        why,
        keyed("choose_another_folder", "choose another folder"),
    )


def refuse_foreign(workspace: str | None, out: Path) -> None:
    """Refuse a place that is taken, unless by an output of ours that nobody has touched since. Raises UsageError."""
    if not os.path.lexists(out):
        return
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise UsageError(
            f"{out} is no place for a file",
            "it is a folder or a device",
            keyed("choose_another_name", "choose another name"),
        )
    if _noted(open_workspace(workspace)).get(str(out.absolute())) != _mark(out):
        why = "it was not written by this program, or was changed since, and is not written over"
        raise UsageError(keyed("exists", "{out} exists", out=out), why, "choose another name or remove it")


def remember(workspace: str | None, out: Path) -> None:
    """Note an output as ours, so that the same command can write it again. A note that cannot be kept is no fault."""
    with suppress(OSError, WorkspaceError):
        opened = open_workspace(workspace)
        noted = _noted(opened)
        noted.pop(str(out.absolute()), None)
        noted[str(out.absolute())] = _mark(out)
        replace_file(opened.root / _NOTED, json.dumps(dict(list(noted.items())[-_MOST_NOTED:])))


def _noted(workspace: Workspace) -> dict[str, list[int]]:
    try:
        found = json.loads((workspace.root / _NOTED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _mark(path: Path) -> list[int]:
    """Return what changes when anybody writes a file: its number, size and time. A link is looked at itself."""
    facts = path.lstat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError):  # links that lead in a circle
        return path.absolute()


def _is_same(first: Path, second: Path) -> bool:
    """Tell whether two names are one file: hard links, and letters that a file system does not tell apart."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        return False
