"""What can be taken away: the adapters of runs, and merged models; and the jobs that took them somewhere before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelError, UsageError, keyed
from app.files import folder_bytes
from app.hub.ids import is_local
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.reading import read_object
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.workspace import Workspace, safe_name

# The places that something can go to, in the order of the cards; `model` is the merge.
TARGETS = ("adapter", "model", "gguf", "ollama", "lmstudio", "nf4", "vllm", "hub")
_FOR_ADAPTERS = ("adapter", "model", "vllm")
_MODEL = re.compile(r"model:([a-z0-9][a-z0-9-]{0,79})")
# Jobs that write a place which a person names.
_WRITERS = ("merge", "export", "blend")
# The newest jobs are looked at; older ones are reached by the command line.
_MOST_JOBS = 60


# Those whose weights are a GGUF file.
GGUF_TARGETS = ("gguf", "ollama", "lmstudio")
# In place of a format: the formats are tried from the smallest on until one is within a bound.
SMALLEST = "smallest"
# Bits for each weight of a model of 8 billion in each format of fewer than 16 (llama.cpp, tools/quantize/README.md);
# a small model with a large vocabulary takes up to a fifth more.
_BITS = {
    "q8_0": 8.5,
    "q6_k": 6.56,
    "q5_k_m": 5.7,
    "q4_k_m": 4.89,
    "q4_k_s": 4.67,
    "iq4_xs": 4.46,
    "q3_k_m": 4.0,
    "q2_k": 3.16,
}
# NF4 with doubly quantised scales; embeddings and norms stay as they are, which is most of it for small models.
_NF4_BITS = 5.0
# Formats that llama.cpp's quantiser makes, each of which is run in llama.cpp afterwards.
_SMALL = tuple(name for name in _BITS if name != "q8_0")
# A child that loads the libraries takes 5 to 15 s (measured on two cores); a model is read, written and read again at
# the pace of a plain disk. Only good for "seconds or minutes".
_START_S, _BYTES_PER_S = 12.0, 50e6
# Bytes of 16-bit weights that are quantised a second, and a run in llama.cpp, on two cores.
_QUANTISED_PER_S, _PROOF_S = 10e6, 10.0


def is_zip(out: Path) -> bool:
    """Tell whether an export to this place is one file, however its ending is written."""
    return out.suffix.lower() == ".zip"


def model_class(folder: Path) -> str:
    """Return the class of transformers that loads a merged model."""
    try:
        encodes = read_object(folder / "config.json").get("is_encoder_decoder") is True
    except (OSError, ValueError):
        encodes = False
    return "AutoModelForSeq2SeqLM" if encodes else "AutoModelForCausalLM"


@dataclass(frozen=True)
class Source:
    """An adapter of a run (with its trial) or a merged model."""

    value: str
    name: str
    stem: str
    folder: Path
    base: str
    artifact: Artifact | None = None

    def takes(self, target: str) -> bool:
        """Tell whether this can go there; a model is merged already."""
        return self.artifact is not None or target not in _FOR_ADAPTERS

    @property
    def weights_bytes(self) -> int | None:
        """Return the size of the model that a merge writes, or None where the base is not on this machine."""
        folder = self.folder
        if self.artifact is not None:
            try:
                resolved = resolve(self.base)
            except ModelError:  # moved or removed since; the job says so when it is asked for
                return None
            if not is_local(resolved):
                return None
            folder = Path(resolved)
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Return everything that can be taken away, as choices of a form: adapters first."""
    adapters = [
        (artifact.name, artifact.value) for artifact in artifacts.all_artifacts(workspace) if not artifact.whole
    ]
    return adapters + [(source.name, source.value) for source in _models(workspace)]


def find(workspace: Workspace, value: object) -> Source:
    """Return what a form's value stands for. Raises UsageError when it is not there."""
    if isinstance(value, str) and _MODEL.fullmatch(value):
        for source in _models(workspace):
            if source.value == value:
                return source
        raise UsageError(
            keyed("this_model_is_not_there", "This model is not there"),
            keyed("it_may_have_been_removed", "it may have been removed"),
            keyed("choose_another", "choose another"),
        )
    artifact = artifacts.find(workspace, value)
    if artifact.whole:
        return _trained(artifact)
    return Source(artifact.value, artifact.name, artifact.column, artifact.folder, artifact.config.model.name, artifact)


def _models(workspace: Workspace) -> list[Source]:
    """Return the models of full fine-tuning, and the merged ones that are still where a merge put them."""
    found = [_trained(artifact) for artifact in artifacts.all_artifacts(workspace) if artifact.whole]
    for job in _newest(workspace, "merge"):
        folder = artifacts.merged_model(job)
        if folder is not None:
            found.append(Source(f"model:{job.id}", folder.name, safe_name(folder.name), folder, ""))
    return found


def _trained(artifact: Artifact) -> Source:
    """Return a model that was trained as a whole; nothing is left to merge."""
    return Source(artifact.value, artifact.name, artifact.column, artifact.folder, "")


def newest_jobs(workspace: Workspace, source: Source) -> dict[str, JobDirectory]:
    """Return the newest job of a source for every place that it went to."""
    found: dict[str, JobDirectory] = {}
    for job in [*_newest(workspace, "merge"), *_newest(workspace, "export")]:
        config = job.config
        target = str(config.get("to") or "model")
        if str(source.folder.absolute()) in (config.get("adapter"), config.get("model")):
            found.setdefault(target, job)
    return found


def _newest(workspace: Workspace, kind: str) -> list[JobDirectory]:
    return jobs.all_jobs(workspace, kind)[::-1][:_MOST_JOBS]


def expected_bytes(source: Source, target: str, dtype: str) -> int | None:
    """Return how large an export will be, None where the base is not on this machine."""
    if target in ("adapter", "vllm") or (target == "hub" and source.artifact is not None):
        return folder_bytes(source.folder)
    weights = source.weights_bytes
    if target == "nf4" and weights is not None:
        return round(weights * _NF4_BITS / 16)
    if weights is None or target not in GGUF_TARGETS:
        return weights
    return round(weights * _BITS.get(dtype, 16.0) / 16)


def free_place(workspace: Workspace, source: Source, target: str) -> Path:
    """Return a folder of the workspace that is neither there nor being written; an export is never overwritten."""
    name = f"{source.stem}-{'merged' if target == 'model' else target}"
    out, number, taken = workspace.output_dir(name), 2, being_written(workspace)
    while out.exists() or out in taken:
        out, number = workspace.output_dir(f"{name}-{number}"), number + 1
    return out


def being_written(workspace: Workspace) -> dict[Path, JobDirectory]:
    """Return the places that living jobs are about to write, with the jobs."""
    writers = [job for kind in _WRITERS for job in _newest(workspace, kind)]
    living = [job for job in writers if not job.recorded_status().final and not job.status().final]
    return {Path(str(job.config.get("out") or "")): job for job in living}


def expected_range(source: Source, target: str) -> tuple[int, int] | None:
    """Return how large the smallest file will be at least and at most; None where the base is not on this machine."""
    least, most = (expected_bytes(source, target, dtype) for dtype in ("q2_k", "f16"))
    return None if least is None or most is None else (least, most)


def expected_seconds(source: Source, target: str, dtype: str) -> float:
    """Return about how long an export takes; for the smallest file that passes, how long it takes at most."""
    size = expected_bytes(source, target, dtype) or 0
    if target not in GGUF_TARGETS:
        return _START_S + size / _BYTES_PER_S
    weights = source.weights_bytes or 0
    tried = [*_BITS, "f16"] if dtype == SMALLEST else [dtype]
    seconds = sum(weights / (_QUANTISED_PER_S if one in _SMALL else _BYTES_PER_S) for one in tried)
    proven = sum(_PROOF_S for one in tried if one in _SMALL)
    return _START_S + (weights / _BYTES_PER_S if source.artifact else 0) + seconds + proven
