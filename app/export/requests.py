"""What the page and the command line ask of the export room. Free of heavy imports."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from app.errors import ExportError, UsageError, keyed
from app.evaluation.suites import read_suite
from app.export.adapter_kinds import (
    refuse_for_blend,
    refuse_for_inspection,
    refuse_for_llama_cpp,
    refuse_for_vllm,
    refuse_unmergeable,
)
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, AdapterHeader, is_model
from app.outputs import refuse_inputs, refuse_unmakeable
from app.reading import parsed_as, parsed_json, read_object
from app.runs.on_disk import exports
from app.runs.on_disk.exports import GGUF_TARGETS
from app.workspace import Workspace, existing_file, existing_source

# A merge is a job of its own.
TARGETS = tuple(target for target in exports.TARGETS if target != "model")
# From the largest file to the smallest; what is smaller than q8_0 takes llama.cpp's quantiser.
GGUF_DTYPES = ("f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "iq4_xs", "q3_k_m", "q2_k")
# Optional namespace and tag, as Ollama reads them.
OLLAMA_NAME = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,79}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,79}(:[A-Za-z0-9][A-Za-z0-9._-]{0,79})?"
)
# Bytes of a name: a file system takes 255, and what is written beside an export adds up to 24 (".merged.merging").
_LONGEST_NAME = 230
_NOT_IN_OLLAMA = re.compile(r"[^a-z0-9._]+")
# What a model is asked once Ollama has made it.
OLLAMA_QUESTION = "Who are you?"
METHODS = ("linear", "cat", "svd", "ties", "dare")
INSPECTION_FILE = "inspection.json"
_ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE)


def ollama_name(text: str) -> str:
    """Return what an export of any name is called in Ollama, which takes ASCII alone, where nobody says."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    name = _NOT_IN_OLLAMA.sub("-", plain).strip("-._")[:80].rstrip("-._")
    return name or f"model-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class MergeRequest:
    """What a merge is asked for; it crosses to the child as plain data.

    dtype: bf16, fp16 or fp32 change the number format, None keeps the base's. base: the base model, where the adapter's
    own note is not right. dequantise: take a base that is stored in 4 bits, against advice.
    """

    adapter: str
    out: str
    max_ram_bytes: int | None = None
    dtype: str | None = None
    base: str | None = None
    dequantise: bool = False


@dataclass(frozen=True)
class MergeAnswer:
    """What `merge --json` answers; figures that were not measured are None."""

    model: str
    receipt: str
    verdict: str
    greedy_agreement: float | None
    mean_kl: float | None
    max_logit_diff: float | None
    peak_rss_bytes: int
    seconds: float
    base_mean_kl: float | None = None
    reasons: list[str] = field(default_factory=list)


def start_merge(workspace: Workspace, request: MergeRequest) -> JobDirectory:
    """Hand in a merge and return its job at once.

    Raises ExportError when `out` exists or `adapter` is no adapter folder.
    """
    adapter, out = _absolute(request.adapter), _absolute(request.out)
    refuse_unmergeable(_checked_adapter(adapter))
    _check_out(workspace, out, [adapter, *_local(request.base)])
    request = replace(request, adapter=str(adapter), out=str(out))
    return jobs.submit(workspace, "merge", asdict(request), name=f"merge: {out.name}")


# What serves for a model where an export is for adapters alone.
_FOR_MODELS = {
    "adapter": "give --adapter DIR, or pack the model with --to hub",
    "vllm": "give --adapter DIR; vLLM takes a model's folder as it is: vllm serve DIR",
}


@dataclass(frozen=True)
class ExportRequest:
    """What an export is asked for; it crosses to the child as plain data.

    adapter or model: the folder to take away. base: the base model, where the adapter's own note is not right.
    dtype: one of GGUF_DTYPES, for GGUF files. lora_only: write the adapter alone as GGUF. safetensors: give Ollama the
    merged weights as they are. name: what the adapter is called in requests. repo: a hub
    repository for the card. dequantise: merge into a base that is stored in 4 bits, against advice. imatrix: a file of
    rows by which the columns of small formats are weighed. smallest: a bound such as agreement=0.97 (see Bound); the
    smallest format that is within it is found, and `dtype` is not looked at. rows: a file of held-out rows that every
    file is read with; without it the rows that the adapter's run kept back. suite: a file of prompts with what good
    answers hold. create: the name under which Ollama shall make the model; replace: also where it has one of that name;
    ollama: its address, empty for OLLAMA_HOST's or the usual one.
    """

    to: str
    out: str
    adapter: str = ""
    model: str = ""
    base: str | None = None
    dtype: str = "f16"
    lora_only: bool = False
    safetensors: bool = False
    name: str = "adapter"
    repo: str = ""
    max_ram_bytes: int | None = None
    dequantise: bool = False
    imatrix: str = ""
    smallest: str = ""
    rows: str = ""
    suite: str = ""
    create: str = ""
    replace: bool = False
    ollama: str = ""

    def __post_init__(self) -> None:
        """Refuse what does not fit together. Raises UsageError."""
        for option in ("imatrix", "smallest", "rows", "suite"):
            if getattr(self, option) and (self.to not in GGUF_TARGETS or self.lora_only or self.safetensors):
                raise UsageError(f"--{option} is for GGUF files", "", f"use it with --to {' or '.join(GGUF_TARGETS)}")
        if self.smallest and Bound.of(self.smallest).needs_suite and not self.suite:
            raise UsageError("A bound on a suite takes a suite", "", "name its file with --suite")
        if self.to not in TARGETS:
            raise UsageError(f"{self.to!r:.40} is no export", f"there are {', '.join(TARGETS)}", "choose one of them")
        if self.dtype not in GGUF_DTYPES:
            raise UsageError(f"GGUF has no {self.dtype!r:.40} here", f"there are {', '.join(GGUF_DTYPES)}", "")
        if bool(self.adapter) == bool(self.model):
            raise UsageError("An export takes one adapter or one model", "", "give either --adapter or --model")
        if self.model and (self.to in ("adapter", "vllm") or self.lora_only):
            what = f"{Path(self.model).name!r:.80} is a model, and this export is for an adapter alone"
            raise UsageError(what, "", _FOR_MODELS.get(self.to, "give --adapter DIR"))
        if self.lora_only and self.to != "gguf":
            raise UsageError("--lora-only writes a GGUF file", "", "use it with --to gguf")
        for option in ("safetensors", "create"):
            if getattr(self, option) and self.to != "ollama":
                raise UsageError(f"--{option} is for Ollama", "", "use it with --to ollama")
        if self.create and not OLLAMA_NAME.fullmatch(self.create):
            raise UsageError(f"{self.create!r:.80} is no name for Ollama", "", "use letters, digits, - . _ and :")
        if self.create and exports.is_zip(Path(self.out)):
            raise UsageError("Ollama takes no zip", "", "leave .zip out of --out")
        if self.repo and exports.is_zip(Path(self.out)):
            raise UsageError("The hub takes a folder, not a zip", "", "leave .zip out of --out")
        if self.replace and not self.create:
            raise UsageError("--replace is for --create", "", "name the model with --create")


# What a bound may be set on, with the largest number that makes sense.
_MEASURES = {"agreement": 1.0, "kl": 100.0, "suite": 1.0}


@dataclass(frozen=True)
class Bound:
    """How far a file may be from the 16-bit model: limits by measure, all of which must hold.

    `agreement=0.97` at least, `kl=0.02` (nats) at most, `suite=0.9` of a suite's prompts passed at least.
    """

    limits: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, text: str) -> Bound:
        """Read a bound such as agreement=0.97, or several with commas between. Raises UsageError."""
        limits = []
        for part in text.split(","):
            measure, _, limit = part.partition("=")
            try:
                number = float(limit)
            except ValueError:
                number = -1.0
            if not 0 <= number <= _MEASURES.get(measure.strip(), -1.0):
                why = "agreement and suite are shares from 0 to 1, kl is a number of nats"
                raise UsageError(f"{text!r:.60} is no bound", why, "write agreement=0.97, kl=0.02 or suite=0.9")
            limits.append((measure.strip(), number))
        return cls(tuple(limits))

    @property
    def text(self) -> str:
        """Return the bound as it was written."""
        return ",".join(f"{measure}={limit:g}" for measure, limit in self.limits)

    @property
    def needs_suite(self) -> bool:
        """Tell whether a suite must be answered."""
        return any(measure == "suite" for measure, _ in self.limits)

    def holds(self, agreement: float, mean_kl: float, suite: float | None = None) -> bool:
        """Tell whether a file is within the bound; a suite that was not judged is not passed."""
        found = {"agreement": agreement, "kl": -mean_kl, "suite": -1.0 if suite is None else suite}
        return all(found[measure] >= (-limit if measure == "kl" else limit) for measure, limit in self.limits)


@dataclass(frozen=True)
class Tried:
    """A format that was tried on the way to the smallest: the file's size, how it answered, and whether it passed.

    suite: the share of the suite's prompts that it passed, None without one.
    """

    dtype: str
    bytes: int
    agreement: float
    mean_kl: float
    passed: bool
    suite: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ExportAnswer:
    """What `export --json` answers.

    Of a GGUF file: path, dtype, and beside the 16-bit model in llama.cpp agreement, mean_kl and tokens_per_s, which are
    null where they were not measured; `tried` are the formats tried for --smallest; bytes is the file's size. rows and
    suite: how it reads held-out rows and answers a suite, where there are any; memory: bytes by context.
    created and answer: the model that Ollama made, and its answer to a question. create_error: why it made none, though
    the files stand; `run` is then the line that has it made.

    receipt: None where none was written. run: the line that runs the outcome. command and max_lora_rank: for vLLM.
    verdict, notes and reasons: the receipt's. The last three figures: the merge's, where one was measured. What is None
    is left out of the answer, the receipt excepted.
    """

    out: str
    to: str
    files: list[str]
    bytes: int
    receipt: str | None
    run: str
    seconds: float
    command: str | None = None
    max_lora_rank: int | None = None
    verdict: str | None = None
    notes: list[str] | None = None
    reasons: list[str] | None = None
    greedy_agreement: float | None = None
    mean_kl: float | None = None
    max_logit_diff: float | None = None
    path: str | None = None
    dtype: str | None = None
    agreement: float | None = None
    tokens_per_s: float | None = None
    tried: list[Tried] | None = None
    rows: dict[str, float] | None = None
    suite: dict[str, float] | None = None
    memory: dict[str, int] | None = None
    created: str | None = None
    answer: str | None = None
    create_error: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        always = ("receipt", "agreement", "mean_kl", "tokens_per_s") if self.path else ("receipt",)
        return {name: value for name, value in asdict(self).items() if value is not None or name in always}


def start_export(workspace: Workspace, request: ExportRequest) -> JobDirectory:
    """Hand in an export and return its job at once.

    Raises ExportError when its place is taken or the source is not what it should be, WorkspaceError where a file of
    rows or prompts is missing, UsageError for a suite that is none.
    """
    if request.adapter:
        _refuse_kind(request, _checked_adapter(Path(request.adapter)))
    elif not (Path(request.model) / "config.json").is_file():
        raise ExportError(
            keyed("is_not_a_model_folder", "{model} is not a model folder", model=request.model),
            keyed("it_has_no_config_json", "it has no config.json"),
            keyed("name_a_merged_model", "name a merged model"),
        )
    _refuse_encoder(request)
    for source in (request.imatrix, request.rows):
        if source:
            existing_source(source)
    if request.suite:
        _check_suite(request)
    out = Path(request.out)
    _check_out(workspace, out, [Path(request.adapter or request.model), *_local(request.base)])
    return jobs.submit(workspace, "export", asdict(request), name=f"{request.to}: {out.name}")


# Exports to programs that run decoders alone: llama.cpp's servers, and vLLM since its second engine.
_FOR_DECODERS = (*GGUF_TARGETS, "vllm", "nf4")


def _refuse_encoder(request: ExportRequest) -> None:
    """Refuse to take an encoder with a decoder (T5, BART) to a program that has none. Raises ExportError."""
    if request.to not in _FOR_DECODERS:
        return
    folder = Path(request.adapter or request.model)
    name = CONFIG_FILE if request.adapter else "config.json"
    try:
        found = read_object(folder / name)
    except (OSError, ValueError):  # said with its reason by the export itself
        return
    if found.get("task_type") == "SEQ_2_SEQ_LM" or found.get("is_encoder_decoder") is True:
        raise ExportError(
            keyed("is_an_encoder_decoder", "{folder} cannot go to {to}", folder=folder.name, to=request.to),
            keyed("runs_decoders_alone", "its base is an encoder with a decoder, which is not offered there"),
            keyed("merge_it_and_use_transformers", "merge it, and run it with transformers"),
        )


@dataclass(frozen=True)
class WeightedAdapter:
    """An adapter folder and how much of it goes into a blend."""

    dir: str
    weight: float = 1.0


@dataclass(frozen=True)
class BlendRequest:
    """What a blend is asked for; it crosses to the child as plain data.

    rank: None leaves it to the method. density: the share of entries that ties and dare keep, None for half. run: the
    training job on whose base the result stands.
    """

    adapters: list[WeightedAdapter]
    out: str
    method: str = "linear"
    rank: int | None = None
    density: float | None = None
    seed: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        """Refuse wrong settings. Raises UsageError."""
        if self.method not in METHODS:
            why = f"there are {', '.join(METHODS)}"
            raise UsageError(f"{self.method!r} is no way to blend", why, "choose one of them")
        if self.rank is not None and self.rank < 1:
            what = f"The rank {self.rank} cannot be used"
            raise UsageError(
                what,
                keyed("a_rank_is_at_least_1", "a rank is at least 1"),
                "leave --rank out",
                on_page=keyed("set_it_to_0", "set it to 0"),
            )
        if self.density is not None and not 0 < self.density <= 1:
            what = f"The density {self.density} cannot be used"
            raise UsageError(
                what, keyed("it_is_a_share_above_0", "it is a share above 0 and up to 1"), keyed("use_0_5", "use 0.5")
            )


@dataclass(frozen=True)
class BlendAnswer:
    """What `blend --json` answers."""

    adapter: str
    rank: int
    max_abs_error: float
    verdict: str


def start_blend(workspace: Workspace, request: BlendRequest) -> JobDirectory:
    """Hand in a blend and return its job at once. Raises ExportError when `out` exists or an adapter is none."""
    out = _absolute(request.out)
    parts = [replace(part, dir=str(_absolute(part.dir))) for part in request.adapters]
    for part in parts:
        refuse_for_blend(_checked_adapter(Path(part.dir)))
    _check_out(workspace, out, [Path(part.dir) for part in parts])
    request = replace(request, adapters=parts, out=str(out))
    return jobs.submit(workspace, "blend", asdict(request), name=f"blend: {out.name}")


@dataclass(frozen=True)
class InspectRequest:
    """What an inspection is asked for: the adapter's folder, and its base where the adapter's own note is not right."""

    adapter: str
    base: str | None = None


@dataclass(frozen=True)
class InspectAnswer:
    """The figures of a whole adapter. `largest_relative` is None where the base's weights are not known."""

    layers: int
    rank: int
    kept_rank: int
    largest_relative: float | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LayerFigures:
    """One layer's update. `relative` is its Frobenius norm over the weight's; None where the weight is not known.

    values: the singular values, largest first. The last two: what 4-bit storage loses of the weight, relative.
    """

    module: str
    rank: int
    norm: float
    values: list[float]
    effective_rank: float
    kept_rank: int
    relative: float | None = None
    nf4_error: float | None = None
    int4_error: float | None = None


@dataclass(frozen=True)
class Inspection:
    """The content of inspection.json. `kept_share` is what the kept ranks keep of an update's squared size."""

    adapter_hash: str = ""
    kept_share: float = 0.0
    notes: list[str] = field(default_factory=list)
    layers: list[LayerFigures] = field(default_factory=list)


def read_inspection(job: JobDirectory) -> Inspection | None:
    """Return what an inspection found, None before its end."""
    try:
        return parsed_as(Inspection, parsed_json((job.result / INSPECTION_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def start_inspect(workspace: Workspace, request: InspectRequest) -> JobDirectory:
    """Hand in an inspection of an adapter and return its job at once. Raises ExportError when it is no adapter."""
    adapter = _absolute(request.adapter)
    refuse_for_inspection(_checked_adapter(adapter))
    request = replace(request, adapter=str(adapter))
    return jobs.submit(workspace, "inspect", asdict(request), name=f"inspect: {adapter.name}")


Answer = TypeVar("Answer", MergeAnswer, ExportAnswer, BlendAnswer, InspectAnswer)


def wait_for_answer(job: JobDirectory, kind: type[Answer]) -> Answer:
    """Wait for a job of this package and return what it answers. Raises ExportError when it failed or was stopped."""
    status = jobs.wait(job)
    if status.state != "finished":
        what = job.job["kind"]
        raise ExportError(
            keyed("the_did_not_finish", "The {what} did not finish", what=what),
            status.reason or status.state,
            keyed("see_the_log_of", "see the log of {id}", id=job.id),
        )
    try:
        return parsed_as(kind, status.result)
    except ValueError:
        raise ExportError(f"The answer of {job.id} is damaged", "its status.json holds another", "") from None


def _absolute(folder: str) -> Path:
    return Path(folder).expanduser().absolute()


def _check_suite(request: ExportRequest) -> None:
    """Raise WorkspaceError or UsageError for a suite that is missing, or holds nothing that a bound can be set on."""
    items = read_suite(existing_file(request.suite, "suite"))
    if request.smallest and Bound.of(request.smallest).needs_suite and not any(item.expect for item in items):
        why = f"{Path(request.suite).name} says of no prompt what a good answer holds"
        raise UsageError("A bound on a suite takes answers to judge", why, "write `prompt => words`, one a line")


def _refuse_kind(request: ExportRequest, adapter: AdapterHeader) -> None:
    """Raise ExportError or ModelError for an adapter of a kind that cannot go where it shall."""
    if request.to == "vllm":
        refuse_for_vllm(adapter)
    elif request.lora_only:
        refuse_for_llama_cpp(adapter)
    elif request.to in ("adapter", "hub"):
        adapter.refuse_changed_base()
    else:
        refuse_unmergeable(adapter)


def _checked_adapter(folder: Path) -> AdapterHeader:
    """Return an adapter. Raises ExportError for what is none, ModelError for one that is damaged."""
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing and (folder / "adapter_model.bin").is_file():
        why = "its weights are a pickle, and a pickle can run code"
        raise ExportError(
            keyed("cannot_be_used", "{folder} cannot be used", folder=folder),
            why,
            keyed("convert_them_to_safetensors_first", "convert them to safetensors first"),
        )
    if missing and is_model(folder):
        raise ExportError(
            keyed("is_not_an_adapter_folder", "{folder} is not an adapter folder", folder=folder),
            keyed("it_is_a_whole_model", "it is a whole model"),
            "`export` takes it with --model",
            on_page=keyed("choose_another", "choose another"),
        )
    if missing:
        near = next((one for one in (folder / "adapter", folder / "result" / "adapter") if _is_adapter(one)), None)
        raise ExportError(
            keyed("is_not_an_adapter_folder", "{folder} is not an adapter folder", folder=folder),
            keyed("it_has_no", "it has no {missing}", missing=missing[0]),
            f"name {near}" if near else keyed("name_result_adapter", "name result/adapter"),
        )
    adapter = AdapterHeader(folder)
    adapter.refuse_damaged()
    return adapter


def _is_adapter(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _ADAPTER_FILES)


def _check_out(workspace: Workspace, out: Path, inputs: Sequence[Path]) -> None:
    if len(os.fsencode(out.name)) > _LONGEST_NAME:
        raise ExportError(
            keyed("the_name_of_the_export_is_too_long", "The name {name} is too long", name=f"{out.name[:20]}…"),
            keyed("files_beside_it_add_to_it", "files that are written beside it add to its name"),
            keyed("choose_a_shorter_name", "choose a shorter name"),
        )
    if out.exists() or out.is_symlink():
        raise ExportError(
            keyed("exists", "{out} exists", out=out),
            keyed("an_export_is_never_overwritten", "an export is never overwritten"),
            keyed("choose_another_folder_or_remove_it", "choose another folder or remove it"),
        )
    refuse_inputs(out, inputs)
    refuse_unmakeable(out)
    writer = exports.being_written(workspace).get(out)
    if writer is not None:
        raise ExportError(
            keyed("another_export_is_writing", "Another export is writing {a}", a=out),
            keyed("by_the_job", "by the job {id}", id=writer.id),
            keyed("wait_for_it_or_stop_it", "wait for it, or stop it"),
        )


def _local(base: str | None) -> list[Path]:
    """Return the folder of a base that is named by one."""
    return [Path(base)] if base and Path(base).is_dir() else []
