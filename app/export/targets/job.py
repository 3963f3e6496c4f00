"""The export's child: merge where it is needed, write, prove, look through, move into place."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.errors import WorkbenchError
from app.export.adapters.folder import base_name, pack_adapter, pack_model, read_receipt
from app.export.gguf.adapter import write_adapter
from app.export.gguf.architecture.families import family_of
from app.export.gguf.quantization.formats import FORMATS
from app.export.merge.base_model import BaseModel, base_place, named_base
from app.export.merge.job import Merge, Stopped, allowed_memory
from app.export.merge.report import RECEIPT
from app.export.requests import ExportAnswer, ExportRequest, MergeRequest, ollama_name
from app.export.staging import Staging, check_disk, opened
from app.export.targets import gguf_file, nf4_folder, ollama, vllm
from app.export.targets.base_fit import fit_of
from app.export.targets.ollama_api import Ollama
from app.export.targets.report import ExportReceipt
from app.export.targets.turn_format import Turns, read_turns
from app.jobs.child import JobChild, Outcome, Result
from app.models.adapters import AdapterFolder
from app.models.loading import load_config
from app.models.names import resolve
from app.reading import read_object
from app.runs.on_disk.exports import is_zip
from app.workspace import safe_name

# What stands above a model of one's own in LM Studio's folder of models (lmstudio.ai/docs/app/advanced/import-model).
PUBLISHER = "lora-workbench"


def run(child: JobChild) -> tuple[Outcome, Result]:
    """Export, and return what `export --json` answers."""
    began = time.monotonic()
    request = child.request(ExportRequest)
    out = Path(request.out)
    try:
        server = Ollama.of(request.ollama) if request.create else None
        if server and not request.replace:
            server.refuse_taken(request.create)  # before an hour goes into the files
        with opened(out) as staging:
            export = _Export(child, request, staging)
            made = _MAKERS[request.to](export)
            files, size = [name.as_posix() for name in staging.files], staging.bytes
            child.progress(1, 1, "looking through the files")
            staging.look_through(export.secrets())
            staging.publish()
        if server and made.modelfile:
            made = _handed_over(server, export, made, made.modelfile)
    except Stopped:
        return "stopped", {}
    finally:
        shutil.rmtree(child.directory.path / "base", ignore_errors=True)
    if is_zip(out):
        files, size = [out.name], out.stat().st_size
    return "finished", _answer(request, made, files, size, time.monotonic() - began).as_dict()


@dataclass(frozen=True)
class _Made:
    """What a target came to: the line that runs it, the receipt where there is one, and for vLLM what it serves."""

    run: str
    receipt: ExportReceipt | None = None
    served: vllm.HandedOver | None = None
    gguf: gguf_file.Made | None = None
    modelfile: ollama.Modelfile | None = None
    answer: str | None = None
    # Why Ollama has no such model, though the files of it stand.
    refused: str | None = None


def _handed_over(server: Ollama, export: _Export, made: _Made, modelfile: ollama.Modelfile) -> _Made:
    """Let Ollama make the model. Where that fails the export stands all the same, with the line that makes it later."""
    try:
        return replace(made, answer=_created(server, export, modelfile))
    except (Stopped, WorkbenchError) as error:
        why = "it was stopped" if isinstance(error, Stopped) else str(error)
        return replace(made, run=ollama.command(export.unpacked, export.request.create), refused=why)


def _created(server: Ollama, export: _Export, modelfile: ollama.Modelfile) -> str:
    """Let Ollama make the model of the finished folder, and return its answer to a question."""
    request, out = export.request, export.staging.out
    named = (out / modelfile.weights).resolve()
    weights = sorted(named.glob("*.safetensors")) + sorted(named.glob("*.json")) if named.is_dir() else [named]
    files = {path.name: path for path in weights if path.name != RECEIPT}
    export.child.progress(0, 1, "creating in Ollama")
    server.create(request.create, files, modelfile.settings, replace=request.replace, pause=export.pause)
    return server.ask(request.create)


def _answer(request: ExportRequest, made: _Made, files: list[str], size: int, seconds: float) -> ExportAnswer:
    receipt, gap = made.receipt, made.receipt.gap if made.receipt else None
    answer = ExportAnswer(
        out=request.out,
        to=request.to,
        files=files,
        bytes=size,
        receipt=str(Path(request.out) / RECEIPT) if RECEIPT in files else None,
        run=made.run,
        seconds=round(seconds, 3),
        command=made.served.command if made.served else None,
        max_lora_rank=made.served.max_lora_rank if made.served else None,
        verdict=receipt.verdict if receipt else None,
        notes=receipt.notes if receipt else None,
        reasons=receipt.all_reasons if receipt else None,
        greedy_agreement=gap.greedy_agreement if gap else None,
        mean_kl=gap.mean_kl if gap else None,
        max_logit_diff=gap.max_logit_diff if gap else None,
        created=None if made.refused else request.create or None,
        answer=made.answer,
        create_error=made.refused,
    )
    return answer if made.gguf is None else _with_file(answer, made.gguf, Path(request.out))


def _with_file(answer: ExportAnswer, made: gguf_file.Made, out: Path) -> ExportAnswer:
    """Add what is known of the GGUF file. A zip has it inside, and its own size counts."""
    place = next(Path(name) for name in [*answer.files, made.file.path.name] if name.endswith((".gguf", ".zip")))
    whole = out if is_zip(out) else out / place
    found = made.proof
    return replace(
        answer,
        path=str(whole),
        bytes=answer.bytes if is_zip(out) else made.bytes,
        dtype=made.dtype,
        agreement=found.agreement if found else None,
        mean_kl=found.mean_kl if found else None,
        tokens_per_s=found.tokens_per_s if found else None,
        tried=made.tried or None,
        rows=asdict(found.rows) if found and found.rows else None,
        suite=asdict(found.suite) if found and found.suite else None,
        memory=found.memory if found else None,
    )


@dataclass(frozen=True)
class _Export:
    """One export under way."""

    child: JobChild
    request: ExportRequest
    staging: Staging

    @property
    def name(self) -> str:
        """Return what the export is called: the name of its place."""
        return safe_name(self.staging.out.stem if is_zip(self.staging.out) else self.staging.out.name)

    @property
    def file_stem(self) -> str:
        """Return what its GGUF files are called: the name without blanks, which lines to run would have to quote."""
        return self.name.replace(" ", "-")

    @property
    def unpacked(self) -> Path:
        """Return the folder of the files that lines to run name; of a zip, where it is unpacked beside itself."""
        out = self.staging.out
        return out.with_suffix("") if is_zip(out) else out

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
        named = [
            self.request.adapter,
            self.request.model,
            str(self.staging.out.parent),
            str(jobs.parent),
            str(Path.home()),
        ]
        if self.request.adapter:
            named.append(str(Path(named_base(self.adapter, self.request.base)).expanduser()))
        # A folder right below the root, such as /tmp or /root, is a word that harmless texts may have.
        return sorted({place for place in named if Path(place).is_absolute() and len(Path(place).parts) > 2})

    @contextmanager
    def model(self, dtype: str | None) -> Iterator[tuple[BaseModel, ExportReceipt]]:
        """Give the model to write: the named one, or the adapter merged beside the export for as long as it lasts."""
        if self.request.to != "nf4" and not self.request.safetensors:
            self._refuse_unknown_family()
        if self.request.model:
            folder = Path(self.request.model)
            yield BaseModel(folder.name, folder), ExportReceipt(self.name, read_receipt(folder), _text_of(folder))
            return
        request, beside = self.request, self.staging.out.with_name(f"{self.staging.out.name}.merged")
        memory, insists = request.max_ram_bytes, request.dequantise
        wanted = MergeRequest(request.adapter, str(beside), memory, dtype, request.base, insists)
        merge = Merge.prepare(self.child, wanted)
        with opened(beside, merge.plan.digest, merge.plan.bytes) as merged:
            receipt = merge.write(merged, self.name)
            receipt.write(merged.folder)
            yield BaseModel(self.name, merged.folder), ExportReceipt(self.name, receipt.as_dict(), receipt.text())
        shutil.rmtree(merged.folder)

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


def _to_adapter(export: _Export) -> _Made:
    adapter, request = export.adapter, export.request
    adapter.refuse_changed_base()
    base = base_name(adapter, request.base)
    pack_adapter(export.staging, adapter, base, export.name, request.repo)
    # The line is for this machine, where the base may be a folder; the files call it by its public name.
    words = ["python3", "launch.py", "chat", "--model", named_base(adapter, request.base)]
    words += ["--adapter", f"{request.name}={export.unpacked}", "--prompt", "Hello"]
    return _Made(shlex.join(words))


def _to_hub(export: _Export) -> _Made:
    request = export.request
    if request.model:
        model = Path(request.model)
        check_disk(export.staging.folder, sum(path.stat().st_size for path in model.glob("*.safetensors")))
        pack_model(export.staging, model, export.name, request.repo, export.pause)
    else:
        adapter = export.adapter
        adapter.refuse_changed_base()
        pack_adapter(export.staging, adapter, base_name(adapter, request.base), export.name, request.repo)
    return _Made(shlex.join(["hf", "upload", request.repo or "OWNER/NAME", str(export.unpacked)]))


def _to_vllm(export: _Export) -> _Made:
    request = export.request
    base = resolve(named_base(export.adapter, request.base))
    served = vllm.hand_over(export.adapter, base, export.staging.folder, request.name)
    fit = fit_of(export.adapter, request.base)
    receipt = ExportReceipt(export.name, reasons=list(fit.doubts), untold=list(fit.untold))
    receipt.facts["vllm"] = {"adapter": export.adapter.hash, "max_lora_rank": served.max_lora_rank}
    receipt.lines.append("- The tensors are byte for byte those of the adapter")
    receipt.write(export.staging)
    return _Made(f"cd {shlex.quote(str(export.unpacked))} && {served.command}", receipt, served)


def _to_gguf(export: _Export) -> _Made:
    if export.request.lora_only:
        return _adapter_to_gguf(export)
    with export.model(FORMATS[export.request.dtype].merged) as (model, receipt):
        made = _maker(export, model, read_turns(model.folder)).make(receipt)
        _add_licence(export.staging, model)
    receipt.write(export.staging)
    run = ["llama-cli", "-m", str(export.unpacked / made.file.path.name), "-cnv", "--jinja"]
    return _Made(shlex.join(run), receipt, gguf=made)


def _to_lmstudio(export: _Export) -> _Made:
    """Lay the file out as LM Studio keeps models: PUBLISHER/MODEL/FILE.gguf below its folder of models."""
    name = export.file_stem
    with export.model(FORMATS[export.request.dtype].merged) as (model, receipt):
        maker = replace(
            _maker(export, model, read_turns(model.folder)), folder=export.staging.folder / PUBLISHER / name
        )
        maker.folder.mkdir(parents=True)
        made = maker.make(receipt)
        _add_licence(export.staging, model)
    receipt.write(export.staging)
    return _Made(f"cp -r {shlex.quote(str(export.unpacked / PUBLISHER))} ~/.lmstudio/models/", receipt, gguf=made)


def _adapter_to_gguf(export: _Export) -> _Made:
    adapter = export.adapter
    _, base = base_place(adapter, export.request.base)
    path = export.staging.folder / f"{export.file_stem}-lora-f32.gguf"
    receipt = ExportReceipt(export.name)
    gguf_file.note_file(
        receipt, write_adapter(adapter, load_config(str(base)), path, name=export.name, pause=export.pause), "f32"
    )
    receipt.write(export.staging)
    run = ["llama-cli", "-m", "BASE.gguf", "--lora", str(export.unpacked / path.name), "-cnv", "--jinja"]
    return _Made(shlex.join(run), receipt)


def _to_ollama(export: _Export) -> _Made:
    request, staging, file = export.request, export.staging, None
    with export.model(None if request.safetensors else FORMATS[request.dtype].merged) as (model, receipt):
        turns = read_turns(model.folder)
        if not request.safetensors:
            file = _maker(export, model, turns).make(receipt)
        text = model.config.get_text_config(decoder=True)
        weights = f"./{file.file.path.name}" if file else "."
        made = ollama.write_modelfile(weights, turns, text.max_position_embeddings, _generation(model.folder))
        staging.add_text("Modelfile", made.text)
        if file is None:
            check_disk(staging.folder, model.bytes)
            pack_model(staging, model.folder, export.name, pause=export.pause, limits=made.lost)
        _add_licence(staging, model)
    receipt.facts["ollama"] = {"compared_conversations": made.compared, "template_equal": True}
    receipt.lines.append(f"- Modelfile: the template writes the same prompts on {made.compared} conversations")
    receipt.notes += made.notes
    receipt.reasons += made.lost
    receipt.write(staging)
    run = ollama.command(export.unpacked, ollama_name(export.name))
    run = f"ollama run {request.create}" if request.create else run
    return _Made(run, receipt, gguf=file, modelfile=made)


def _to_nf4(export: _Export) -> _Made:
    with export.model("bf16") as (model, receipt):
        export.child.progress(0, 1, "storing in 4 bits")
        memory = allowed_memory(export.request.max_ram_bytes)
        nf4_folder.write(model, export.staging, receipt, memory, export.pause)
        _add_licence(export.staging, model)
    receipt.write(export.staging)
    code = f"from transformers import AutoModelForCausalLM as M; M.from_pretrained({str(export.unpacked)!r})"
    return _Made(shlex.join(["python3", "-c", code]), receipt)


def _maker(export: _Export, model: BaseModel, turns: Turns) -> gguf_file.Maker:
    staging = export.staging
    return gguf_file.Maker(
        export.request, model, turns, staging.folder, export.file_stem, staging.out, export.pause, export.progress
    )


def _generation(folder: Path) -> Mapping[str, object]:
    try:
        return read_object(folder / "generation_config.json")
    except (OSError, ValueError):
        return {}


def _add_licence(staging: Staging, model: BaseModel) -> None:
    for path in sorted(model.folder.glob("LICENSE*")):
        if path.is_file():
            staging.add(path)


_MAKERS = {
    "adapter": _to_adapter,
    "gguf": _to_gguf,
    "ollama": _to_ollama,
    "lmstudio": _to_lmstudio,
    "vllm": _to_vllm,
    "hub": _to_hub,
    "nf4": _to_nf4,
}
