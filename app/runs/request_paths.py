"""What a request from the browser may name: models of the catalogue or the hub, and files inside the workspace.

A page is reached by more than its owner's hand, so no path outside the workspace is opened because of a request. The
command line, which only the owner types, may name any file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from app.errors import ModelError, UsageError, WorkspaceError, keyed
from app.runs.submission.starting_adapter import folder_of
from app.workspace import Workspace, existing_file, existing_source

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "datasets"
_PATH_LIKE = re.compile(r"^[./~\\]|^[A-Za-z]:|\\|\.\.")


def model_name(workspace: Workspace, text: str) -> str:
    """Return a model name that the page may use. Raises ModelError for a folder outside the workspace."""
    name = text.strip()
    if _PATH_LIKE.search(name) and not _inside(Path(name), workspace.root):
        raise ModelError(
            keyed("outside", "{name} lies outside the workspace", name=f"{name!r:.120}"),
            keyed("only_inside", "the page opens only what lies inside it"),
            keyed(
                "put_inside",
                "put the model's folder, or a link to it, into {folder}, or name it on the command line",
                folder=workspace.root,
            ),
        )
    return name


def data_file(workspace: Workspace, text: str) -> Path:
    """Return a data file that the page may open: an upload, a fetched set (a folder) or a sample.

    Raises WorkspaceError for any other, and UsageError when none is named.
    """
    if not text.strip():
        raise UsageError(
            keyed("no_data", "No data is chosen yet"),
            "",
            keyed("choose_data", "choose a sample set, drop a file or paste rows on the Data tab"),
        )
    path = existing_source(text)
    if path.is_dir() and not _inside(path, workspace.uploads / "hub"):
        path = existing_file(text, "data file")
    if _inside(path, workspace.uploads) or _inside(path, SAMPLES):
        return path
    raise WorkspaceError(
        keyed("no_file", "{name} is no file of this workspace", name=f"{text!r:.120}"),
        keyed("only_given", "the page opens only what it was given"),
        keyed("drop_here", "drop the file here"),
    )


def adapter_folder(workspace: Workspace, text: str) -> Path:
    """Return the folder of an adapter that the page may go on from: one inside the workspace. Raises ModelError."""
    folder = folder_of(workspace, text)
    if _inside(folder, workspace.root):
        return folder
    raise ModelError(
        keyed("outside", "{name} lies outside the workspace", name=f"{text!r:.120}"),
        keyed("only_inside", "the page opens only what lies inside it"),
        keyed("start_inside", "choose an adapter of a run, or name it on the command line"),
    )


def _inside(path: Path, folder: Path) -> bool:
    """Tell whether a path, links resolved by name only, lies in a folder. A link that the owner put there counts."""
    return Path(os.path.normpath(path.expanduser().absolute())).is_relative_to(folder.absolute())
