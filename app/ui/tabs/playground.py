"""Playground: did it learn what I wanted?"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.requests import BASE
from app.errors import EngineError, UsageError, WorkbenchError
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import figures, notices, playground_view, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.ui.playground_view import Column
from app.ui.trials import Trial
from app.workspace import Workspace

# Text is drawn this often while it comes in; faster cannot be read.
_REDRAW_S = 0.12
_LOOK_S = 0.3
_LONGEST_PROMPT = 100_000


@dataclass(frozen=True)
class Wish:
    """What is asked of all columns. `temperature` 0 takes the likeliest token each time."""

    prompt: str
    system: str = ""
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int | None = None

    @classmethod
    def checked(cls, prompt: Any, system: Any, max_tokens: Any, temperature: Any, seed: Any) -> Wish:
        """Read the form. Raises UsageError for what no engine would take."""
        text = str(prompt or "").strip()
        if not text:
            raise UsageError("There is no prompt", "", "write a question")
        if len(text) > _LONGEST_PROMPT or len(str(system or "")) > _LONGEST_PROMPT:
            raise UsageError("The prompt is too long", f"more than {_LONGEST_PROMPT:,} characters", "shorten it")
        if not isinstance(max_tokens, (int, float)) or not 1 <= max_tokens <= 8192:
            raise UsageError("The number of tokens is out of range", "", "choose 1 to 8,192")
        if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 2:
            raise UsageError("The temperature is out of range", "", "choose 0 to 2; 0 takes the likeliest token")
        if seed is not None and (not isinstance(seed, (int, float)) or not 0 <= seed < 2**32):
            raise UsageError("The seed is out of range", "", "choose 0 to 4,294,967,295, or none")
        whole = None if seed is None else int(seed)
        return cls(text, str(system or "").strip(), int(max_tokens), float(temperature), whole)

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return the conversation."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]


News = tuple[Html, Html]


def answer(workspace: Workspace, values: Any, wish: Wish, say: Speech) -> Iterator[News]:
    """Yield (state, columns) while the engine loads and the answers come in. Raises WorkbenchError."""
    chosen = trials.together(workspace, values)
    job = trials.engine_for(workspace, chosen)
    shown = [Column(BASE, say("play.base"), chosen[0].config.model.name)]
    shown += [Column(trial.column, trial.name, say("play.rank", rank=trial.config.adapter.r)) for trial in chosen]
    for state in _loading(job, say):
        yield state, playground_view.columns(wish.prompt, shown, say)
    with EngineClient(wait_for_endpoint(job, timeout_s=30.0)) as client:
        _load_missing(client, chosen)
        yield from _stream(client, wish, shown, say)
    names = ", ".join(column.title for column in shown)
    yield notices.sentence(say("play.answered", names=names)), playground_view.columns(wish.prompt, shown, say)


def _loading(job: JobDirectory, say: Speech) -> Iterator[Html]:
    """Yield what the engine does until it serves. Raises EngineError when it ends instead."""
    began = time.monotonic()
    while (status := job.status()).phase != "serving":
        if status.final:
            raise EngineError("The engine did not start", status.reason or status.state, f"see the log of {job.id}")
        phase = say.known(f"phase.{status.phase}", status.phase or say("play.starting"))
        waited = figures.count(time.monotonic() - began)
        yield notices.sentence(say("play.loading", what=phase, seconds=waited))
        time.sleep(_LOOK_S)


def _load_missing(client: EngineClient, chosen: list[Trial]) -> None:
    held = {model["id"] for model in client.models()}
    for trial in chosen:
        if trial.column not in held:
            client.load_adapter(trial.column, str(trial.folder))


def _stream(client: EngineClient, wish: Wish, shown: list[Column], say: Speech) -> Iterator[News]:
    by_name = {column.name: column for column in shown}
    state = notices.sentence(say("play.answering"))
    drawn = 0.0
    events = client.chat_columns(
        list(by_name), wish.messages, max_tokens=wish.max_tokens, temperature=wish.temperature, seed=wish.seed
    )
    for event in events:
        column = by_name[event.column]
        column.text += event.text
        column.error = event.error or column.error
        if event.done is not None or event.error:
            column.facts, column.done = event.done or {}, True
        if time.monotonic() - drawn > _REDRAW_S:
            drawn = time.monotonic()
            yield state, playground_view.columns(wish.prompt, shown, say)


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Return the adapters that can be tried, as choices of a form."""
    return [(trial.name, trial.value) for trial in trials.all_trials(workspace)]


def opening(workspace: Workspace, say: Speech) -> Html:
    """Return the tab's sentence before anything was asked."""
    if not trials.all_trials(workspace):
        return notices.sentence(say("play.none"))
    return notices.sentence(say("play.ready"))


def free_memory(workspace: Workspace) -> None:
    """End every engine of the workspace."""
    for job in trials.living_engines(workspace):
        requests.stop(workspace, job)


def held_out(workspace: Workspace, values: Any) -> str:
    """Return a prompt that the chosen run has not been trained on, or an empty text."""
    try:
        prompts = trials.held_out_prompts(trials.together(workspace, values)[0])
    except WorkbenchError:
        return ""
    return random.choice(prompts) if prompts else ""


@dataclass(frozen=True)
class PlaygroundTab:
    """The controls that other tabs and the tour reach for."""

    chosen: gr.Dropdown
    prompt: gr.Textbox
    asked: gr.State
    onward: gr.Button


def build(frame: Frame, tab: gr.Tab) -> PlaygroundTab:
    """Build the tab and wire it."""
    make = frame.wording.make
    line, wrong = gr.HTML(elem_id="wb-play-sentence"), gr.HTML(elem_id="wb-play-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=1, min_width=280):
            chosen = make(
                gr.Dropdown, label=Key("play.adapters"), info=Key("play.adapters_help"), choices=[], multiselect=True,
                elem_id="wb-adapters",
            )  # fmt: skip
            system = make(gr.Textbox, label=Key("play.system"), lines=2, max_lines=4, elem_id="wb-system")
            with gr.Row():
                most = make(gr.Number, label=Key("play.max_tokens"), value=96, precision=0, min_width=90)
                warmth = make(gr.Number, label=Key("play.temperature"), value=0, step=0.1, min_width=90)
                seed = make(gr.Number, label=Key("play.seed"), value=0, precision=0, min_width=90)
            free = make(gr.Button, value=Key("play.free"), visible=False)
        with gr.Column(scale=3, min_width=320):
            prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-prompt")
            with gr.Row(elem_classes="wb-actions"):
                ask = make(gr.Button, value=Key("play.ask"), variant="primary", elem_id="wb-ask", scale=0)
                other = make(gr.Button, value=Key("play.held_out"), elem_id="wb-held-out", scale=0)
                halt = make(gr.Button, value=Key("play.halt"), scale=0)
            answers = gr.HTML(elem_id="wb-answers")
            onward = make(gr.Button, value=Key("play.onward"), variant="primary", elem_id="wb-take-away", scale=0)
    asked = gr.State(())
    form = (prompt, system, most, warmth, seed)
    _wire(frame, tab, (line, wrong, answers, free), chosen, form, (ask, other, halt), asked)
    return PlaygroundTab(chosen, prompt, asked, onward)


def _wire(
    frame: Frame,
    tab: gr.Tab,
    shown: tuple[gr.HTML, gr.HTML, gr.HTML, gr.Button],
    chosen: gr.Dropdown,
    form: tuple[Any, ...],
    buttons: tuple[gr.Button, gr.Button, gr.Button],
    asked: gr.State,
) -> None:
    line, *_, free = shown
    ask, other, halt = buttons
    workspace = frame.workspace

    def opened(language: Any, values: Any) -> list[Any]:
        offered = choices(workspace)
        known = {value for _, value in offered}
        kept = [value for value in values or [] if value in known] or [value for _, value in offered[:1]]
        engines = bool(trials.living_engines(workspace))
        return [
            opening(workspace, Speech(language)),
            gr.update(choices=offered, value=kept),
            gr.update(visible=engines),
        ]

    def compare(language: Any, values: Any, *fields: Any) -> Iterator[list[Any]]:
        say = Speech(language)
        try:
            for state, columns in answer(workspace, values, Wish.checked(*fields), say):
                yield [state, Html(""), columns, gr.update(visible=True)]
        except WorkbenchError as error:
            yield [opening(workspace, say), notices.problem(error), gr.skip(), gr.skip()]

    def release() -> Any:
        free_memory(workspace)
        return gr.update(visible=False)

    gr.on(
        [frame.blocks.load, tab.select, frame.language.change],
        opened,
        [frame.language, chosen],
        [line, chosen, free],
        **QUIET,
    )

    def compare_asked(language: Any, wanted: Any) -> Iterator[list[Any]]:
        run, prompt = wanted if isinstance(wanted, tuple) else ("", "")
        yield from compare(language, [run], prompt, "", 96, 0, 0)

    asking = gr.on([ask.click, form[0].submit], compare, [frame.language, chosen, *form], list(shown), **QUIET)
    led = asked.change(compare_asked, [frame.language, asked], list(shown), **QUIET)
    halt.click(None, None, None, cancels=[asking, led], api_visibility="private")
    other.click(lambda values: held_out(workspace, values), chosen, form[0], **QUIET)
    free.click(release, None, free, **QUIET)
