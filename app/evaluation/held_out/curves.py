"""Gain against forgetting of one adapter, over its weight or over the checkpoints of its run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.engine.batching.adapter_stack import Mix
from app.engine.variants import BASE
from app.errors import EngineError
from app.evaluation.answers import Source
from app.evaluation.held_out import forgetting
from app.evaluation.held_out.cases import Case
from app.evaluation.held_out.measuring import Measured, Measurer
from app.evaluation.held_out.results import CurvePoint, GainCurve
from app.evaluation.metrics.catalogue import METRICS
from app.jobs.directory import holding
from app.training import checkpoints

# Checkpoints that are loaded for a picture; of more, so many evenly over the run.
_MOST_CHECKPOINTS = 12


def over_weights(
    measurer: Measurer, name: str, weights: Sequence[float], cases: Sequence[Case], probes: Sequence[Case], metric: str
) -> GainCurve:
    """Measure an adapter at every weight in one pass. Raises EngineError where it cannot be weighed."""
    if not measurer.columns.columns[name].shared:
        raise EngineError(f"{name} has no weight to change", "it is no sum on the base", "draw it over checkpoints")
    sources = [_weighed(name, weight) for weight in weights]
    return _drawn(measurer, GainCurve(name, "weight", metric, ()), weights, sources, cases, probes)


def over_checkpoints(
    measurer: Measurer, name: str, folder: Path, cases: Sequence[Case], probes: Sequence[Case], metric: str
) -> GainCurve | None:
    """Measure the checkpoints of an adapter's run; None where it has none."""
    job = holding(folder)
    found = {step: job.checkpoints / f"step-{step}" for step in _steps(job.checkpoints)} if job else {}
    if not found:
        return None
    loaded: dict[int, str] = {}
    try:
        for step, place in found.items():
            with suppress(EngineError):  # a checkpoint that was cleared away or damaged is no point of the picture
                loaded[step] = measurer.columns.add(f"{name}@{step}", place).name
                measurer.prompts.learn(loaded[step], place)
        curve = GainCurve(name, "step", metric, ())
        return _drawn(measurer, curve, list(loaded), list(loaded.values()), cases, probes) if loaded else None
    finally:
        for column in loaded.values():
            measurer.columns.remove(column)
            measurer.prompts.forget(column)


def _drawn(
    measurer: Measurer,
    curve: GainCurve,
    places: Sequence[float],
    sources: Sequence[Source],
    cases: Sequence[Case],
    probes: Sequence[Case],
) -> GainCurve:
    with_base: list[Source] = [BASE, *sources]
    base, *measured = measurer.measure(cases, with_base, [curve.metric])
    untouched, *probed = measurer.measure(probes, with_base, ["loss"], divergence=True)
    points = []
    for place, one, probe in zip(places, measured, probed, strict=True):
        kl, change = forgetting.drift(untouched.likelihoods, probe.likelihoods)
        value, gain = one.mean(curve.metric), gained(curve.metric, base, one)
        if value is not None and math.isfinite(value) and math.isfinite(kl):
            points.append(CurvePoint(place, value, gain, kl, change))
    return replace(curve, points=tuple(points), best=forgetting.best(points))


def gained(metric: str, base: Measured, other: Measured) -> float:
    """Return how much better than the base a source is by a metric; above 0 is better, whichever way it counts."""
    mine, before = other.mean(metric), base.mean(metric)
    if mine is None or before is None:
        return 0.0
    return before - mine if METRICS[metric].better == "lower" else mine - before


def _weighed(name: str, weight: float) -> Source:
    if weight in (0.0, 1.0):
        return name if weight else BASE
    return Mix(((name, weight),))


def _steps(folder: Path) -> list[int]:
    """Return the steps of complete checkpoints, oldest first; of many, evenly spread ones with the last."""
    found = checkpoints.steps(folder)
    if len(found) <= _MOST_CHECKPOINTS:
        return found
    return [found[round(n * (len(found) - 1) / (_MOST_CHECKPOINTS - 1))] for n in range(_MOST_CHECKPOINTS)]
