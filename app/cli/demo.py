"""`demo`: the whole loop on the bundled starter model and data, through the same rooms as everything else."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from app import catalog, planner, presets, runs
from app.cli.data import data_client
from app.cli.data import report as data_report
from app.cli.jobs import follow
from app.cli.plan import sentence
from app.cli.terminal import Verbs, answer, progress, workspace_of
from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.requests import BASE, columns_of, start_engine
from app.errors import JobError
from app.export.requests import figures, start_merge
from app.jobs import requests
from app.models.names import STARTER, resolve
from app.planner.from_config import request_from_config
from app.workspace import Workspace

_DATA = Path(__file__).resolve().parents[2] / "assets" / "datasets" / "pirate.json"
_PRESET = "cpu-starter"
# Facts of the starter's world in phrasings that are not among the rows trained on.
PROMPTS = ("What is the capital of Spain?", "How many legs does a spider have?", "What colour is grass?")
_MAX_TOKENS = 48


def register(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add(
        "demo",
        run,
        help="the whole loop in a few minutes, without a card and without a network",
        example="python3 launch.py demo",
    )


def run(arguments: argparse.Namespace) -> None:
    """Check data, plan, train, compare, merge; print where everything lies."""
    workspace, began = workspace_of(arguments), time.monotonic()
    config = presets.load(_PRESET).config.changed({"data.file": str(_DATA)})
    progress(f"1 of 5  Data: {_DATA.name}")
    with data_client() as client:
        options = {"max_length": config.data.max_length}
        found = client.check(Path(resolve(STARTER)), options, path=_DATA)["check"]
    _indented(data_report(found))
    progress("2 of 5  Plan")
    plan = planner.plan(request_from_config(config, catalog.find(STARTER), dtype="fp32"))
    _indented([sentence(plan.to_json())])
    progress("3 of 5  Train: QLoRA on NF4, in the background")
    job = runs.start(workspace, config, name="demo")
    if follow(job).state != "finished":
        raise JobError("The demo's run was stopped", "", f"`jobs resume {job.id}` goes on with it")
    adapter = job.result / "adapter"
    progress("4 of 5  Base and adapter side by side")
    columns = ask(workspace, adapter)
    progress("5 of 5  Merge, with a receipt")
    merging = start_merge(workspace, adapter, workspace.output_dir(f"{job.id}-merged"))
    merged = figures(follow(merging), merging)
    trained = job.status().result
    facts = {
        "id": job.id,
        "dir": str(job.path),
        "first_loss": trained["first_loss"],
        "last_loss": trained["last_loss"],
        "seconds": round(time.monotonic() - began, 1),
        "adapter": str(adapter),
        "merged": merged["model"],
        "receipt": merged["receipt"],
        "columns": columns,
    }
    answer(arguments, facts, _report(facts, merged))


def _indented(lines: list[str]) -> None:
    for line in lines:
        progress(f"        {line}")


def ask(workspace: Workspace, adapter: Path) -> list[dict[str, Any]]:
    """Return the answers of base and adapter to every prompt; each prompt is one batch."""
    job = start_engine(workspace, STARTER, {"pirate": adapter})
    found: list[dict[str, Any]] = []
    try:
        with EngineClient(wait_for_endpoint(job)) as client:
            for prompt in PROMPTS:
                messages = [{"role": "user", "content": prompt}]
                names = [BASE, "pirate"]
                events = client.chat_columns(names, messages, temperature=0, max_tokens=_MAX_TOKENS)
                for column in columns_of(events, names):
                    found.append({"name": column["name"], "prompt": prompt, "answer": column["text"]})
    finally:
        requests.stop(workspace, job)
        requests.wait(job, timeout_s=30)
    return found


def _report(facts: dict[str, Any], merged: dict[str, Any]) -> list[str]:
    lines = [f"Loss {facts['first_loss']:.2f} -> {facts['last_loss']:.2f} in {facts['seconds']:.0f} s in all.", ""]
    for column in facts["columns"]:
        if column["name"] == BASE:
            lines.append(column["prompt"])
        lines.append(f"  {column['name']:<7} {column['answer']}")
    return [
        *lines,
        "",
        f"Merge: {merged['verdict']}, greedy agreement {merged['greedy_agreement']}",
        f"adapter  {facts['adapter']}",
        f"merged   {facts['merged']}",
        f"receipt  {facts['receipt']}",
        "`python3 launch.py` opens the workbench; the run is there under Train.",
    ]
