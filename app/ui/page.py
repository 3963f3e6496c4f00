"""The page: the strip, the five tabs, and what happens when it is opened."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.data.client import DataClient
from app.jobs.supervisor import spawn_helper
from app.ui import strip, trials
from app.ui.frame import QUIET, STORAGE, Frame
from app.ui.language import Key, Speech
from app.ui.tabs import data, plan, playground, takeaway, train
from app.ui.wording import Wording
from app.workspace import Workspace

POLL_S = 2.0


def build(workspace: Workspace) -> gr.Blocks:
    """Build the whole page."""
    with gr.Blocks(title="LoRA Workbench", analytics_enabled=False, fill_width=True) as blocks:
        frame = Frame(
            blocks=blocks,
            workspace=workspace,
            wording=Wording(),
            language=gr.BrowserState(None, storage_key="workbench-language", secret=STORAGE),
            draft=gr.BrowserState(None, storage_key="workbench-draft", secret=STORAGE),
            tabs=gr.Tabs(elem_id="wb-tabs", render=False),
            timer=gr.Timer(POLL_S),
            data=DataClient(spawn_helper),
        )
        switch = _strip(frame)
        frame.tabs.render()
        with frame.tabs:
            with frame.tab("plan"):
                plan.build(frame)
            with frame.tab("data") as data_tab:
                data.build(frame, data_tab)
            with frame.tab("train"):
                trained = train.build(frame)
            with frame.tab("playground") as playground_tab:
                tried = playground.build(frame, playground_tab)
            with frame.tab("takeaway") as takeaway_tab:
                taken = takeaway.build(frame, takeaway_tab)
        _wire_steps(frame, trained, tried, taken)
        _wire_language(frame, switch)
    return blocks


def _strip(frame: Frame) -> gr.Button:
    """Build the strip and return its language switch."""
    make = frame.wording.make
    with gr.Row(elem_id="wb-strip-row"):
        line = gr.HTML(elem_id="wb-strip")
        stop = make(gr.Button, value=Key("strip.stop"), size="sm", variant="stop", visible=False, elem_id="wb-stop")
        switch = make(gr.Button, value=Key("strip.other_language"), size="sm", elem_id="wb-language")
        make(gr.Button, value=Key("strip.theme"), size="sm", elem_id="wb-theme")

    def show(language: Any) -> tuple[Any, Any]:
        text, job = strip.content(frame.workspace, Speech(language))
        return text, gr.update(visible=bool(job))

    def halt(language: Any) -> tuple[Any, Any]:
        strip.stop_current(frame.workspace)
        return show(language)

    gr.on([frame.blocks.load, frame.timer.tick, frame.language.change], show, frame.language, [line, stop], **QUIET)
    stop.click(halt, frame.language, [line, stop], **QUIET)
    return switch


def _wire_steps(frame: Frame, trained: train.TrainTab, tried: playground.PlaygroundTab, taken: gr.Dropdown) -> None:
    """Carry a run from Train to the playground, and an adapter from there to Take away."""

    def attempt(selected: Any) -> list[Any]:
        job = train.shown_run(frame.workspace, selected)
        offered = playground.choices(frame.workspace)
        of_job = [value for _, value in offered if job and value.partition(":")[0] == job.id][:1]
        prompts = trials.held_out_prompts(trials.find(frame.workspace, of_job[0])) if of_job else []
        prompt = prompts[0] if prompts else gr.skip()
        return [gr.update(choices=offered, value=of_job), prompt, gr.update(selected="playground")]

    def take(values: Any) -> list[Any]:
        value = values[0] if isinstance(values, list) and values else None
        return [gr.update(choices=playground.choices(frame.workspace), value=value), gr.update(selected="takeaway")]

    trained.try_it.click(attempt, trained.selected, [tried.chosen, tried.prompt, frame.tabs], **QUIET)
    tried.onward.click(take, tried.chosen, [taken, frame.tabs], **QUIET)


def _wire_language(frame: Frame, switch: gr.Button) -> None:
    """Say every text again when the language changes, and once when the page opens in another than English."""
    controls = frame.wording.controls

    def turn(language: Any) -> list[Any]:
        speech = Speech("en" if Speech(language).language == "zh" else "zh")
        return [speech.language, *frame.wording.updates(speech)]

    def greet(language: Any, request: gr.Request) -> list[Any]:
        if language is None:
            accepted = request.headers.get("accept-language", "")
            language = "zh" if accepted.lower().startswith("zh") else "en"
        speech = Speech(language)
        texts = frame.wording.updates(speech) if speech.language != "en" else [gr.skip()] * len(controls)
        return [speech.language, *texts]

    switch.click(turn, frame.language, [frame.language, *controls], **QUIET)
    frame.blocks.load(greet, frame.language, [frame.language, *controls], **QUIET)
