"""What the cards hand in: a merge or an export of the chosen adapter or model into the workspace's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from app.export.requests import GGUF_DTYPES, Bound, ExportRequest, MergeRequest, start_export, start_merge
from app.hub import push
from app.jobs.directory import JobDirectory
from app.runs.on_disk import exports
from app.runs.on_disk.exports import SMALLEST
from app.ui.components.handlers import Control
from app.workspace import Workspace

USUAL_BOUND = "agreement=0.97"


@dataclass(frozen=True)
class FileChoice:
    """The chosen format of GGUF files: one of GGUF_DTYPES, or SMALLEST with the bound that it must hold."""

    dtype: str = GGUF_DTYPES[0]
    bound: str = USUAL_BOUND

    @property
    def smallest(self) -> str:
        """Return the bound where the smallest file is looked for, else nothing. Raises UsageError for what is none."""
        return Bound.of(self.bound).text if self.dtype == SMALLEST else ""


USUAL = FileChoice()


@dataclass(frozen=True)
class FileFields:
    """The two controls of it."""

    dtype: gr.Dropdown
    bound: gr.Textbox

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.dtype, self.bound]

    def read(self, values: Sequence[object]) -> FileChoice:
        """Return the choice; what a browser may not send is the usual one."""
        dtype, bound = values
        known = dtype if isinstance(dtype, str) and dtype in (*GGUF_DTYPES, SMALLEST) else GGUF_DTYPES[0]
        return FileChoice(known, str(bound or "").strip() or USUAL_BOUND)


def make(
    workspace: Workspace,
    value: object,
    target: str,
    file: FileChoice = USUAL,
    *,
    create: str = "",
    replace: bool = False,
    ollama: str = "",
    repo: str = "",
) -> JobDirectory:
    """Hand in the job behind a card, into the workspace's outputs. Raises WorkbenchError.

    create, replace, ollama: the model that Ollama makes of it, and Ollama's address. repo: the hub repository that the
    model card names.
    """
    source = exports.find(workspace, value)
    out = exports.free_place(workspace, source, target)
    if target == "model":
        return start_merge(workspace, MergeRequest(str(source.folder), str(out)))
    folder = str(source.folder.absolute())
    adapter, model = (folder, "") if source.artifact else ("", folder)
    is_file = target in exports.GGUF_TARGETS
    request = ExportRequest(
        target,
        str(out),
        adapter=adapter,
        model=model,
        dtype=GGUF_DTYPES[0] if file.dtype == SMALLEST else file.dtype,
        name=source.stem,
        smallest=file.smallest if is_file else "",
        create=create,
        replace=replace,
        ollama=ollama,
        repo=push.checked(repo) if repo else "",
    )
    return start_export(workspace, request)
