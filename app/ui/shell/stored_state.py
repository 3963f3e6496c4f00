"""What the browser kept from the last visit: shown as it is, or set aside with a line that says so.

It may be of another version, cut off, or written by anyone with access to the browser; every reader of it falls back to
a new beginning. A person whose plan is gone shall be told, once, and the storage is put right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gradio as gr

from app.config.schema import parse
from app.errors import ConfigError
from app.evaluation import conversation
from app.runs import dataset_selection, draft
from app.ui.components import messages
from app.ui.components.handlers import Parts, Updates, handler, raw
from app.ui.components.markup import Html, joined
from app.ui.shell.language import Translator, spoken
from app.ui.shell.page_context import PageContext


def is_draft(value: object) -> bool:
    """Tell whether a stored draft can be shown."""
    if not isinstance(value, dict):
        return False
    try:
        parse(value.get("config"), "the draft")
    except ConfigError:
        return False
    return True


def is_look(value: object) -> bool:
    """Tell whether a stored look at data can be shown."""
    empty = dataset_selection.DatasetSelection()
    return dataset_selection.from_browser(value) != empty or value == empty.to_browser()


def is_conversation(value: object) -> bool:
    """Tell whether a stored conversation can be shown."""
    empty = conversation.Conversation()
    if conversation.from_browser(value) != empty:
        return True
    # An older page kept no id.
    return isinstance(value, dict) and {"id": "", **value} == conversation.to_browser(empty)


@dataclass(frozen=True)
class Settled:
    """A line about what was set aside, and its new values, by name of KNOWN."""

    line: Html
    fresh: dict[str, object]


KNOWN = {"draft": is_draft, "look": is_look, "conversation": is_conversation}


def settled(stored: Mapping[str, object], t: Translator) -> Settled:
    """Return what is set aside of what the browser kept."""
    beginnings: dict[str, object] = {
        "draft": draft.first().to_browser(),
        "look": dataset_selection.DatasetSelection().to_browser(),
        "conversation": conversation.to_browser(conversation.Conversation()),
    }
    broken = [name for name, value in stored.items() if value is not None and not KNOWN[name](value)]
    lines = joined(messages.note(t.known(f"kept.{name}", name)) for name in broken)
    return Settled(lines, {name: beginnings[name] for name in broken})


def build(context: PageContext) -> gr.HTML:
    """Build the line, which takes no room while there is nothing to say, and look once when the page opens."""
    line = gr.HTML(elem_id="wb-kept")
    kept = {"draft": context.draft, "look": context.selection, "conversation": context.conversation}

    def settle(language: object, plan: object, seen: object, talk: object, request: gr.Request) -> Updates:
        stored = {"draft": plan, "look": seen, "conversation": talk}
        found = settled(stored, spoken(language, request.headers))
        return Updates({line: found.line, **{kept[name]: value for name, value in found.fresh.items()}})

    reads: Parts = [raw(context.language), *map(raw, kept.values())]
    context.blocks.load(**handler(settle, reads, [line, *kept.values()]))
    return line
