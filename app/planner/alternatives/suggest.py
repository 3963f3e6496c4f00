"""How to make it fit: sets of changes that do, least harm first, with what each change saves.

Nothing that fits is missed: when no small set does, every combination of the remedies is tried at its leanest, and what
fits is then relaxed. Each set is planned as a whole before it is offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations, product
from typing import Any

from app.catalog import all_models
from app.catalog.modules import total_parameters
from app.catalog.spec import ModelSpec
from app.errors import PlanError
from app.planner.alternatives.remedies import Remedy, harm_of, remedies, words
from app.planner.alternatives.solve import largest
from app.planner.estimate import Plan, estimate
from app.planner.parts.overhead import free_bytes
from app.planner.parts.weights import weights_at_rest
from app.planner.phrases import Phrase
from app.planner.request import GIB, PlanRequest
from app.planner.simulation.adapter import ALL_LINEAR, unknown_targets

_MOST_SUGGESTIONS = 6
_MOST_TOGETHER = 3
_ENOUGH = 3
# Each further change in a set counts as this much harm.
_EACH_CHANGE = 0.5
# Remedies up to this harm are offered together where that keeps rows longer by this factor.
_MILD = 2.0
_CLEARLY_LONGER = 1.2
_NUMBERS = ("rank", "columns", "seq_len")


@dataclass(frozen=True)
class Saving:
    """Hold what one change of a set saves, when the changes before it are made already."""

    text: str
    saves_bytes: int


@dataclass(frozen=True)
class Suggestion:
    """Hold one set of changes: PlanRequest fields with their new values, and the peak that results.

    `steps` says what each change saves; together they save `saves_bytes`.
    """

    changes: Mapping[str, Any]
    text: str
    saves_bytes: int
    device_peak: int
    fits: bool | None
    harm: float = 0.0
    steps: tuple[Saving, ...] = ()


def suggestions(request: PlanRequest) -> list[Suggestion]:
    """Return sets of changes that make the request fit, least harm first; empty when it fits already.

    When no setting makes it fit, the first answer says so (`fits` is False) and holds the leanest settings; the second
    names a smaller model of the catalogue. Without a card each single change is listed with what it saves.
    """
    now = estimate(request)
    if now.fits:
        return []
    open_to = remedies(request)
    if now.fits is None:
        singles = (_made(request, now, [remedy]) for remedy in open_to)
        return [made for made in singles if made is not None and made.saves_bytes > 0]
    found = _small_sets(request, now, open_to) or _any_set(request, now, open_to)
    if found:
        found += _longer_rows(request, now, open_to, found)
        return sorted(found, key=lambda suggestion: suggestion.harm)[:_MOST_SUGGESTIONS]
    return _nothing_fits(request, now, open_to)


def _small_sets(request: PlanRequest, now: Plan, open_to: Sequence[Remedy]) -> list[Suggestion]:
    """Return the fitting sets of few changes of which no milder part fits alone."""
    found: list[Suggestion] = []
    taken: list[frozenset[int]] = []
    for count in range(1, min(_MOST_TOGETHER, len(open_to)) + 1):
        for chosen in combinations(range(len(open_to)), count):
            picked = [open_to[index] for index in chosen]
            if not _apart(picked) or any(known <= _milder(open_to, chosen) for known in taken):
                continue
            if _fits(request, picked):
                taken.append(frozenset(chosen))
                found += _relaxed(request, now, picked)
        if len(found) >= _ENOUGH:
            break
    return found


def _longer_rows(
    request: PlanRequest, now: Plan, open_to: Sequence[Remedy], found: Sequence[Suggestion]
) -> list[Suggestion]:
    """Return the set that keeps rows longest: all milder changes beside a length; empty when it keeps little more."""
    kept = max(suggestion.changes.get("seq_len", request.seq_len) for suggestion in found)
    shortest = [remedy for remedy in open_to if remedy.group == "seq_len"][-1:]
    mild = [remedy for remedy in open_to if remedy.group not in _NUMBERS and remedy.harm <= _MILD]
    picked = [*mild, *shortest]
    if kept >= request.seq_len or not _apart(picked) or not _fits(request, picked):
        return []
    made = _relaxed(request, now, picked)
    return [one for one in made if one.changes.get("seq_len", request.seq_len) >= _CLEARLY_LONGER * kept]


def _milder(open_to: Sequence[Remedy], chosen: Iterable[int]) -> frozenset[int]:
    """Return the chosen remedies and the milder ones of their groups."""
    groups = {open_to[index].group: open_to[index].harm for index in chosen}
    return frozenset(i for i, remedy in enumerate(open_to) if remedy.harm <= groups.get(remedy.group, -1.0))


def _apart(picked: Sequence[Remedy]) -> bool:
    return len({remedy.group for remedy in picked}) == len(picked)


def _any_set(request: PlanRequest, now: Plan, open_to: Sequence[Remedy]) -> list[Suggestion]:
    """Return one fitting set of whatever size; empty when no combination fits.

    Lower numbers never need more, so they are taken at their lowest; of the other remedies every combination is tried,
    because some save in one place and cost in another.
    """
    for picked in _combinations(open_to):
        if _fits(request, picked):
            return _relaxed(request, now, _without_needless(request, picked))
    return []


def _combinations(open_to: Sequence[Remedy]) -> Iterator[list[Remedy]]:
    """Yield every combination of one remedy or none of each group, numbers at their lowest, most changes first."""
    lowest = {remedy.group: remedy for remedy in open_to if remedy.group in _NUMBERS}
    groups: dict[str, list[Remedy | None]] = {}
    for remedy in reversed(open_to):
        if remedy.group not in _NUMBERS:
            groups.setdefault(remedy.group, []).append(remedy)
    for choice in product(*([*group, None] for group in groups.values())):
        yield [*(remedy for remedy in choice if remedy is not None), *lowest.values()]


def _without_needless(request: PlanRequest, picked: list[Remedy]) -> list[Remedy]:
    """Leave out what is not needed, most harmful first."""
    for remedy in sorted(picked, key=lambda remedy: -remedy.harm):
        fewer = [other for other in picked if other is not remedy]
        if fewer and _fits(request, fewer):
            picked = fewer
    return picked


def _changes(picked: Iterable[Remedy]) -> dict[str, object]:
    """Return the changes together; those of a method come first, for others build on them."""
    together: dict[str, object] = {}
    for remedy in sorted(picked, key=lambda remedy: (remedy.group != "method", remedy.harm)):
        together.update(remedy.changes)
    return together


def _planned(request: PlanRequest, changes: Mapping[str, Any]) -> Plan | None:
    """Return the plan with these changes; None when they contradict each other."""
    try:
        return estimate(request.changed(**changes))
    except PlanError:
        return None


def _fits(request: PlanRequest, picked: Sequence[Remedy]) -> bool:
    plan = _planned(request, _changes(picked))
    return plan is not None and bool(plan.fits)


def _relaxed(request: PlanRequest, now: Plan, picked: Sequence[Remedy]) -> list[Suggestion]:
    """Return the mildest form of a fitting set: each lowered number is raised as far as the card allows."""
    mild = list(picked)
    for index, remedy in enumerate(mild):
        if remedy.group in ("seq_len", "rank"):
            before = getattr(request, remedy.group)
            best = largest(request.changed(**_changes(mild)), remedy.group)
            if best is not None and remedy.changes[remedy.group] < best < before:
                mild[index] = Remedy(remedy.group, {remedy.group: best}, harm_of(remedy.group, before, best))
    for answer in (mild, picked):
        made = _made(request, now, answer)
        if made is not None and made.fits:
            return [made]
    return []


def _made(request: PlanRequest, now: Plan, picked: Sequence[Remedy]) -> Suggestion | None:
    """Return the suggestion of these remedies together; None when they contradict each other."""
    changes = _changes(picked)
    plan = _planned(request, changes)
    if plan is None:
        return None
    harm = sum(remedy.harm for remedy in picked) + _EACH_CHANGE * len(picked)
    return Suggestion(
        changes,
        words(request, changes),
        now.device_peak - plan.device_peak,
        plan.device_peak,
        plan.fits,
        harm,
        _steps(request, now, picked),
    )


def _steps(request: PlanRequest, now: Plan, picked: Sequence[Remedy]) -> tuple[Saving, ...]:
    """Return what each change saves after those before it."""
    steps: list[Saving] = []
    peak, reached = now.device_peak, request
    for remedy in sorted(picked, key=lambda remedy: (remedy.group != "method", remedy.harm)):
        plan = _planned(reached, remedy.changes)
        if plan is None:
            return ()
        steps.append(Saving(words(reached, remedy.changes), peak - plan.device_peak))
        peak, reached = plan.device_peak, plan.request
    return tuple(steps)


def _nothing_fits(request: PlanRequest, now: Plan, open_to: Sequence[Remedy]) -> list[Suggestion]:
    """Return the settings that need least, though they do not fit, and a smaller model that does."""
    plans = [plan for picked in _combinations(open_to) if (plan := _planned(request, _changes(picked))) is not None]
    least = min([now, *plans], key=lambda plan: plan.device_peak)
    weights = weights_at_rest(least.request).total_bytes
    alone = weights > (now.free_bytes or 0)
    if alone:
        text = Phrase("planner.nothing.weights", size=weights / GIB)
    else:
        text = Phrase("planner.nothing.peak", size=least.device_peak / GIB)
    saved = now.device_peak - least.device_peak
    honest = Suggestion(_differences(request, least.request), text, saved, least.device_peak, False)
    return [honest, *_smaller_model(request, now, least.request)]


def _differences(request: PlanRequest, other: PlanRequest) -> dict[str, object]:
    """Return the fields in which another request differs, with its values."""
    return {
        field.name: getattr(other, field.name)
        for field in fields(request)
        if getattr(other, field.name) != getattr(request, field.name)
    }


def _smaller_model(request: PlanRequest, now: Plan, leanest: PlanRequest) -> list[Suggestion]:
    """Return the catalogue's largest open model that fits, with the settings as given or else with the leanest.

    Models of the same family come first.
    """
    for settings in (request, leanest):
        for model in sorted(all_models(), key=lambda model: _distance(request.model, model)):
            plan = _on_model(settings, model)
            if plan is not None and plan.fits:
                changes = _differences(request, plan.request)
                saved = now.device_peak - plan.device_peak
                return [Suggestion(changes, words(request, changes), saved, plan.device_peak, True)]
    return []


def _distance(wanted: ModelSpec, model: ModelSpec) -> tuple[bool, bool, int]:
    """Order models: open ones, then those of the same family, then by size, largest first."""
    gated = model.listing is not None and model.listing.gated
    return gated, model.family != wanted.family, -total_parameters(model)


def _on_model(settings: PlanRequest, model: ModelSpec) -> Plan | None:
    """Return the plan of these settings on another, smaller model; None where its weights alone are too large."""
    if total_parameters(model) >= total_parameters(settings.model):
        return None
    known = not unknown_targets(model, settings.targets)
    try:
        moved = settings.changed(model=model, targets=settings.targets if known else (ALL_LINEAR,))
    except PlanError:
        return None
    return estimate(moved) if weights_at_rest(moved).total_bytes <= (free_bytes(moved) or 0) else None
