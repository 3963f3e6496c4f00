"""Blend: adapters mixed by weight, live, and then kept as a new adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.engine.client import Ask
from app.engine.requests import BASE
from app.errors import UsageError, WorkbenchError
from app.export.requests import METHODS, start_blend
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.ui import notices, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html, element
from app.ui.playground import chooser, progress, session, view
from app.ui.playground.chooser import Chooser
from app.ui.playground.conversation import MOST_COLUMNS, Answer, Column, Turn
from app.ui.playground.session import Choice, Settings
from app.ui.playground.view import Showing
from app.ui.trials import Trial
from app.workspace import Workspace

_MIX = "mix"
_REACH = 2.0


@dataclass
class Mixing:
    """The last question with its answers: base and adapters as they are, and the mix."""

    columns: list[Column] = field(default_factory=list)
    turn: Turn | None = None
    asked: tuple[Any, ...] = ()


def weights_of(chosen: Sequence[Trial], values: Sequence[Any]) -> list[float]:
    """Return the sliders' weights of the chosen adapters. Raises UsageError for what is none or out of range."""
    trials.refuse_whole(chosen)
    found = list(values[: len(chosen)])
    if len(found) < len(chosen) or not all(isinstance(one, (int, float)) and abs(one) <= _REACH for one in found):
        raise UsageError("A weight is out of range", "", f"choose -{_REACH:g} to {_REACH:g}")
    return [float(one) for one in found]


def ask(
    workspace: Workspace,
    mixing: Mixing,
    prompt: str,
    choice: Choice,
    settings: Settings,
    weights: Sequence[float],
    say: Speech,
) -> Iterator[Mixing | str]:
    """Ask the mix, and the base and adapters beside it when they have not answered this question yet."""
    if choice.server is not None:
        raise UsageError("A mix runs on this machine's engine", "", "leave the other server's address empty")
    plain = choice.columns(say)[: MOST_COLUMNS - 1]
    asked = (prompt, settings, tuple(column.name for column in plain))
    for step in session.loading(workspace, choice, say):
        if isinstance(step, str):
            yield step
            continue
        with session.connected(step) as client:
            session.introduce(client, plain)
            if mixing.asked != asked or mixing.turn is None:
                mixing = Mixing([_mix_column(choice, weights, say), *plain], session.open_turn(prompt, plain), asked)
            mixing.columns[0] = _mix_column(choice, weights, say)
            assert mixing.turn is not None
            mixing.turn.answers[_MIX] = Answer()
            messages = session.first_messages(prompt, settings.system)
            mix = {trial.column: weight for trial, weight in zip(choice.trials, weights, strict=True)}
            asks = [Ask(_MIX, messages, {**settings.request(), "mix": mix}, model=BASE)]
            asks += [Ask(c.name, messages, settings.request()) for c in plain if not mixing.turn.answers[c.name].done]
            for _ in session.stream(client, asks, mixing.turn.answers):
                yield mixing


def _mix_column(choice: Choice, weights: Sequence[float], say: Speech) -> Column:
    parts = [f"{weight:g} \u00d7 {trial.name}" for trial, weight in zip(choice.trials, weights, strict=True)]
    return Column(_MIX, say("play.mix"), parts)


def shown(mixing: Mixing, say: Speech) -> Html:
    """Return the mix, and beside it what it is made of."""
    if mixing.turn is None:
        return Html("")
    asked = element("div", element("span", say("play.prompt"), class_="wb-role"), mixing.turn.prompt, class_="wb-asked")
    return element("div", asked, view.cards(mixing.columns, mixing.turn, say, Showing(differences=False)))


def save(
    workspace: Workspace,
    chosen: Sequence[Trial],
    weights: Sequence[float],
    name: Any,
    method: Any,
    rank: Any,
    density: Any,
) -> JobDirectory:
    """Hand in a blend into the workspace's outputs. Raises WorkbenchError."""
    text = str(name or "").strip()
    if not text:
        raise UsageError("The blend has no name", "", "name it")
    pairs = list(zip((trial.folder for trial in chosen), weights, strict=True))
    return start_blend(
        workspace,
        pairs,
        free_folder(workspace, text),
        method=str(method),
        rank=int(rank) if isinstance(rank, (int, float)) and rank >= 1 else None,
        density=float(density) if isinstance(density, (int, float)) and str(method) in ("ties", "dare") else None,
        run=origin(chosen[0]),
    )


def origin(trial: Trial) -> str:
    """Return the training job on whose base an adapter stands; a blend of blends stands on the first one's."""
    return str(trial.job.config.get("run")) if "-blend-" in trial.job.id else trial.job.id


def free_folder(workspace: Workspace, name: str) -> Path:
    """Return a folder of outputs that is not there yet."""
    out, number = workspace.output_dir(name), 2
    while out.exists():
        out, number = workspace.output_dir(f"{name}-{number}"), number + 1
    return out


def outcome(workspace: Workspace, job_id: Any, say: Speech) -> Html:
    """Return how a blend stands: its progress, then its verdict and where it lies."""
    try:
        job = jobs.find(workspace, job_id) if isinstance(job_id, str) and job_id else None
    except WorkbenchError:  # removed in the meantime
        job = None
    if job is None:
        return Html("")
    status = job.status()
    if status.state != "finished":
        return progress.line(job, say)
    found = status.result
    passed = found.get("verdict") == "pass"
    verdict = element(
        "b", say("play.blend_pass" if passed else "play.blend_warn"), class_="wb-good" if passed else "wb-warn"
    )
    facts = say("play.blend_facts", rank=found.get("rank"), error=f"{found.get('max_abs_error', 0):.2g}")
    where = element("code", str(found.get("adapter", "")))
    return element("div", element("p", verdict, " ", facts), element("p", where), class_="wb-receipt")


@dataclass(frozen=True)
class _Controls:
    sliders: list[gr.Slider]
    prompt: gr.Textbox
    ask: gr.Button
    line: gr.HTML
    wrong: gr.HTML
    answers: gr.HTML
    mixing: gr.State
    recipe: list[Any]
    save: gr.Button
    job: gr.State
    result: gr.HTML


def build(frame: Frame, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = frame.wording.make
    make(gr.HTML, value=Key("play.blend_help"), elem_classes="wb-help wb-muted")
    with gr.Row(elem_id="wb-weights"):
        sliders = [
            gr.Slider(-_REACH, _REACH, value=1.0, step=0.05, visible=False, min_width=200, elem_id=f"wb-weight-{place}")
            for place in range(MOST_COLUMNS)
        ]
    prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-blend-prompt")
    with gr.Row(elem_classes="wb-actions"):
        asking = make(gr.Button, value=Key("play.ask_mix"), variant="primary", elem_id="wb-ask-mix", scale=0)
    line, wrong = gr.HTML(), gr.HTML()
    answers = gr.HTML(elem_id="wb-mix")
    make(gr.HTML, value=Key("play.blend_keep"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-pair"):
        name = make(gr.Textbox, label=Key("play.blend_name"), max_lines=1, elem_id="wb-blend-name", min_width=140)
        method = make(gr.Dropdown, label=Key("play.method"), choices=list(METHODS), value="linear", min_width=120)
        rank = make(gr.Number, label=Key("play.blend_rank_open"), value=0, precision=0, min_width=120)
        density = make(gr.Number, label=Key("play.density"), value=0.5, step=0.1, min_width=120)
    make(gr.HTML, value=Key("play.method_help"), elem_classes="wb-note wb-muted")
    with gr.Row(elem_classes="wb-actions"):
        keeping = make(gr.Button, value=Key("play.blend_save"), elem_id="wb-blend-save", scale=0)
    controls = _Controls(
        sliders, prompt, asking, line, wrong, answers, gr.State(Mixing()), [name, method, rank, density], keeping,
        job=gr.State(""), result=gr.HTML(elem_id="wb-blend-result"),
    )  # fmt: skip
    _wire_mix(frame, shared, controls)
    _wire_save(frame, shared, controls)


def _wire_mix(frame: Frame, shared: Chooser, controls: _Controls) -> None:
    workspace = frame.workspace

    def label(values: Any) -> list[Any]:
        names = [name for name, value in trials.choices(workspace, values) if value in (values or [])]
        return [
            gr.update(visible=place < len(names), label=names[place] if place < len(names) else "")
            for place in range(MOST_COLUMNS)
        ]

    def go(language: Any, mixing: Mixing, text: Any, *values: Any, quiet: bool = False) -> Iterator[list[Any]]:
        say = Speech(language)
        try:
            if quiet and mixing.turn is None:  # a slider moved before anything was asked
                return
            choice, settings = chooser.read(workspace, values[: chooser.WIDTH])
            weights = weights_of(choice.trials, values[chooser.WIDTH :])
            for step in ask(workspace, mixing, session.checked_prompt(text), choice, settings, weights, say):
                if isinstance(step, str):
                    yield [notices.note(step), Html(""), gr.skip(), gr.skip(), gr.skip()]
                else:
                    yield [Html(""), Html(""), shown(step, say), step, gr.update(visible=True)]
        except WorkbenchError as error:
            yield [Html(""), notices.problem(error), gr.skip(), gr.skip(), gr.skip()]

    inputs = [frame.language, controls.mixing, controls.prompt, *shared.inputs, *controls.sliders]
    outputs = [controls.line, controls.wrong, controls.answers, controls.mixing, shared.free]
    gr.on([controls.ask.click, controls.prompt.submit], go, inputs, outputs, **QUIET)
    moved = [slider.release for slider in controls.sliders]
    gr.on(moved, partial(go, quiet=True), inputs, outputs, trigger_mode="always_last", **QUIET)
    gr.on([frame.blocks.load, shared.chosen.change], label, shared.chosen, controls.sliders, **QUIET)


def _wire_save(frame: Frame, shared: Chooser, controls: _Controls) -> None:
    workspace = frame.workspace

    def keep(values: Any, name: Any, method: Any, rank: Any, density: Any, *weights: Any) -> list[Any]:
        try:
            chosen = trials.together(workspace, values)
            job = save(workspace, chosen, weights_of(chosen, weights), name, method, rank, density)
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]
        return [job.id, Html("")]

    def look(language: Any, job_id: Any, values: Any, seen: Any) -> list[Any]:
        found = outcome(workspace, job_id, Speech(language))
        if hash(found) == seen:
            return [gr.skip()] * 3
        return [found, gr.update(choices=trials.choices(workspace, values)), hash(found)]

    digest = gr.State(0)
    controls.save.click(
        keep, [shared.chosen, *controls.recipe, *controls.sliders], [controls.job, controls.wrong], **QUIET
    )
    gr.on(
        [frame.watches["playground"].tick, controls.job.change, frame.language.change],
        look,
        [frame.language, controls.job, shared.chosen, digest],
        [controls.result, shared.chosen, digest],
        **QUIET,
    )
