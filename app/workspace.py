"""The workspace: the one folder that holds jobs, datasets and models, and the only place a user's string meets a path.

<root>/jobs/<id>/        one folder a job
<root>/trash/<id>/       jobs that were removed and can come back
<root>/datasets/<hash>/  tokenised data
<root>/packing/         what small models have shown of packed rows, by configuration and versions
<root>/uploads/          files that came through the page
<root>/presets/          presets of the user's own
<root>/mappings/         which column plays which role, under names of the user's own
<root>/outputs/          merged models and exports that were given no folder
<root>/suites/           saved lists of prompts
<root>/conversations/    earlier conversations of the playground
<root>/votes.jsonl       blind votes of the playground, one a line
<root>/written.json      which files elsewhere are outputs of the command line, and may be written again
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from app.errors import WorkspaceError, keyed

ENVIRONMENT_VARIABLE = "WORKBENCH_HOME"
OUTPUTS = "outputs"
_ROOMS = ("jobs", "datasets", "uploads", "presets", "mappings", OUTPUTS)
_JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
# Names that Windows keeps for devices, whatever their ending.
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}
_LONGEST_NAME = 100
# What Linux, macOS and Windows take as one name, and Linux as a whole path, in bytes.
_LONGEST_PART, _LONGEST_PATH = 255, 4096


class Workspace:
    """One workspace on disk. Build it with `open_workspace`, which makes the folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs, self.datasets, self.uploads, self.presets, self.mappings, self.outputs = (
            root / room for room in _ROOMS
        )
        self.trash, self.suites, self.votes_file = root / "trash", root / "suites", root / "votes.jsonl"
        self.conversations = root / "conversations"

    def job_dir(self, job_id: str) -> Path:
        """Return the folder of a job. Raises WorkspaceError when the id is not a job id."""
        if not _JOB_ID.fullmatch(job_id):
            raise WorkspaceError(
                keyed("is_not_a_job_id", "{job_id} is not a job id", job_id=f"{job_id!r:.80}"),
                keyed("ids_are_lower_case_letters_digits", "ids are lower-case letters, digits and hyphens"),
                "see `jobs list` for the ids",
                on_page=keyed("choose_another_run", "choose another run"),
            )
        return self.jobs / job_id

    def upload_path(self, name: str, content_hash: str) -> Path:
        """Return where an uploaded file is kept: under its content hash, with a harmless form of its name."""
        return self.uploads / content_hash[:16] / safe_name(name)

    def preset_path(self, name: str) -> Path:
        """Return the file of a user's own preset."""
        return self.presets / f"{safe_name(name)}.yaml"

    def mapping_path(self, name: str) -> Path:
        """Return the file of a saved column mapping."""
        return self.mappings / f"{safe_name(name)}.json"

    def suite_path(self, name: str) -> Path:
        """Return the file of a saved list of prompts."""
        return self.suites / f"{safe_name(name)}.json"

    def output_dir(self, name: str) -> Path:
        """Return a folder for a result that was given none."""
        return self.outputs / safe_name(name)


def default_root() -> Path:
    """Return the workspace folder when none is named: WORKBENCH_HOME, else ~/lora-workbench."""
    named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    return expanded(named or "~/lora-workbench")


def open_workspace(root: str | Path | None = None) -> Workspace:
    """Open a workspace and make its folders. Raises WorkspaceError when it cannot be written."""
    path = (expanded(str(root)) if root else default_root()).absolute()
    workspace = Workspace(path)
    try:
        for room in _ROOMS:
            (path / room).mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        raise WorkspaceError(
            f"The workspace {str(path)!r:.300} cannot be written",
            getattr(error, "strerror", None) or str(error),
            "choose another folder with --workspace, or give yourself the right to write there",
        ) from None
    return workspace


def safe_name(name: str, fallback: str = "unnamed") -> str:
    """Return a harmless file name for any text: one path part, no controls, no device name, no leading dash or dot."""
    text = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    kept = "".join(c if c.isalnum() or c in "._- ()+" else "_" for c in text if unicodedata.category(c)[0] != "C")
    kept = kept.strip(" .").lstrip("-. ")
    stem, dot, ending = kept.rpartition(".")
    if len(kept) > _LONGEST_NAME:
        kept = (stem or ending)[: _LONGEST_NAME - 12] + (dot + ending[:10] if stem else "")
    if kept.split(".")[0].strip().lower() in _RESERVED:
        kept = "_" + kept
    return kept or fallback


def user_path(text: str) -> Path:
    """Return the path that a person typed on the command line. Raises WorkspaceError for URLs and network shares."""
    if "://" in text or text.startswith(("\\\\", "//")) or "\0" in text:
        raise WorkspaceError(
            keyed("is_not_a_local_path", "{text} is not a local path", text=f"{text!r:.120}"),
            keyed("addresses_are_not_opened", "addresses are not opened"),
            keyed("name_a_file_or_folder_on", "name a file or folder on this machine"),
        )
    if not text.strip():
        raise WorkspaceError(
            keyed("the_name_of_a_file_or", "The name of a file or folder is empty"),
            "",
            keyed("name_a_file_or_folder_on", "name a file or folder on this machine"),
        )
    path = expanded(text).absolute()
    name = os.fsencode(path) if _is_encodable(path) else b""
    if not name or len(name) > _LONGEST_PATH or any(len(part) > _LONGEST_PART for part in name.split(b"/")):
        why = "no file can have this name: it is too long" if name else "no file can have this name"
        raise WorkspaceError(
            keyed("is_not_a_local_path", "{text} is not a local path", text=f"{text!r:.120}"),
            why,
            keyed("check_the_name", "check the name"),
        )
    return path


def expanded(text: str) -> Path:
    """Return a path with `~` resolved. Raises WorkspaceError where there is no such home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise WorkspaceError(
            f"{text!r:.120} names a home folder that is not there",
            "this user has none, by HOME or by the system's list",
            "set HOME, or name the whole path (--workspace DIR for the workspace)",
        ) from None


def _is_encodable(path: Path) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a character, as a form can hold it
        return False
    return True


def existing_file(text: str, what: str = "file") -> Path:
    """Return an existing file that a person named. Raises WorkspaceError when it is missing or a folder."""
    path = user_path(text)
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        why = "it is a folder" if path.is_dir() else "it is no file" if path.exists() else "there is no such file"
        raise WorkspaceError(
            keyed("the_cannot_be_read", "The {what} {path} cannot be read", what=what, path=path),
            why,
            keyed("check_the_name", "check the name"),
        )
    return path


def existing_source(text: str) -> Path:
    """Return an existing data file, or a folder of data files. Raises WorkspaceError when it is missing."""
    path = user_path(text)
    return path if path.is_dir() else existing_file(text, "data file")


def source_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files of a folder."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    named = "".join(f"{one.relative_to(path).as_posix()}\0{file_sha256(one)}\n" for one in files)
    return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
