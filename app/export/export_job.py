"""The export's child: merge where it is needed, write, prove, look through, move into place."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.export import ollama, parcel, vllm
from app.export.adapter_folder import base_name, pack_adapter, pack_model, read_receipt
from app.export.base_model import BaseModel, base_place, named_base
from app.export.export_receipt import ExportReceipt
from app.export.folder import check_disk, draft_path, opened
from app.export.gguf.adapter import write_adapter
from app.export.gguf.families import family_of
from app.export.gguf.formats import FORMATS
from app.export.gguf.model import GgufFile, write_model
from app.export.merge_job import Merge, Stopped, allowed_memory
from app.export.parcel import Parcel
from app.export.receipt import RECEIPT
from app.export.requests import ExportRequest
from app.export.turns import Turns, read_turns
from app.jobs.child import JobChild, Outcome
from app.models.adapters import AdapterFolder
from app.models.loading import load_config
from app.models.names import resolve
from app.workspace import safe_name


def run(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Export, and return what `export --json` answers."""
    began = time.monotonic()
    request = ExportRequest(**child.config)
    out = Path(request.out)
    try:
        with parcel.opened(out) as box:
            export = _Export(child, request, box)
            answer = _MAKERS[request.to](export)
            files, size = [name.as_posix() for name in box.files], box.bytes
            child.progress(1, 1, "looking through the files")
            box.publish(export.secrets())
    except Stopped:
        return "stopped", {}
    finally:
        shutil.rmtree(child.directory.path / "base", ignore_errors=True)
    inside = out.suffix != ".zip"
    return "finished", {
        "out": str(out),
        "to": request.to,
        "files": files if inside else [out.name],
        "bytes": size if inside else out.stat().st_size,
        "receipt": str(out / RECEIPT) if inside and RECEIPT in files else None,
        **answer,
        "seconds": round(time.monotonic() - began, 3),
    }


@dataclass(frozen=True)
class _Export:
    """One export under way."""

    child: JobChild
    request: ExportRequest
    box: Parcel

    @property
    def name(self) -> str:
        """Return what the export is called: the name of its place."""
        return safe_name(self.box.out.stem if self.box.out.suffix == ".zip" else self.box.out.name)

    @property
    def adapter(self) -> AdapterFolder:
        """Return the adapter to take away."""
        return AdapterFolder(Path(self.request.adapter))

    def pause(self) -> None:
        """Raise Stopped when the job shall end."""
        if self.child.stop_requested():
            raise Stopped

    def secrets(self) -> list[str]:
        """Return the folders of this machine that no file may name."""
        jobs = self.child.directory.path.parent
        named = [self.request.adapter, self.request.model, str(self.box.out.parent), str(jobs.parent), str(Path.home())]
        if self.request.adapter:
            named.append(str(Path(named_base(self.adapter, self.request.base)).expanduser()))
        # A folder right below the root, such as /tmp or /root, is a word that harmless texts may have.
        return sorted({place for place in named if Path(place).is_absolute() and len(Path(place).parts) > 2})

    @contextmanager
    def model(self, dtype: str | None) -> Iterator[tuple[BaseModel, ExportReceipt]]:
        """Give the model to write: the named one, or the adapter merged beside the export for as long as it lasts."""
        if self.request.to == "gguf" or not self.request.safetensors:
            self._refuse_unknown_family()
        if self.request.model:
            folder = Path(self.request.model)
            yield BaseModel(folder.name, folder), ExportReceipt(self.name, read_receipt(folder), _text_of(folder))
            return
        config = {**self.child.config, "dtype": dtype}
        merge = Merge.prepare(self.child, Path(self.request.adapter), config)
        beside = self.box.out.with_name(f"{self.box.out.name}.merged")
        with opened(beside, merge.plan) as draft:
            receipt = merge.write(draft, self.name)
            receipt.write(draft.path)
            yield BaseModel(self.name, draft.path), ExportReceipt(self.name, receipt.as_dict(), receipt.text())
        shutil.rmtree(draft_path(beside))

    def _refuse_unknown_family(self) -> None:
        """Raise ExportError for a family that GGUF has no words for here, before an hour goes into its merge."""
        request = self.request
        folder = Path(request.model) if request.model else base_place(self.adapter, request.base)[1]
        family_of(load_config(str(folder)))

    def progress(self, done_bytes: int, all_bytes: int, phase: str) -> None:
        """Report in MiB."""
        self.child.progress(done_bytes >> 20, all_bytes >> 20, phase)


def _text_of(folder: Path) -> str:
    path = folder / "receipt.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _to_adapter(export: _Export) -> dict[str, Any]:
    adapter, request = export.adapter, export.request
    adapter.refuse_changed_base()
    base = base_name(adapter, request.base)
    pack_adapter(export.box, adapter, base, export.name, request.repo)
    folder = export.box.out if export.box.out.suffix != ".zip" else export.box.out.with_suffix("")
    # The line is for this machine, where the base may be a folder; the files call it by its public name.
    words = ["python3", "launch.py", "chat", "--model", named_base(adapter, request.base)]
    words += ["--adapter", f"{request.name}={folder}", "--prompt", "Hello"]
    return {"run": shlex.join(words)}


def _to_hub(export: _Export) -> dict[str, Any]:
    request = export.request
    if request.model:
        model = Path(request.model)
        check_disk(export.box.folder, sum(path.stat().st_size for path in model.glob("*.safetensors")))
        pack_model(export.box, model, export.name, request.repo, export.pause)
    else:
        adapter = export.adapter
        adapter.refuse_changed_base()
        pack_adapter(export.box, adapter, base_name(adapter, request.base), export.name, request.repo)
    return {"run": shlex.join(["hf", "upload", request.repo or "OWNER/NAME", str(export.box.out)])}


def _to_vllm(export: _Export) -> dict[str, Any]:
    request = export.request
    base = resolve(named_base(export.adapter, request.base))
    answer = vllm.hand_over(export.adapter, base, export.box.folder, request.name)
    return {**answer, "run": f"cd {shlex.quote(str(export.box.out))} && {answer['command']}"}


def _to_gguf(export: _Export) -> dict[str, Any]:
    if export.request.lora_only:
        return _adapter_to_gguf(export)
    with export.model(FORMATS[export.request.dtype].merged) as (model, receipt):
        file = _write_gguf(export, model, read_turns(model.folder), receipt)
        _add_licence(export.box, model)
    receipt.write(export.box)
    run = ["llama-cli", "-m", str(export.box.out / file.path.name), "-cnv", "--jinja"]
    return {"run": shlex.join(run), **receipt.answer()}


def _adapter_to_gguf(export: _Export) -> dict[str, Any]:
    adapter = export.adapter
    _, base = base_place(adapter, export.request.base)
    path = export.box.folder / f"{export.name}-lora-f32.gguf"
    receipt = ExportReceipt(export.name)
    _note(receipt, write_adapter(adapter, load_config(str(base)), path, name=export.name, pause=export.pause), "f32")
    receipt.write(export.box)
    run = ["llama-cli", "-m", "BASE.gguf", "--lora", str(export.box.out / path.name), "-cnv", "--jinja"]
    return {"run": shlex.join(run), **receipt.answer()}


def _to_ollama(export: _Export) -> dict[str, Any]:
    request, box = export.request, export.box
    with export.model(None if request.safetensors else FORMATS[request.dtype].merged) as (model, receipt):
        turns = read_turns(model.folder)
        text = model.config.get_text_config(decoder=True)
        weights = "." if request.safetensors else f"./{_gguf_name(export)}"
        made = ollama.write_modelfile(weights, turns, text.max_position_embeddings, _generation(model.folder))
        box.add_text("Modelfile", made.text)
        if request.safetensors:
            check_disk(box.folder, model.bytes)
            pack_model(box, model.folder, export.name, pause=export.pause)
        else:
            _write_gguf(export, model, turns, receipt)
        _add_licence(box, model)
    receipt.facts["ollama"] = {"compared_conversations": made.compared, "template_equal": True}
    receipt.lines.append(f"- Modelfile: the template writes the same prompts on {made.compared} conversations")
    receipt.notes += made.notes
    receipt.write(box)
    run = ollama.command(box.out, safe_name(export.name).lower().replace(" ", "-"))
    return {"run": run, **receipt.answer()}


def _gguf_name(export: _Export) -> str:
    return f"{export.name}-{export.request.dtype}.gguf".replace(" ", "-")


def _write_gguf(export: _Export, model: BaseModel, turns: Turns, receipt: ExportReceipt) -> GgufFile:
    request, path = export.request, export.box.folder / _gguf_name(export)
    check_disk(export.box.folder, model.bytes)
    ram = allowed_memory(request.max_ram_bytes)
    file = write_model(
        model, turns, path, request.dtype, ram, name=export.name, pause=export.pause, progress=export.progress
    )
    _note(receipt, file, request.dtype)
    return file


def _note(receipt: ExportReceipt, file: GgufFile, dtype: str) -> None:
    """Put a file and what reading it back found onto the receipt."""
    written = file.written
    receipt.facts["gguf"] = {"file": file.path.name, "sha256": file.sha256, "dtype": dtype, **written.as_dict()}
    receipt.notes += file.notes
    receipt.lines.append(
        f"- `{file.path.name}` {file.sha256}: {written.tensors} tensors read back, largest difference from the merged "
        f"weights {written.max_abs_error:.2e}"
    )
    if not written.as_expected:
        receipt.reasons.append(f"{written.beyond_rounding} values are further off than {dtype} explains")


def _generation(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _add_licence(box: Parcel, model: BaseModel) -> None:
    for path in sorted(model.folder.glob("LICENSE*")):
        if path.is_file():
            box.add(path)


_MAKERS = {"adapter": _to_adapter, "gguf": _to_gguf, "ollama": _to_ollama, "vllm": _to_vllm, "hub": _to_hub}
