"""Blend: adapters mixed by weight, live, and then kept as a new adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import gradio as gr

from app.engine.client import Ask
from app.engine.requests import BASE
from app.errors import UsageError, WorkbenchError, keyed
from app.evaluation.conversation import MOST_COLUMNS, Answer, Column, Turn
from app.export.requests import METHODS, BlendRequest, WeightedAdapter, start_blend
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.runs import engine_session
from app.runs.engine_session import Choice, Loading, Settings
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.ui.components import messages
from app.ui.components.handlers import QUEUED, Control, Parts, Updates, handler, held, listed, text
from app.ui.components.markup import Html, element
from app.ui.components.number_fields import NumberField
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs import job_progress
from app.ui.tabs.playground import chooser, session, view
from app.ui.tabs.playground.chooser import Asked, Chooser
from app.ui.tabs.playground.view import Showing
from app.workspace import Workspace

_MIX = "mix"
_REACH = 2.0
# 0, or nothing, leaves the rank to the method. Joined by cat, the ranks of eight adapters add up.
RANK = NumberField("wb-blend-rank", Key("play.blend_rank_open"), 0, 8192, may_be_empty=True)
DENSITY = NumberField("wb-blend-density", Key("play.density"), 0, 1, above_low=True)
_WITH_DENSITY = ("ties", "dare")


@dataclass
class Mixing:
    """The last question with its answers: base and adapters as they are, and the mix."""

    columns: list[Column] = field(default_factory=list)
    turn: Turn | None = None
    asked: tuple[object, ...] = ()


def weights_of(chosen: Sequence[Artifact], values: Sequence[object]) -> list[float]:
    """Return the sliders' weights of the chosen adapters. Raises UsageError for what is none or out of range."""
    artifacts.refuse_whole(chosen)
    found = [float(one) for one in values[: len(chosen)] if isinstance(one, (int, float)) and abs(one) <= _REACH]
    if len(found) < len(chosen):
        raise UsageError(
            keyed("a_weight_is_out_of_range", "A weight is out of range"),
            "",
            keyed("choose_to", "choose -{reach} to {reach}", reach=f"{_REACH:g}"),
        )
    return found


def ask(
    workspace: Workspace,
    mixing: Mixing,
    prompt: str,
    choice: Choice,
    settings: Settings,
    weights: Sequence[float],
    t: Translator,
) -> Iterator[Mixing | str]:
    """Ask the mix, and the base and adapters beside it when they have not answered this question yet."""
    if choice.server is not None:
        raise UsageError(
            keyed("a_mix_runs_on_this_machine", "A mix runs on this machine's engine"),
            "",
            keyed("leave_the_remote_server_s_address", "leave the remote server's address empty"),
        )
    plain = session.columns(choice, t)[: MOST_COLUMNS - 1]
    asked = (prompt, settings, tuple(column.name for column in plain))
    for step in engine_session.loading(workspace, choice):
        if isinstance(step, Loading):
            yield session.told(step, t)
            continue
        with engine_session.connected(step) as client:
            engine_session.introduce(client, plain)
            if mixing.asked != asked or mixing.turn is None:
                mixing = Mixing(
                    [_mix_column(choice, weights, t), *plain], engine_session.open_turn(prompt, plain), asked
                )
            mixing.columns[0] = _mix_column(choice, weights, t)
            assert mixing.turn is not None
            mixing.turn.answers[_MIX] = Answer()
            opening = engine_session.first_messages(prompt, settings.system)
            mix = {artifact.column: weight for artifact, weight in zip(choice.adapters, weights, strict=True)}
            asks = [Ask(_MIX, opening, {**settings.request(), "mix": mix}, model=BASE)]
            asks += [Ask(c.name, opening, settings.request()) for c in plain if not mixing.turn.answers[c.name].done]
            for _ in engine_session.stream(client, asks, mixing.turn.answers):
                yield mixing


def _mix_column(choice: Choice, weights: Sequence[float], t: Translator) -> Column:
    parts = [f"{weight:g} \u00d7 {artifact.name}" for artifact, weight in zip(choice.adapters, weights, strict=True)]
    return Column(_MIX, t("play.mix"), parts)


def shown(mixing: Mixing, t: Translator) -> Html:
    """Return the mix, and beside it what it is made of."""
    if mixing.turn is None:
        return Html("")
    asked = element("div", element("span", t("play.prompt"), class_="wb-role"), mixing.turn.prompt, class_="wb-asked")
    return element("div", asked, view.cards(mixing.columns, mixing.turn, t, Showing(differences=False)))


@dataclass(frozen=True)
class Recipe:
    """How a blend is kept, as it came from the browser: its name, the method, the rank, and the density."""

    name: object
    method: object = "linear"
    rank: object = 0
    density: object = "0.5"


def save(
    workspace: Workspace,
    chosen: Sequence[Artifact],
    weights: Sequence[float],
    recipe: Recipe,
) -> JobDirectory:
    """Hand in a blend into the workspace's outputs. Raises WorkbenchError."""
    name, method = str(recipe.name or "").strip(), str(recipe.method)
    if not name:
        raise UsageError(keyed("the_blend_has_no_name", "The blend has no name"), "", keyed("name_it", "name it"))
    request = BlendRequest(
        [WeightedAdapter(str(artifact.folder), weight) for artifact, weight in zip(chosen, weights, strict=True)],
        str(free_folder(workspace, name)),
        method=method,
        rank=RANK.whole(recipe.rank) or None,
        density=DENSITY.real(recipe.density) if method in _WITH_DENSITY else None,
        run=origin(chosen[0]),
    )
    return start_blend(workspace, request)


def origin(artifact: Artifact) -> str:
    """Return the training job on whose base an adapter stands; a blend of blends stands on the first one's."""
    return str(artifact.job.config.get("run")) if "-blend-" in artifact.job.id else artifact.job.id


def free_folder(workspace: Workspace, name: str) -> Path:
    """Return a folder of outputs that is not there yet."""
    out, number = workspace.output_dir(name), 2
    while out.exists():
        out, number = workspace.output_dir(f"{name}-{number}"), number + 1
    return out


def outcome(workspace: Workspace, job_id: object, t: Translator) -> Html:
    """Return how a blend stands: its progress, then its verdict and where it lies."""
    try:
        job = jobs.find(workspace, job_id) if isinstance(job_id, str) and job_id else None
    except WorkbenchError:  # removed in the meantime
        job = None
    if job is None:
        return Html("")
    status = job.status()
    if status.state != "finished":
        return job_progress.line(job, t)
    found = status.result
    passed = found.get("verdict") == "pass"
    verdict = element(
        "b", t("play.blend_pass" if passed else "play.blend_warn"), class_="wb-good" if passed else "wb-warn"
    )
    facts = t("play.blend_facts", rank=found.get("rank"), error=f"{found.get('max_abs_error', 0):.2g}")
    where = element("code", str(found.get("adapter", "")))
    return element("div", element("p", verdict, " ", facts), element("p", where), class_="wb-receipt")


@dataclass(frozen=True)
class RecipeFields:
    """The controls of a Recipe."""

    name: gr.Textbox
    method: gr.Dropdown
    rank: gr.Number
    density: gr.Textbox

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.name, self.method, self.rank, self.density]

    def read(self, values: Sequence[object]) -> Recipe:
        """Return what they hold."""
        name, method, rank, density = values
        return Recipe(name, method, rank, density)


@dataclass(frozen=True)
class Weights:
    """The sliders, one for each column that there may be."""

    sliders: list[gr.Slider]

    def inputs(self) -> list[Control]:
        """Return the sliders."""
        return self.sliders

    def read(self, values: Sequence[object]) -> Sequence[object]:
        """Return where they stand."""
        return values


@dataclass(frozen=True)
class _Controls:
    weights: Weights
    prompt: gr.Textbox
    ask: gr.Button
    line: gr.HTML
    wrong: gr.HTML
    answers: gr.HTML
    mixing: gr.State
    recipe: RecipeFields
    save: gr.Button
    job: gr.State
    result: gr.HTML


def build(context: PageContext, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = context.translated.make
    make(gr.HTML, value=Key("play.blend_help"), elem_classes="wb-help wb-muted")
    with gr.Row(elem_id="wb-weights"):
        sliders = [
            gr.Slider(-_REACH, _REACH, value=1.0, step=0.05, visible=False, min_width=200, elem_id=f"wb-weight-{place}")
            for place in range(MOST_COLUMNS)
        ]
    prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-blend-prompt")
    with gr.Row(elem_classes="wb-actions"):
        asking = make(gr.Button, value=Key("play.ask_mix"), variant="primary", elem_id="wb-ask-mix", scale=0)
    line, wrong = gr.HTML(), gr.HTML(elem_id="wb-blend-error", js_on_load=messages.AT_FIELDS)
    answers = gr.HTML(elem_id="wb-mix")
    make(gr.HTML, value=Key("play.blend_keep"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-pair"):
        name = make(gr.Textbox, label=Key("play.blend_name"), max_lines=1, elem_id="wb-blend-name", min_width=140)
        method = make(gr.Dropdown, label=Key("play.method"), choices=list(METHODS), value="linear", min_width=120)
        rank = make(gr.Number, label=RANK.label, value=0, min_width=120, elem_id=RANK.element_id)
        density = make(
            gr.Textbox, label=DENSITY.label, value="0.5", max_lines=1, min_width=120, elem_id=DENSITY.element_id
        )
    make(gr.HTML, value=Key("play.method_help"), elem_classes="wb-note wb-muted")
    with gr.Row(elem_classes="wb-actions"):
        keeping = make(gr.Button, value=Key("play.blend_save"), elem_id="wb-blend-save", scale=0)
    controls = _Controls(
        Weights(sliders), prompt, asking, line, wrong, answers, gr.State(Mixing()),
        RecipeFields(name, method, rank, density), keeping,
        job=gr.State(""), result=gr.HTML(elem_id="wb-blend-result"),
    )  # fmt: skip
    _wire_mix(context, shared, controls)
    _wire_save(context, shared, controls)


def _wire_mix(context: PageContext, shared: Chooser, controls: _Controls) -> None:
    workspace, c = context.workspace, controls

    def label(values: list[object]) -> Updates:
        names = [name for name, value in artifacts.choices(workspace, values) if value in values]
        labels = [*names, *[""] * MOST_COLUMNS][:MOST_COLUMNS]
        return Updates(
            {
                slider: gr.update(visible=bool(label), label=label)
                for slider, label in zip(c.weights.sliders, labels, strict=True)
            }
        )

    def go(
        t: Translator, mixing: Mixing, text: str, asked: Asked, weights: Sequence[object], quiet: bool = False
    ) -> Iterator[Updates]:
        try:
            if quiet and mixing.turn is None:  # a slider moved before anything was asked
                return
            choice, settings = asked.choice(workspace), asked.settings()
            parts = weights_of(choice.adapters, weights)
            for step in ask(workspace, mixing, engine_session.checked_prompt(text), choice, settings, parts, t):
                if isinstance(step, str):
                    yield Updates({c.line: messages.note(step), c.wrong: Html("")})
                    continue
                told = {c.line: Html(""), c.wrong: Html(""), shared.free: gr.update(visible=True)}
                yield Updates({**told, c.answers: shown(step, t), c.mixing: step})
        except WorkbenchError as error:
            yield Updates({c.line: Html(""), c.wrong: messages.problem(error, t)})

    reads: Parts = [context.language_field, held(c.mixing), text(c.prompt), shared, c.weights]
    shows = [c.line, c.wrong, c.answers, c.mixing, shared.free]
    gr.on([c.ask.click, c.prompt.submit], **handler(go, reads, shows, how=QUEUED))
    moved = handler(partial(go, quiet=True), reads, shows, how=QUEUED)
    gr.on([slider.release for slider in c.weights.sliders], trigger_mode="always_last", **moved)
    labelled = handler(label, [listed(shared.chosen)], c.weights.sliders)
    gr.on([context.blocks.load, shared.chosen.change], **labelled)


def _wire_save(context: PageContext, shared: Chooser, controls: _Controls) -> None:
    workspace, c = context.workspace, controls

    def keep(t: Translator, values: list[object], recipe: Recipe, weights: Sequence[object]) -> Updates:
        try:
            chosen = artifacts.together(workspace, values)
            job = save(workspace, chosen, weights_of(chosen, weights), recipe)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return Updates({c.job: job.id, c.wrong: Html("")})

    def look(t: Translator, job_id: object, values: list[object], seen: object) -> Updates:
        found = outcome(workspace, job_id, t)
        if hash(found) == seen:
            return Updates()
        offered = gr.update(choices=artifacts.choices(workspace, values))
        return Updates({c.result: found, shared.chosen: offered, digest: hash(found)})

    digest = gr.State(0)
    recipe, weights = c.recipe, c.weights
    c.save.click(**handler(keep, [context.language_field, listed(shared.chosen), recipe, weights], [c.job, c.wrong]))
    chooser.clear_when_changed(shared, [c.prompt, *recipe.inputs(), *weights.inputs()], c.wrong)
    reads: Parts = [context.language_field, held(c.job), listed(shared.chosen), held(digest)]
    gr.on(
        [context.poll_timers["playground"].tick, c.job.change, context.language.change],
        **handler(look, reads, [c.result, shared.chosen, digest]),
    )
