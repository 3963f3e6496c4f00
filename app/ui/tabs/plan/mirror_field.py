"""Where downloads come from: a mirror that a person names, asked once before it is kept, and who gets the token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.errors import WorkbenchError
from app.hub import address, mirror
from app.hub.address import HUB, Address
from app.ui.components import messages
from app.ui.components.handlers import QUEUED, Control, Parts, Updates, handler, text, ticked
from app.ui.components.markup import Html, element
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.workspace import Workspace

_FIELD = "wb-mirror"
_MOVED = Html("")


@dataclass(frozen=True)
class MirrorField:
    """The controls of the fold."""

    fold: Control
    url: gr.Textbox
    sends_token: gr.Checkbox
    keep: gr.Button
    said: gr.HTML

    def showing(self, workspace: Workspace) -> Updates:
        """Return what fills the field with the mirror that is kept."""
        kept = address.mirror_of(workspace) or Address("", sends_token=False)
        return Updates({self.url: kept.url, self.sends_token: kept.sends_token and bool(kept.url)})


def build(context: PageContext) -> MirrorField:
    """Build the fold with the field, the box and the button."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("models.settings"), open=False, elem_id="wb-models-settings") as fold:
        url = make(
            gr.Textbox,
            label=Key("models.mirror"),
            info=Key("models.mirror_help"),
            placeholder=HUB,
            max_lines=1,
            elem_id=_FIELD,
        )
        token = make(
            gr.Checkbox,
            label=Key("models.mirror_token"),
            info=Key("models.mirror_token_help"),
            value=False,
            elem_id="wb-mirror-token",
        )
        with gr.Row(elem_classes="wb-actions"):
            keep = make(gr.Button, value=Key("models.mirror_keep"), size="sm", elem_id="wb-mirror-keep", scale=0)
        said = gr.HTML(elem_id="wb-mirror-said", js_on_load=messages.AT_FIELDS)
    return MirrorField(fold, url, token, keep, said)


def wire(
    context: PageContext, field: MirrorField, show: Callable[[Translator], Updates], shows: Sequence[Control]
) -> None:
    """Wire the fold: a click or the key Enter asks the mirror and keeps it. `show` renews what says where from."""
    workspace, t = context.workspace, context.language_field

    def keep(url: str, sends_token: bool, t: Translator) -> Updates:
        return Updates({field.said: kept(workspace, url, sends_token, t), **show(t)})

    def fill() -> Updates:
        return Updates({**field.showing(workspace), field.said: _MOVED})

    reads: Parts = [text(field.url), ticked(field.sends_token), t]
    gr.on([field.keep.click, field.url.submit], **handler(keep, reads, [field.said, *shows], how=QUEUED))
    field.fold.expand(**handler(fill, shows=[field.url, field.sends_token, field.said]))
    # What was said of an address is not true of another.
    gr.on([field.url.input, field.sends_token.input], None, None, field.said, js="() => ''", queue=False)


def kept(workspace: Workspace, url: str, sends_token: bool, t: Translator) -> Html:
    """Keep the mirror that is named, once it has answered, and return what is said of it; empty takes it away."""
    try:
        found = mirror.named(url, sends_token) if url.strip() else None
        address.keep(workspace, found)
        where = address.of(workspace)
    except WorkbenchError as error:
        return messages.problem_at(error, _FIELD, t)
    if not where.is_mirror:
        return messages.note(t("models.from_here", host=where.host))
    words = "models.mirror_token_goes" if where.sends_token else "models.mirror_kept"
    return messages.note(t(words, host=where.host))


def source(workspace: Workspace, t: Translator) -> Html:
    """Return where the next download comes from."""
    try:
        where = t("models.from_here", host=address.of(workspace).host)
    except WorkbenchError as error:  # HF_ENDPOINT holds no address
        return messages.problem(error, t)
    return element("p", where, class_="wb-note wb-muted")
