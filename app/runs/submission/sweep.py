"""A sweep: one run for every combination of a few settings' values, queued under a common name.

Everything is checked before anything is handed in: a combination that cannot run is told with all the others that
cannot, and no run is started.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from app.config.parsing import value_of
from app.config.problems import nearest_name
from app.config.schema import RunConfig
from app.config.sections import settings
from app.errors import ConfigError, Problem, UsageError, keyed
from app.jobs.directory import JobDirectory
from app.runs.submission import submit
from app.workspace import Workspace

# More runs than this are more likely a slip of the hand than a plan.
MOST_RUNS = 64
# What a sweep is about is not the data and the model: those stay the same, so that the runs can be compared.
_FIXED = ("model.name", "model.revision", "data.file", "data.format", "data.mapping")
_SHORT = {"r": "r", "lora_alpha": "alpha", "learning_rate": "lr", "target_modules": "targets"}


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its settings, and those of them that the sweep varies."""

    config: RunConfig
    varies: Mapping[str, object]

    @property
    def name(self) -> str:
        """Return what tells this run from its siblings, such as `r=8 lr=0.0001`."""
        return " ".join(f"{_short(name)}={_said(value)}" for name, value in self.varies.items())


def _short(name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    return _SHORT.get(last, last)


def _said(value: object) -> str:
    return "+".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def parse_axes(words: Iterable[str]) -> dict[str, list[object]]:
    """Read `setting=value,value` words. Raises ConfigError for all that are wrong, with the nearest right name.

    A list such as target_modules is written with a plus: `adapter.target_modules=all-linear,q_proj+v_proj`.
    """
    axes: dict[str, list[object]] = {}
    problems = []
    for word in words:
        name, sign, text = word.partition("=")
        name = name.strip()
        values = [part.strip() for part in re.split(r"[,;]", text) if part.strip()]
        if not sign or not values:
            problems.append(
                Problem(
                    word,
                    keyed("has_no_values", "has no values"),
                    keyed("write_setting_value_value", "write setting=value,value"),
                )
            )
        elif name in axes:
            problems.append(
                Problem(
                    name,
                    keyed("is_named_twice", "is named twice"),
                    keyed("put_all_its_values_into_one", "put all its values into one"),
                )
            )
        elif name in _FIXED:
            problems.append(
                Problem(
                    name,
                    keyed("is_the_same_for_all_runs", "is the same for all runs of a sweep"),
                    keyed("start_a_run_of_its_own", "start a run of its own"),
                )
            )
        elif name not in {name for name, _ in settings()}:
            near = nearest_name(name)
            problems.append(
                Problem(name, keyed("no_such_setting", "no such setting"), f"did you mean {near}?" if near else "")
            )
        else:
            axes[name] = list({repr(value): value for value in (value_of(name, part) for part in values)}.values())
    if problems:
        raise ConfigError(problems, "the sweep")
    return axes


def members(config: RunConfig, axes: Mapping[str, Sequence[object]]) -> list[Member]:
    """Return the run of every combination.

    Raises UsageError when there are too many, ConfigError with all that is wrong in any of them.
    """
    count = count_of(axes)
    if not axes:
        raise UsageError(
            keyed("the_sweep_varies_nothing", "The sweep varies nothing"),
            "",
            keyed("give_at_least_one_setting_two", "give at least one setting two values"),
        )
    if count > MOST_RUNS:
        raise UsageError(
            keyed("the_sweep_has_runs", "The sweep has {count} runs", count=count),
            keyed("at_most_are_queued_at_once", "at most {most_runs} are queued at once", most_runs=MOST_RUNS),
            keyed("drop_some_values", "drop some values"),
        )
    found: list[Member] = []
    problems: dict[str, Problem] = {}
    for values in product(*axes.values()):
        varies = dict(zip(axes, values, strict=True))
        try:
            found.append(Member(config.changed(varies, "the sweep"), varies))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(f"{problem.field} {problem.message}", problem)
    if problems:
        raise ConfigError(list(problems.values()), "the sweep")
    return found


def count_of(axes: Mapping[str, Sequence[object]]) -> int:
    """Return how many runs there are."""
    count = 1
    for values in axes.values():
        count *= len(values)
    return count


def start(workspace: Workspace, found: Sequence[Member], name: str = "") -> list[JobDirectory]:
    """Queue the runs of a sweep under a common name, in order.

    Raises what `runs.check` raises, before the first one is handed in.
    """
    sweep = " ".join(name.split())[:60] or f"sweep {time.strftime('%d %b %H:%M')}"
    for member in found:
        submit.check(workspace, member.config)
    return [
        submit.start(
            workspace,
            member.config,
            queue=True,
            name=f"{sweep}: {member.name}",
            sweep=sweep,
            varies=dict(member.varies),
        )
        for member in found
    ]
