"""What can be tried: adapters of runs, finished or checkpointed, blends, whole models, and the engine that answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.config.schema import RunConfig, parse
from app.engine.requests import EngineRequest, start_engine
from app.errors import ConfigError, JobError, UsageError, WorkbenchError, keyed
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.reading import parsed_json
from app.runs import dataset_selection, request_paths
from app.training import checkpoints
from app.workspace import OUTPUTS, Workspace, safe_name

# The newest are offered; older ones are reached by the command line, other checkpoints by the slider.
_MOST_RUNS = 40
_MOST_CHECKPOINTS = 5
# How the engine stores a base, as people know it.
QUANTS = {"nf4": "NF4", "int8": "int8", "none": "16 or 32 bits"}
_VALUE = re.compile(r"([a-z0-9][a-z0-9-]{0,79})(?::([0-9]{1,9}))?")


@dataclass(frozen=True)
class Artifact:
    """One adapter that can be loaded: a run's result, its checkpoint at `step`, or a blend (`config` is its base's).

    With `whole` it is no adapter but a model of its own, merged or trained as a whole, which stands beside its base.
    """

    job: JobDirectory
    config: RunConfig
    folder: Path
    step: int | None = None
    made_rank: int | None = None
    whole: bool = False

    @property
    def rank(self) -> int:
        """Return the adapter's rank."""
        return self.made_rank or self.config.adapter.r

    @property
    def value(self) -> str:
        """Return what stands for this adapter in a form."""
        return self.job.id if self.step is None else f"{self.job.id}:{self.step}"

    @property
    def name(self) -> str:
        """Return the run's name, with the step of a checkpoint."""
        plain = f"{Path(self.config.data.file).stem} {self.job.id[-6:]}" if self.config.data.file else self.job.id
        name = (self.job.name or plain)[:48]
        return name if self.step is None else f"{name}, step {self.step}"

    @property
    def column(self) -> str:
        """Return the name under which an engine holds it: letters, digits, dots and hyphens, unique by the run."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", safe_name(self.name)).strip("-")[:40]
        return f"{plain or 'run'}-{self.job.id[-6:]}" + ("" if self.step is None else f"-{self.step}")

    @property
    def quant(self) -> str:
        """Return how the engine stores the base: as it was while the adapter was trained."""
        quantization = self.config.quantization
        return "nf4" if quantization.load_in_4bit else "int8" if quantization.load_in_8bit else "none"


def all_artifacts(workspace: Workspace) -> list[Artifact]:
    """Return every adapter and every trained model that can be tried, newest job first, results before checkpoints."""
    found = []
    for job in list(reversed(jobs.all_jobs(workspace, "train", "blend")))[:_MOST_RUNS]:
        of_job = _of_job(job, workspace)
        found += [artifact for artifact in of_job if artifact.step is None]
        found += [artifact for artifact in of_job if artifact.step is not None][:_MOST_CHECKPOINTS]
    return found


def choices(workspace: Workspace, values: object = None) -> list[tuple[str, str]]:
    """Return what can be tried as choices of a form; values that are chosen already stay among them."""
    offered = [(artifact.name, artifact.value) for artifact in [*all_artifacts(workspace), *_merged(workspace)]]
    known = {value for _, value in offered}
    for value in values if isinstance(values, list) else []:
        if value not in known:
            with suppress(WorkbenchError):
                offered.append((find(workspace, value).name, value))
    return offered


def of_columns(workspace: Workspace, names: Sequence[str]) -> dict[str, str]:
    """Return the form's values of the adapters and models that answer under these columns' names, where still there."""
    found = {one.column: one.value for one in [*all_artifacts(workspace), *_merged(workspace)]}
    return {name: found[name] for name in names if name in found}


def value_of_column(workspace: Workspace, values: object, name: str) -> str | None:
    """Return which of the chosen values answers under a column's name, or None."""
    for value in values if isinstance(values, list) else []:
        with suppress(WorkbenchError):
            if find(workspace, value).column == name:
                return str(value)
    return None


def first_choice(workspace: Workspace) -> str | None:
    """Return what is tried when nobody has chosen: the newest finished result, and never what a stopped run left.

    Where nothing has finished, the newest that there is.
    """
    found = all_artifacts(workspace)
    finished = (one for one in found if one.step is None and one.job.recorded_status().state == "finished")
    newest = next(finished, next(iter(found), None))
    return None if newest is None else newest.value


def training_jobs(workspace: Workspace) -> list[JobDirectory]:
    """Return the training runs, oldest first."""
    return jobs.all_jobs(workspace, "train")


def checkpoint_steps(workspace: Workspace, value: object) -> list[int]:
    """Return the steps of all checkpoints of the run that an adapter is of, oldest first."""
    try:
        job = find(workspace, value).job
    except WorkbenchError:
        return []
    return checkpoints.steps(job.checkpoints)


def _merged(workspace: Workspace) -> list[Artifact]:
    """Return the models that were merged from adapters of this workspace, newest first."""
    newest = jobs.all_jobs(workspace, "merge")[::-1][:_MOST_RUNS]
    return [artifact for job in newest for artifact in _of_merge(job, workspace)]


def _of_job(job: JobDirectory, workspace: Workspace) -> list[Artifact]:
    if "-blend-" in job.id:
        return _of_blend(job, workspace)
    if "-merge-" in job.id:
        return _of_merge(job, workspace)
    try:
        config = parse(job.config, job.id)
    except (ConfigError, JobError):
        return []
    if config.adapter.method == "full":
        model = job.result / "model"
        return [Artifact(job, config, model, whole=True)] if (model / "config.json").is_file() else []
    steps = checkpoints.steps(job.checkpoints)
    found = [Artifact(job, config, job.checkpoints / f"step-{step}", step) for step in reversed(steps)]
    result = job.result / "adapter"
    return [Artifact(job, config, result), *found] if (result / "adapter_config.json").is_file() else found


def _of_blend(job: JobDirectory, workspace: Workspace) -> list[Artifact]:
    """Return the adapter of a finished blend that was made here of a run that is still there."""
    status, run = job.recorded_status(), str(job.config.get("run") or "")
    made = Path(str(status.result.get("adapter") or ""))
    folder = made if made.is_dir() else output_place(job)
    if status.state != "finished" or not run or not (folder / "adapter_config.json").is_file():
        return []
    try:
        config = parse(jobs.find(workspace, run).config, run)
    except (WorkbenchError, OSError):
        return []
    return [Artifact(job, config, folder, made_rank=int(status.result.get("rank") or 0) or None)]


def output_place(job: JobDirectory) -> Path:
    """Return where a job's output lies: where it was put, or in this workspace's outputs when both were moved since.

    A workspace was moved when its former folder has no jobs any more.
    """
    place = Path(str(job.config.get("out") or ""))
    here = job.path.parent.parent / OUTPUTS / place.name
    was_in_outputs = place.is_absolute() and place.parent.name == OUTPUTS
    if (
        was_in_outputs
        and not place.exists()
        and here.exists()
        and not (place.parents[1] / job.path.parent.name).exists()
    ):
        return here
    return place


def merged_model(job: JobDirectory) -> Path | None:
    """Return the model of a finished merge, or None where it is no longer where the merge put it."""
    folder = output_place(job)
    there = job.recorded_status().state == "finished" and (folder / "config.json").is_file()
    return folder if there else None


def _of_merge(job: JobDirectory, workspace: Workspace) -> list[Artifact]:
    """Return the model of a merge, if the run behind it is still there too."""
    folder, adapter = merged_model(job), Path(str(job.config.get("adapter")))
    if folder is None or not adapter.is_relative_to(workspace.jobs):
        return []
    try:
        of_run = _of_job(jobs.find(workspace, adapter.relative_to(workspace.jobs).parts[0]), workspace)
    except (WorkbenchError, IndexError):
        return []
    return [Artifact(job, of_run[0].config, folder, whole=True)] if of_run else []


def find(workspace: Workspace, value: object) -> Artifact:
    """Return the adapter that a form's value stands for. Raises UsageError when there is none."""
    match = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        job = jobs.find(workspace, match[1])
        for artifact in _of_job(job, workspace):
            if artifact.value == value:
                return artifact
    raise UsageError(
        keyed("this_adapter_is_not_there", "This adapter is not there"),
        keyed("its_run_may_have_been_removed", "its run may have been removed"),
        keyed("choose_another_run", "choose another run"),
    )


def together(workspace: Workspace, values: object) -> list[Artifact]:
    """Return the chosen adapters. Raises UsageError when there is none, or when they stand on different bases."""
    chosen = [find(workspace, value) for value in (values if isinstance(values, list) else [])]
    if not chosen:
        raise UsageError(
            keyed("no_adapter_is_chosen", "No adapter is chosen"),
            "",
            keyed("choose_at_least_one_run", "choose at least one run"),
        )
    bases = {(artifact.config.model.name, artifact.quant, artifact.config.model.dtype) for artifact in chosen}
    if len(bases) > 1:
        named = sorted(f"{model} ({QUANTS[quant]}, {dtype})" for model, quant, dtype in bases)
        raise UsageError(
            keyed("these_cannot_stand_side_by_side", "These cannot stand side by side"),
            "they stand on different bases: " + ", ".join(named),
            keyed("choose_runs_of_one_base_model", "choose runs of one base model, stored in one way"),
        )
    return chosen


def refuse_whole(chosen: Sequence[Artifact]) -> None:
    """Raise UsageError for models that were trained as a whole, where adapters are needed."""
    for artifact in chosen:
        if artifact.whole:
            raise UsageError(
                keyed("is_no_adapter", "{name} is no adapter", name=artifact.name),
                keyed("it_is_a_whole_model", "it is a whole model"),
                keyed("choose_a_run_that_trained_an", "choose a run that trained an adapter"),
            )


def living_engines(workspace: Workspace) -> list[JobDirectory]:
    """Return the engines that live, newest first."""
    return [job for job in reversed(jobs.all_jobs(workspace, "engine")) if not job.recorded_status().final]


def engine_for(workspace: Workspace, chosen: list[Artifact]) -> JobDirectory:
    """Return the living engine that holds the base of what was chosen, or start one. Raises WorkbenchError."""
    first = chosen[0]
    model = request_paths.model_name(workspace, first.config.model.name)
    wanted = {"model": resolve(model), "quant": first.quant, "dtype": first.config.model.dtype}
    for job in living_engines(workspace):
        if not job.status().final and all(job.config.get(name) == value for name, value in wanted.items()):
            return job
    adapters = {artifact.column: str(artifact.folder) for artifact in chosen}
    return start_engine(workspace, EngineRequest(model, adapters, first.quant, wanted["dtype"]))


def held_out_prompts(artifact: Artifact) -> list[str]:
    """Return prompts that are not in the training data, where the run was trained on a sample set."""
    name = Path(artifact.config.data.file).name
    if name not in dataset_selection.SAMPLES:
        return []
    file = request_paths.SAMPLES / f"{name.partition('.')[0]}.prompts.json"
    try:
        return [str(one["prompt"]) for one in parsed_json(file.read_text(encoding="utf-8"))["prompts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
