"""The framework's Blocks as the page needs them: nothing from outside breaks an answer, no page holds a connection.

Everything that goes from a handler to the browser, and everything that comes back, passes here once. A lone surrogate
(a byte of a file in another encoding), a NUL or a number beyond 64 bits would otherwise make the whole answer fail, and
what the browser's storage keeps would make it fail again after every reload.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

import gradio as gr
from gradio import component_meta
from gradio.blocks import BlocksConfig

# Enough for every tab that lives: what a session holds is a few kilobytes, and a tab that ticks is never the oldest.
MOST_SESSIONS = 1000
# The framework keeps a note on each of so many queued answers.
_KEPT_ANSWERS = 100
# The encoder of answers stops at 254; a value that lies this deep was not made by us.
_DEEPEST = 100
_WIDEST_INTEGER = 2**63
# Events that say that a value is another now, or that what came before is done.
_CHANGES = ("change", "input", "release", "then", "success")


def is_plain(text: str) -> bool:
    """Tell whether a text can be sent and stored everywhere as it is."""
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def plain_text(text: str) -> str:
    """Return a text without lone surrogates, which become U+FFFD, and without NUL, which becomes its picture."""
    if is_plain(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\u2400")


def sendable(value: Any, depth: int = 0) -> Any:
    """Return a value of lists, dicts and plain values with everything in it that cannot be sent made harmless.

    What needs no change is returned as it is, the very same object.
    """
    if isinstance(value, str):
        return value if is_plain(value) else plain_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -_WIDEST_INTEGER <= value < _WIDEST_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > _DEEPEST:
        return None
    if type(value) in (list, tuple):
        made = [sendable(each, depth + 1) for each in value]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else type(value)(made)
    if type(value) is dict:
        return {sendable(key, depth + 1): sendable(each, depth + 1) for key, each in value.items()}
    return value  # files, events and the framework's own objects


def _as_it_came(_: object, payload: object) -> object:
    return payload


# What a list offers can be gone by the time it is used: a checkpoint that the run has replaced, an adapter deleted in
# another window. The framework then answers with an error that nobody sees; our handlers look each value up and say so.
for _kind in (gr.Dropdown, gr.Radio, gr.CheckboxGroup):
    _kind.preprocess = _as_it_came


class _Inspect:
    """Python's `inspect` for the framework's components, remembering what an initialiser takes.

    The framework makes a component anew for each thing that an answer changes of it, and looks up by which words each
    time: an eighth of the server's work while a page opened.
    """

    getfullargspec = staticmethod(cache(inspect.getfullargspec))
    getfile = staticmethod(inspect.getfile)


component_meta.inspect = _Inspect


class Described(BlocksConfig):  # type: ignore[misc]
    """What the framework knows of all components; the copy that each open page has describes none of them.

    The framework (gradio 6.31) describes every component again for each page that opens, and each one that an answer
    changes, for the links that bring a page back as it was. There are no such links here, and it was a quarter of the
    server's work while a page opened.
    """

    def __copy__(self) -> BlocksConfig:
        """Return what one open page knows."""
        made = super().__copy__()
        made.config_for_block = _undescribed
        return made


def _undescribed(*_: object) -> dict[str, object]:
    return {}


class PageBlocks(gr.Blocks):  # type: ignore[misc]
    """Blocks whose answers cannot be broken by what is in them, and whose pages hold no stream open."""

    def __init__(self, *arguments: object, **options: object) -> None:
        """Make them as the framework does, in its own options."""
        super().__init__(*arguments, **options)
        made: Any = self.default_config
        self.default_config: Any = Described(self)
        self.default_config.__dict__.update(made.__dict__)

    def queue_what_is_watched(self) -> None:
        """Send every handler through the queue whose result is a state that others follow.

        The browser learns only from the queue's messages that a state has changed. Call this when all is wired.
        """
        made = self.fns.values()
        watched = {target for fn in made for target, event in fn.targets if event == "change"}
        for fn in made:
            if any(isinstance(output, gr.State) and output._id in watched for output in fn.outputs):
                fn.queue = True

    def lose_no_change(self) -> None:
        """Let every handler that follows a change run once more when another change comes while it works.

        The framework does so only where the change is the first of a handler's events. A handler that begins with the
        page's load would drop the second of two quick ticks, and show the first for ever; so would one that follows
        another by `then`. Each choice in a list counts by itself: run once more, the framework would repeat the first.
        """
        lists = {id_ for id_, block in self.blocks.items() if isinstance(block, gr.HTML)}
        for fn in self.fns.values():
            if fn.trigger_mode != "once":
                continue
            if any(event in _CHANGES for _, event in fn.targets):
                fn.trigger_mode = "always_last"
            elif any(event == "select" and target in lists for target, event in fn.targets):
                fn.trigger_mode = "multiple"

    def queue(self, *arguments: Any, **options: Any) -> Any:
        """Make the queue, without the statistics of its monitoring page, which the guard lets nobody see.

        The framework makes them anew after every queued answer, by pandas over the last thousands of answers: with five
        pages open during a run they took a third of the server's time (gradio 6.31).
        """
        made = super().queue(*arguments, **options)
        self._queue.ANALYTICS_MAX_EVENTS = _KEPT_ANSWERS
        self._queue.compute_analytics_summary = lambda records: {"functions": {}}
        return made

    def get_config_file(self, *arguments: object, **options: object) -> object:
        """Return the page's description. No heartbeat: it is a connection for as long as the page is open.

        A browser has six connections for a host, so the seventh page would wait for ever.
        """
        config = super().get_config_file(*arguments, **options)
        config["connect_heartbeat"] = False
        return config

    async def preprocess_data(self, block_fn: object, inputs: object, *rest: object, **options: object) -> object:
        """Return what a handler is called with."""
        return await super().preprocess_data(block_fn, sendable(inputs), *rest, **options)

    async def postprocess_data(self, block_fn: object, predictions: object, *rest: object, **options: object) -> object:
        """Return what the browser is sent of a handler's results."""
        return sendable(await super().postprocess_data(block_fn, predictions, *rest, **options))
