"""`plan`: the memory of a run by part, whether it fits, and what would."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import get_args

from app import catalog, planner
from app.cli.terminal import Verbs, answer, progress, root_of, workspace_of, written
from app.cli.verbs.jobs import follow
from app.config import presets
from app.config.parsing import parse_assignments
from app.config.schema import RunConfig
from app.config.sections import Objective
from app.errors import JobError, UsageError
from app.planner import Plan, PlanRequest, packing
from app.planner.alternatives.spend import spending
from app.planner.from_config import config_changes
from app.planner.history import COMPARED, CPU, Measurement
from app.planner.machine import (
    device_here,
    request_here,
    request_on,
    this_machine,
    with_measurements,
    within_free_memory,
)
from app.planner.parts.positions import refuse_too_long
from app.planner.request import GIB, Attention, Device, Dtype, Method, Profile, Quant
from app.planner.tracing import client
from app.runs.submission import submit

# Cards count memory in units of 1024 and write GB; so do the page and this verb.
_GB = GIB
_MB = 1 << 20
# In place of a card's size: this machine's own card, or its memory, as far as it is free.
HERE = "here"
# option of the command line -> field of the request
_FIELDS = {
    "method": "method",
    "quant": "quant",
    "rank": "rank",
    "targets": "targets",
    "dora": "dora",
    "micro_batch": "micro_batch",
    "seq_len": "seq_len",
    "optimizer": "optimizer",
    "checkpointing": "checkpointing",
    "attn": "attn",
    "dtype": "dtype",
    "adapter_dtype": "adapter_dtype",
    "profile": "profile",
    "objective": "objective",
    "columns": "columns",
    "vram": "vram_gb",
}


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "plan",
        run,
        help="VRAM by part before anything is downloaded, whether it fits, and what would",
        example="python3 launch.py plan --model Qwen/Qwen3-8B --seq-len 2048 --vram 12",
    )
    parser.add_argument("--model", metavar="M", help="catalogue name, local folder, config.json or hub id")
    parser.add_argument("--config", metavar="FILE", help="a run's YAML file")
    parser.add_argument("--preset", metavar="P", help="start from a preset, for example 8gb")
    parser.add_argument("--method", choices=get_args(Method))
    parser.add_argument("--quant", choices=get_args(Quant), help="how the frozen base is stored")
    parser.add_argument("--rank", type=int, metavar="R")
    parser.add_argument("--targets", metavar="T", help="all-linear, or names with commas: q_proj,v_proj")
    parser.add_argument("--dora", action="store_true", default=None)
    parser.add_argument("--micro-batch", type=int, metavar="B", help="rows in one forward pass")
    parser.add_argument("--seq-len", type=int, metavar="S", help="tokens in a row")
    parser.add_argument("--optimizer", metavar="O", help="by its transformers name")
    parser.add_argument("--checkpointing", metavar="C", help="full, none or every-N")
    parser.add_argument("--attn", choices=get_args(Attention))
    parser.add_argument("--dtype", choices=get_args(Dtype))
    parser.add_argument("--adapter-dtype", choices=("bf16", "fp32"))
    parser.add_argument(
        "--profile", choices=get_args(Profile), help="workbench is what `train` does; peft-classic as published rows"
    )
    parser.add_argument("--objective", choices=get_args(Objective), help="what is learned; preferences take more")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", type=written, action="append", default=[],
        help="one setting of a run by its dotted name, as train takes it; repeatable",
    )  # fmt: skip
    parser.add_argument("--columns", type=int, metavar="N", help="conversations at once, for inference")
    parser.add_argument(
        "--vram", type=_card, metavar="GB", help="size of the GPU's memory; here: what is free on this machine now"
    )
    parser.add_argument("--trace", action="store_true", help="run the real step under fake tensors, in a child")
    parser.add_argument("--measure", action="store_true", help="run two real steps here, on the longest rows of --data")
    parser.add_argument("--data", metavar="FILE", help="training file, for --measure")


def _card(text: str) -> float | str:
    """Read a card's size, or the word for this machine's own."""
    try:
        return HERE if text == HERE else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no size in GB; write a number, or {HERE}") from None


def run(arguments: argparse.Namespace) -> None:
    """Plan and print."""
    if arguments.measure:
        measure(arguments)
        return
    request = request_of(arguments)
    if client.needs_trace(request, root_of(arguments)):
        refuse_too_long(request)
        request = client.traced(request, root_of(arguments), _simulating(request))
    plan = client.traced_plan(request) if arguments.trace and not request.model.simulated else planner.plan(request)
    bought = spending(request)
    answer(
        arguments,
        {**plan.to_json(), "spend": bought.to_json() if bought else None},
        [*report(request, plan), *([f"note: {bought.why}"] if bought else [])],
    )


def _simulating(request: PlanRequest) -> Callable[[client.Progress], None]:
    """Return what says on standard error how far a simulation is, once for every tenth of it."""
    said = -1

    def say(progress_made: client.Progress) -> None:
        nonlocal said
        tenth = int(10 * progress_made.share)
        if tenth > said:
            said = tenth
            progress(f"{request.model.name}: measuring by simulation, {10 * tenth} %, {progress_made.seconds:.0f} s")

    return say


def measure(arguments: argparse.Namespace) -> None:
    """Run two real steps, keep them in this machine's history, and print predicted against measured."""
    workspace = workspace_of(arguments)
    config = measured_config(arguments)
    job = submit.start(workspace, config, kind="measure")
    follow(job)
    result = job.status().result
    if not result:
        raise JobError(f"{job.id} was stopped", "two steps were not reached", "measure again")
    found = Measurement.of(result)
    device: Device = "cpu" if found.device == CPU else "cuda"
    request = within(arguments, with_measurements(request_on(device, config, workspace=workspace.root), workspace))
    plan = planner.plan(request)
    answer(arguments, {**plan.to_json(), "measurement": result}, [*compared(found), *report(request, plan)])


def measured_config(arguments: argparse.Namespace) -> RunConfig:
    """Return the run that the options describe. Raises UsageError for options that no run has."""
    for option in ("profile", "columns", "trace"):
        if getattr(arguments, option):
            raise UsageError(f"--{option} cannot be measured", "it is no setting of a run", "leave it out")
    config = _config_of(arguments) or RunConfig()
    changes: dict[str, object] = config_changes(_changes_of(arguments))
    if arguments.model:
        changes["model.name"] = arguments.model
    if arguments.data:
        changes["data.file"] = arguments.data
    return config.changed(changes, "the command line")


def compared(found: Measurement) -> list[str]:
    """Return predicted against measured, part by part; sizes in MB."""
    where = "the memory of the process" if found.device == CPU else f"live tensors on {found.device}"
    lines = [f"Measured {where}: two steps of {found.micro_batch} x {found.seq_len} tokens."]
    for name in COMPARED:
        predicted, measured = found.predicted[name], found.measured[name]
        off = f"{100 * (measured / predicted - 1):+.1f} %" if predicted > 0 else ""
        sizes = f"predicted {predicted / _MB:10.1f} MB  measured {measured / _MB:10.1f} MB"
        lines.append(f"  {name.replace('_', ' '):<22} {sizes}  {off}".rstrip())
    return lines


def request_of(arguments: argparse.Namespace) -> PlanRequest:
    """Return the request that the options describe; options win over the file or preset."""
    if arguments.config and arguments.preset:
        raise UsageError("--config and --preset cannot both be given", "each is a whole set of settings", "choose one")
    config = _config_of(arguments)
    if not arguments.model and config is None:
        raise UsageError("No model is named", "", "add --model M, for example --model Qwen/Qwen3-8B")
    changes = _changes_of(arguments)
    if config is None:
        planned = {**(device_here() if arguments.vram == HERE else {}), **changes}
        request = with_measurements(PlanRequest(model=catalog.find(arguments.model), **planned), root_of(arguments))
        return within(arguments, request)
    model = catalog.find(arguments.model or config.model.name, None if arguments.model else config.model.revision)
    if arguments.vram == HERE:
        config = config.changed({"memory.vram_gb": None})
    if config.data.packing:
        packing.settled(model, config.model.attn_implementation, root_of(arguments))
    return within(arguments, request_here(config, root_of(arguments), model, changes))


def within(arguments: argparse.Namespace, request: PlanRequest) -> PlanRequest:
    """Return the request, held against what is free on this machine where --vram says so."""
    return within_free_memory(request) if arguments.vram == HERE else request


def _config_of(arguments: argparse.Namespace) -> RunConfig | None:
    """Return the run that a file, a preset or --set describes; None where none of them is given."""
    config = None
    if arguments.config:
        config = presets.read_named_file(arguments.config).config
    elif arguments.preset:
        config = presets.load(arguments.preset, workspace_of(arguments)).on(this_machine().kind).config
    elif arguments.set:
        config = RunConfig()
    if config is None:
        return None
    changes = parse_assignments(arguments.set)
    if arguments.objective:  # here and not in the request, so that what it settles about rows and batches is planned
        changes["training.objective"] = arguments.objective
    return config.changed(changes, "the command line") if changes else config


def _changes_of(arguments: argparse.Namespace) -> dict[str, object]:
    """Return what the options set, by the request's names."""
    changes: dict[str, object] = {
        field: value for option, field in _FIELDS.items() if (value := getattr(arguments, option)) is not None
    }
    if changes.get("vram_gb") == HERE:
        del changes["vram_gb"]
    if "targets" in changes:
        changes["targets"] = tuple(name.strip() for name in str(changes["targets"]).split(",") if name.strip())
    return changes


def report(request: PlanRequest, plan: Plan) -> list[str]:
    """Return the plan as lines for people; sizes in GB."""
    lines = [sentence(plan)]
    names = {name: name.replace("_", " ") for name in plan.parts}
    if request.device == "cpu":
        names["allocator_reserve"] = "libraries"
    width = max(len("peak of the process"), *map(len, names.values()))
    for name, size in plan.parts.items():
        if size:
            lines.append(f"  {names[name]:<{width}}  {size / _GB:8.2f} GB")
    where = "peak of the process" if request.device == "cpu" else "peak on the GPU"
    lines.append(f"  {where:<{width}}  {plan.device_peak / _GB:8.2f} GB")
    lines.append(f"trains {plan.trainable_params:,} of {plan.total_params:,} parameters; {plan.basis}")
    if plan.fits is False:
        lines += [suggested(suggestion) for suggestion in planner.suggestions(request)[:3]]
    if request.device == "cuda" and request.vram_gb is None:
        lines.append("note: planned for a GPU, with its CUDA context; --vram names its size")
    elif plan.fits is None:
        lines.append(f"note: planned for this machine's processor; --vram {HERE} holds it against the free memory")
    return lines + [f"note: {warning}" for warning in plan.warnings]


def suggested(suggestion: planner.Suggestion) -> str:
    """Return what would make it fit and what each change saves, or that nothing does."""
    if not suggestion.fits:
        return f"{suggestion.text}."
    each = [f"{step.text} {-step.saves_bytes / _GB:+.1f} GB" for step in suggestion.steps]
    savings = ", ".join(each) if len(each) > 1 else f"{-suggestion.saves_bytes / _GB:+.1f} GB"
    return f"would fit: {suggestion.text} ({savings}; peak {suggestion.device_peak / _GB:.1f} GB)"


def sentence(plan: Plan) -> str:
    """Return the one sentence that answers whether it fits."""
    peak = plan.device_peak / _GB
    if plan.free_bytes is None:
        return f"Peak {peak:.1f} GB."
    free = plan.free_bytes / _GB
    if plan.fits:
        return f"Fits. Peak {peak:.1f} GB of {free:.1f} GB free; {free - peak:.1f} GB to spare."
    return f"Does not fit: {peak:.1f} GB against {free:.1f} GB free."
