"""Settle the dtype "auto" of a run on a processor: by its instructions, and by a measured second of both formats."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from app import catalog, hardware
from app.config.schema import RunConfig
from app.errors import ModelError, UsageError
from app.jobs.child import JobChild
from app.models.loading import device, fit_threads, load_config
from app.planner import number_format, settled
from app.planner.number_format import NumberFormat, Timing
from app.training import checkpoints

_SETTING = "model.dtype"
_TOKENS = 512
_SECONDS = 1.0
_LEAST_ROUNDS = 3


def settle_dtype(child: JobChild, config: RunConfig, folder: str) -> RunConfig:
    """Return the config with the number format of this run in place of "auto"; on a card it stays "auto".

    A format that was chosen and that this processor computes slowly is kept, with a note. The choice is kept beside the
    job, so that a resumed run goes on in the same numbers wherever that happens.
    """
    if device().type != "cpu":
        return config
    if config.model.dtype != "auto":
        against = number_format.against(config.model.dtype)
        if against is not None:
            child.event("note", str(against))
        return config
    job = child.directory
    if _SETTING not in settled.read(job.path).changes:
        if checkpoints.steps(job.checkpoints):
            # A run that began before there was a choice.
            settled.remember(job.path, {_SETTING: "fp32"}, "it was begun in fp32")
        else:
            chosen = _chosen(child, config, folder)
            settled.remember(job.path, {_SETTING: chosen.dtype}, str(chosen.why))
            child.event("note", str(chosen.why))
    return config.changed({_SETTING: settled.read(job.path).changes[_SETTING]})


def _chosen(child: JobChild, config: RunConfig, folder: str) -> NumberFormat:
    hidden, intermediate = _widths(config, folder)
    workspace = child.directory.path.parents[1]
    if hardware.has_bf16_instructions() and number_format.kept(hidden, intermediate, workspace) is None:
        child.progress(0, 0, phase="measuring bf16 against fp32")
        fit_threads(load_config(folder, revision=config.model.revision))
        number_format.keep(measured(hidden, intermediate), hidden, intermediate, workspace)
    return number_format.on_processor(hidden, intermediate, workspace)


def _widths(config: RunConfig, folder: str) -> tuple[int, int]:
    """Return the hidden and the intermediate size, as the planner has them."""
    try:
        spec = catalog.find(config.model.name, config.model.revision)
    except (ModelError, UsageError):
        text = load_config(folder, revision=config.model.revision).get_text_config(decoder=True)
        hidden = int(getattr(text, "hidden_size", 1024))
        return hidden, int(getattr(text, "intermediate_size", None) or 4 * hidden)
    return spec.hidden, spec.intermediate


def measured(hidden: int, intermediate: int, seconds: float = _SECONDS) -> Timing:
    """Time one linear layer on 512 tokens, forward and back, in both formats in turn.

    The fastest round of each counts: other work on the machine only ever adds to a time.
    """
    ways = {dtype: _layer(hidden, intermediate, dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(ways, float("inf"))
    ends = time.perf_counter() + seconds
    rounds = 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < ends:
        for dtype, work in ways.items():
            begun = time.perf_counter()
            work()
            if rounds:  # the first round makes the kernels ready
                best[dtype] = min(best[dtype], time.perf_counter() - begun)
        rounds += 1
    return Timing(best[torch.float32], best[torch.bfloat16])


def _layer(hidden: int, intermediate: int, dtype: torch.dtype) -> Callable[[], None]:
    # A generator of its own: the run's random numbers begin where they would without a measurement.
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_TOKENS, hidden, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(intermediate, hidden, generator=generator).to(dtype)
    gradient = torch.ones(_TOKENS, intermediate, dtype=dtype)

    def work() -> None:
        torch.nn.functional.linear(inputs, weight).backward(gradient)
        inputs.grad = None

    return work
