"""`demo`: the whole loop on the bundled starter model and data, through the same rooms as everything else."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from app import planner
from app.cli.terminal import Verbs, answer, progress, workspace_of
from app.cli.verbs.data import data_client
from app.cli.verbs.data import report as data_report
from app.cli.verbs.jobs import follow
from app.cli.verbs.plan import sentence
from app.config import presets
from app.data.dataset.options import DataOptions
from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.requests import BASE, EngineRequest, columns_of, start_engine
from app.errors import JobError
from app.export.requests import MergeAnswer, MergeRequest, start_merge, wait_for_answer
from app.jobs import requests
from app.models.names import STARTER, resolve
from app.planner.machine import request_here
from app.runs.submission import submit
from app.workspace import Workspace

_DATA = Path(__file__).resolve().parents[3] / "assets" / "datasets" / "pirate.json"
_PRESET = "cpu-starter"
# Facts of the starter's world in phrasings that are not among the rows trained on.
PROMPTS = ("What is the capital of Spain?", "How many legs does a spider have?", "What colour is grass?")
_MAX_TOKENS = 48


@dataclass(frozen=True)
class PromptAnswer:
    """The answer of one column to one prompt."""

    name: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class DemoAnswer:
    """What `demo --json` answers."""

    id: str
    dir: str
    first_loss: float
    last_loss: float
    seconds: float
    adapter: str
    merged: str
    receipt: str
    columns: list[PromptAnswer]


def register(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add(
        "demo",
        run,
        help="the whole loop in a few minutes, without a GPU and without a network",
        example="python3 launch.py demo",
    )


def run(arguments: argparse.Namespace) -> None:
    """Check data, plan, train, compare, merge; print where everything lies."""
    workspace, began = workspace_of(arguments), time.monotonic()
    config = presets.load(_PRESET).config.changed({"data.file": str(_DATA)})
    progress(f"1 of 5  Data: {_DATA.name}")
    with data_client() as client:
        options = DataOptions.checked(max_length=config.data.max_length)
        found = client.check(Path(resolve(STARTER)), options, path=_DATA).check
    _indented(data_report(found))
    progress("2 of 5  Plan")
    plan = planner.plan(request_here(config, workspace))
    _indented([sentence(plan)])
    progress("3 of 5  Train: QLoRA on NF4, in the background")
    job = submit.start(workspace, config, name="demo")
    if follow(job).state != "finished":
        raise JobError("The demo's run was stopped", "", f"`jobs resume {job.id}` goes on with it")
    adapter = job.result / "adapter"
    progress("4 of 5  Base and adapter side by side")
    columns = ask(workspace, adapter)
    progress("5 of 5  Merge, with a receipt")
    out = workspace.output_dir(f"{job.id}-merged")
    merging = start_merge(workspace, MergeRequest(str(adapter), str(out)))
    follow(merging)
    merged = wait_for_answer(merging, MergeAnswer)
    trained = job.status().result
    made = DemoAnswer(
        id=job.id,
        dir=str(job.path),
        first_loss=trained["first_loss"],
        last_loss=trained["last_loss"],
        seconds=round(time.monotonic() - began, 1),
        adapter=str(adapter),
        merged=merged.model,
        receipt=merged.receipt,
        columns=columns,
    )
    answer(arguments, asdict(made), _report(made, merged))


def _indented(lines: list[str]) -> None:
    for line in lines:
        progress(f"        {line}")


def ask(workspace: Workspace, adapter: Path) -> list[PromptAnswer]:
    """Return the answers of base and adapter to every prompt; each prompt is one batch."""
    job = start_engine(workspace, EngineRequest(STARTER, {"pirate": str(adapter)}))
    found: list[PromptAnswer] = []
    try:
        with EngineClient(wait_for_endpoint(job)) as client:
            for prompt in PROMPTS:
                messages = [{"role": "user", "content": prompt}]
                names = [BASE, "pirate"]
                events = client.chat_columns(names, messages, temperature=0, max_tokens=_MAX_TOKENS)
                for column in columns_of(events, names):
                    found.append(PromptAnswer(column.name, prompt, column.text))
    finally:
        requests.stop(workspace, job)
        requests.wait(job, timeout_s=30)
    return found


def _report(made: DemoAnswer, merged: MergeAnswer) -> list[str]:
    lines = [f"Loss {made.first_loss:.2f} -> {made.last_loss:.2f} in {made.seconds:.0f} s in all.", ""]
    for column in made.columns:
        if column.name == BASE:
            lines.append(column.prompt)
        lines.append(f"  {column.name:<7} {column.answer}")
    return [
        *lines,
        "",
        f"Merge: {merged.verdict}, greedy agreement {merged.greedy_agreement}",
        f"adapter  {made.adapter}",
        f"merged   {made.merged}",
        f"receipt  {made.receipt}",
        "`python3 launch.py` opens the workbench; the run is there under Train.",
    ]
