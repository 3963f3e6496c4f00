"""What was preferred becomes the next run: its pairs as data, DPO as objective, the chosen adapter as start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.evaluation import preferences
from app.evaluation.preferences import Row
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.on_disk import artifacts
from app.ui.components.handlers import Part
from app.ui.tabs.playground.chooser import first_of
from app.workspace import Workspace

# A run on some tens of votes: a step size that moves an adapter without breaking it, and a pass or a few over them.
_OBJECTIVE: dict[str, object] = {
    "training.objective": "dpo",
    "training.num_train_epochs": 3.0,
    "training.max_steps": -1,
    "training.warmup_steps": 0.1,
    "data.validation_split": 0.0,
}
# Preferences break with step sizes at which answers are learned well.
_SLOWER = 0.2


def next_run(workspace: Workspace, values: object, rows: Sequence[Row], name: str) -> tuple[Draft, DatasetSelection]:
    """Keep the pairs and return the draft that learns them, going on from the first chosen adapter, and its data.

    Raises WorkbenchError where nothing was preferred, or no adapter is chosen.
    """
    preferences.refuse_none(rows)
    artifact = artifacts.find(workspace, first_of(values))
    file = preferences.keep(workspace, rows, name)
    seen = DatasetSelection(file=str(file), label=name)
    start = {} if artifact.whole else {"adapter.start_from": str(artifact.folder)}
    rate = {"training.learning_rate": artifact.config.training.learning_rate * _SLOWER}
    config = artifact.config.changed({**_OBJECTIVE, **start, **rate})
    return Draft(config, planned=True).with_data(seen, len(rows)), seen


@dataclass(frozen=True)
class Learning:
    """A button that carries the pairs of `rows`, called with the values of `inputs`, into the next run.

    `name` is what the data are called, `wrong` where it says why nothing is learned.
    """

    button: gr.Button
    wrong: gr.HTML
    rows: Callable[..., Sequence[Row]]
    name: str
    inputs: Sequence[Part[object]] = ()
