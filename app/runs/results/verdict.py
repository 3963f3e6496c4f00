"""How a run went, in a word: read from its curves at the end, for people who do not read curves.

The limits are rules of thumb. They are wide, so that noise of single steps decides nothing: the loss is compared by
means over a tenth of the run or more, and a validation loss must have risen by a twentieth before it is called risen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.config.schema import RunConfig
from app.runs.results.curves import Curves
from app.runs.results.series import Series

Word = Literal["overfitted", "falling", "unmoved", "learned", "short"]

# Fewer logged steps than this say nothing.
_LEAST_POINTS = 8
# Shares of a loss: what counts as risen, as still falling, and as never moved.
_RISEN, _FALLING, _UNMOVED = 0.05, 0.05, 0.03
# At so low a mean loss the rows are known by heart, and what it still falls by is nothing to wait for.
_KNOWN_LOSS = 0.05
# Few rows need many steps: the bundled starter answered rightly on forty own rows after 400 steps of two packed
# rows, and gave gibberish after 80. Of many rows each should be seen once; a packed row holds about four.
_FEW_ROWS, _SEEN_ROWS, _PACKED = 200, 800, 4


@dataclass(frozen=True)
class Verdict:
    """What became of a run. `step` is the best checkpoint's step of an overfitted one, `steps` how many to try next."""

    word: Word
    step: int | None = None
    steps: int | None = None


def of(found: Curves, checkpoints: Sequence[int] = ()) -> Verdict | None:
    """Return the verdict on a run that has ended, or None where too little was logged to have one."""
    loss, validation = found["loss"], found["eval_loss"]
    if len(loss) < _LEAST_POINTS:
        return None
    points = list(zip(validation.steps, validation.values, strict=False))
    best = min(points, key=lambda point: point[1]) if len(points) > 1 else None
    if best is not None and best[0] < validation.steps[-1] and validation.values[-1] > (1 + _RISEN) * best[1]:
        return Verdict("overfitted", min(checkpoints, key=lambda one: abs(one - best[0]), default=None))
    first, before, last = _mean(loss, 0.0, 0.2), _mean(loss, 0.7, 0.85), _mean(loss, 0.85, 1.0)
    if last > (1 - _UNMOVED) * first:
        return Verdict("unmoved")
    if last > _KNOWN_LOSS and last < (1 - _FALLING) * before:
        return Verdict("falling", steps=2 * int(loss.steps[-1]))
    return Verdict("learned")


def suggested_steps(config: RunConfig, rows: int) -> int | None:
    """Return a number of steps for so many rows, or None where the plan's own is near enough.

    It is for a plan that counts steps; epochs follow the rows by themselves.
    """
    if rows <= 0 or config.training.max_steps <= 0:
        return None
    once = rows / (_PACKED if config.data.packing else 1)
    wanted = (_SEEN_ROWS if rows < _FEW_ROWS else once) / config.effective_batch
    steps = max(10, round(wanted / 10) * 10)
    return steps if config.training.max_steps < 0.6 * steps else None


def _mean(series: Series, start: float, end: float) -> float:
    """Return the mean of a part of a curve, by shares of its points; at least one of them."""
    count = len(series)
    first = min(int(start * count), count - 1)
    values = series.values[first : max(first + 1, round(end * count))]
    return sum(values) / len(values)
