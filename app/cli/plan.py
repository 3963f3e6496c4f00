"""`plan`: the memory of a run by part, whether it fits, and what would."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from app import catalog, hardware, planner, presets, runs, tracing
from app.cli.jobs import follow
from app.cli.terminal import Verbs, answer, workspace_of
from app.config import RunConfig
from app.errors import JobError, UsageError
from app.planner import Plan, PlanRequest
from app.planner.from_config import config_changes, request_from_config
from app.planner.history import COMPARED, CPU, corrections
from app.planner.request import GIB, Attention, Device, Dtype, Method, Profile, Quant
from app.workspace import default_root

# Cards count memory in units of 1024 and write GB; so do the page and this verb.
_GB = GIB
_MB = 1 << 20
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
    parser.add_argument("--columns", type=int, metavar="N", help="conversations at once, for inference")
    parser.add_argument("--vram", type=float, metavar="GB", help="size of the card")
    parser.add_argument("--trace", action="store_true", help="run the real step under fake tensors, in a child")
    parser.add_argument("--measure", action="store_true", help="run two real steps here, on the longest rows of --data")
    parser.add_argument("--data", metavar="FILE", help="training file, for --measure")


def run(arguments: argparse.Namespace) -> None:
    """Plan and print."""
    if arguments.measure:
        measure(arguments)
        return
    request = on_this_machine(arguments, request_of(arguments))
    plan = tracing.traced_plan(request) if arguments.trace else planner.plan(request)
    answer(arguments, plan.to_json(), report(request, plan))


def on_this_machine(arguments: argparse.Namespace, request: PlanRequest) -> PlanRequest:
    """Return the request with what was measured on this machine's card; a processor's figures say nothing of one.

    Settings that name no card, on a machine that has none, are planned for the processor: no CUDA context there.
    """
    card = hardware.readings().gpu
    if card is None and request.vram_gb is None and (arguments.preset or arguments.config):
        request = request.changed(device="cpu")
    device = CPU if request.device == "cpu" else card.name if card is not None else ""
    workspace = getattr(arguments, "workspace", None) or default_root()
    return request.changed(corrections=corrections(Path(workspace).expanduser(), device)) if device else request


def measure(arguments: argparse.Namespace) -> None:
    """Run two real steps, keep them in this machine's history, and print predicted against measured."""
    workspace = workspace_of(arguments)
    config = measured_config(arguments)
    job = runs.start(workspace, config, kind="measure")
    follow(job)
    found = job.status().result
    if not found:
        raise JobError(f"{job.id} was stopped", "two steps were not reached", "measure again")
    model = catalog.find(config.model.name, config.model.revision)
    device: Device = "cpu" if found["device"] == CPU else "cuda"
    request = request_from_config(config, model, "fp32" if device == "cpu" else "bf16")
    request = on_this_machine(arguments, request.changed(device=device))
    plan = planner.plan(request)
    answer(arguments, {**plan.to_json(), "measurement": found}, [*compared(found), *report(request, plan)])


def measured_config(arguments: argparse.Namespace) -> RunConfig:
    """Return the run that the options describe. Raises UsageError for options that no run has."""
    for option in ("profile", "columns", "trace"):
        if getattr(arguments, option):
            raise UsageError(f"--{option} cannot be measured", "it is no setting of a run", "leave it out")
    config = _config_of(arguments) or RunConfig()
    changes: dict[str, Any] = config_changes(_changes_of(arguments))
    if arguments.model:
        changes["model.name"] = arguments.model
    if arguments.data:
        changes["data.file"] = arguments.data
    return config.changed(changes, "the command line")


def compared(found: dict[str, Any]) -> list[str]:
    """Return predicted against measured, part by part; sizes in MB."""
    where = "the memory of the process" if found["device"] == CPU else f"live tensors on {found['device']}"
    lines = [f"Measured {where}: two steps of {found['micro_batch']} x {found['seq_len']} tokens."]
    for name in COMPARED:
        predicted, measured = found["predicted"][name], found["measured"][name]
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
    model = catalog.find(arguments.model or (config.model.name if config else ""))
    changes = _changes_of(arguments)
    if config is None:
        return PlanRequest(model=model, **changes)
    return request_from_config(config, model).changed(**changes)


def _config_of(arguments: argparse.Namespace) -> RunConfig | None:
    """Return the settings of the file or preset, if one is named."""
    if arguments.config:
        return presets.read_named_file(arguments.config).config
    return presets.load(arguments.preset, workspace_of(arguments)).config if arguments.preset else None


def _changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the options set, by the request's names."""
    changes: dict[str, Any] = {
        field: value for option, field in _FIELDS.items() if (value := getattr(arguments, option)) is not None
    }
    if "targets" in changes:
        changes["targets"] = tuple(name.strip() for name in changes["targets"].split(",") if name.strip())
    return changes


def report(request: PlanRequest, plan: Plan) -> list[str]:
    """Return the plan as lines for people; sizes in GB."""
    facts = plan.to_json()
    lines = [sentence(facts)]
    names = {name: name.replace("_", " ") for name in facts["parts"]}
    if request.device == "cpu":
        names["allocator_reserve"] = "libraries"
    width = max(len("peak of the process"), *map(len, names.values()))
    for name, size in facts["parts"].items():
        if size:
            lines.append(f"  {names[name]:<{width}}  {size / _GB:8.2f} GB")
    where = "peak of the process" if request.device == "cpu" else "peak on the card"
    lines.append(f"  {where:<{width}}  {facts['device_peak'] / _GB:8.2f} GB")
    lines.append(f"trains {facts['trainable_params']:,} of {facts['total_params']:,} parameters; {facts['basis']}")
    if facts["fits"] is False:
        lines += [suggested(suggestion) for suggestion in planner.suggestions(request)[:3]]
    if request.device == "cuda" and request.vram_gb is None:
        lines.append("note: planned for a card, with its CUDA context; --vram names its size")
    return lines + [f"note: {warning}" for warning in facts["warnings"]]


def suggested(suggestion: planner.Suggestion) -> str:
    """Return what would make it fit and what each change saves, or that nothing does."""
    if not suggestion.fits:
        return f"{suggestion.text}."
    each = [f"{step.text} {-step.saves_bytes / _GB:+.1f} GB" for step in suggestion.steps]
    savings = ", ".join(each) if len(each) > 1 else f"{-suggestion.saves_bytes / _GB:+.1f} GB"
    return f"would fit: {suggestion.text} ({savings}; peak {suggestion.device_peak / _GB:.1f} GB)"


def sentence(facts: dict[str, Any]) -> str:
    """Return the one sentence that answers whether it fits."""
    peak = facts["device_peak"] / _GB
    if facts["fits"] is None:
        return f"Peak {peak:.1f} GB."
    free = facts["free_bytes"] / _GB
    if facts["fits"]:
        return f"Fits. Peak {peak:.1f} GB of {free:.1f} GB free; {free - peak:.1f} GB to spare."
    return f"Does not fit: {peak:.1f} GB against {free:.1f} GB free."
