"""The one seam between the framework and the page's handlers.

The framework hands a handler its inputs by position and takes what it returns by position. Here a handler says of which
parts it is made: each part knows its controls and reads their values into one typed argument. What it returns is named
by control; what it does not name stays as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypedDict, TypeVar, cast

import gradio as gr
from gradio.blocks import Block

# A control of the page, as the framework has them: a component, a column, a timer, a state.
Control: TypeAlias = Block


class Wiring(TypedDict, total=False):
    """The keywords of an event: what it calls with what, and how the framework treats it."""

    fn: Callable[..., object]
    inputs: Sequence[Control]
    outputs: Sequence[Control]
    show_progress: str
    show_progress_on: Sequence[Control]
    api_visibility: str
    concurrency_limit: int | None
    queue: bool
    trigger_mode: str


# How handlers are wired: hidden from the API page, as many at once as there are readers, no flicker while they run.
# Without a place for progress the browser is spared a walk over the whole page for each output that ever had one, at
# every event (gradio 6.31; measured: an idle page took a quarter of a core).
EVENT_DEFAULTS: Wiring = {
    "show_progress": "hidden",
    "show_progress_on": [],
    "api_visibility": "private",
    "concurrency_limit": None,
    "queue": False,
}
# How a handler is wired that takes seconds or yields on its way: through the queue, whose news come by short polls, so
# that it holds none of the browser's six connections while it works.
QUEUED: Wiring = {**EVENT_DEFAULTS, "queue": True}
# How clicks in a list are wired: each counts, in its order, also while the one before is still worked on. The framework
# would drop it, and of two quick ticks the second was lost.
EACH: Wiring = {**QUEUED, "trigger_mode": "multiple", "concurrency_limit": 1}
# How a handler is wired that looks at what is typed: of many changes the last one counts.
LAST: Wiring = {**EVENT_DEFAULTS, "trigger_mode": "always_last"}

Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)


class Part(Protocol[Value_co]):
    """Some controls whose values are one argument of a handler."""

    def inputs(self) -> Sequence[Control]:
        """Return the controls."""
        ...

    def read(self, values: Sequence[object]) -> Value_co:
        """Return what their values, in the order of `inputs`, mean."""
        ...


Parts: TypeAlias = Sequence[Part[object]]


@dataclass(frozen=True)
class Field(Generic[Value]):
    """One control, and how its value is read. The value comes from a browser and may be anything."""

    control: Control
    parse: Callable[[object], Value]

    def inputs(self) -> Sequence[Control]:
        """Return the control."""
        return [self.control]

    def read(self, values: Sequence[object]) -> Value:
        """Return what its value means."""
        return self.parse(values[0])


def raw(control: Control) -> Field[object]:
    """Return the field of a control whose value the handler itself looks at."""
    return Field(control, lambda value: value)


def held(control: Control) -> Field[Any]:
    """Return the field of a server-side state, which holds what a handler of ours has put there."""
    return Field(control, lambda value: value)


def text(control: Control) -> Field[str]:
    """Return the field of a text; no value is an empty one."""
    return Field(control, lambda value: str(value or ""))


def listed(control: Control) -> Field[list[object]]:
    """Return the field of several choices; anything else than a list is none."""
    return Field(control, lambda value: value if isinstance(value, list) else [])


def ticked(control: Control) -> Field[bool]:
    """Return the field of a check box."""
    return Field(control, lambda value: value is True)


class Updates(dict[Control, object]):
    """What a handler shows, by control; a control that is not named stays as it is."""


def handler(
    fn: Callable[..., object], reads: Parts = (), shows: Sequence[Control] = (), how: Wiring = EVENT_DEFAULTS
) -> Wiring:
    """Return the keywords of an event that calls `fn` with one argument for each part.

    `fn` returns Updates, or the value of the only control that it shows. With a parameter `picked` it gets the value
    that was clicked in an HTML block, with `request` the framework's request. `how` is QUIET or another of the above.
    """
    inputs = [control for part in reads for control in part.inputs()]
    call = _Call(fn, tuple(reads), tuple(shows))
    return {**EVENT_DEFAULTS, **how, "fn": call.adapted(), "inputs": inputs, "outputs": list(shows)}


@dataclass(frozen=True)
class _Call:
    fn: Callable[..., object]
    reads: tuple[Part[object], ...]
    shows: tuple[Control, ...]

    def adapted(self) -> Callable[..., object]:
        """Return the function that the framework calls; it looks at the signature for what it hands over besides."""
        wanted = inspect.signature(self.fn).parameters

        def plain(*values: object) -> object:
            return self._shown(self.fn(*self._arguments(values)))

        def clicked(event: gr.EventData, *values: object) -> object:
            return self._shown(self.fn(*self._arguments(values), picked=picked(event)))

        def clicked_and_requested(event: gr.EventData, request: gr.Request, *values: object) -> object:
            return self._shown(self.fn(*self._arguments(values), picked=picked(event), request=request))

        def requested(request: gr.Request, *values: object) -> object:
            return self._shown(self.fn(*self._arguments(values), request=request))

        def streaming(*values: object) -> Iterator[object]:
            for step in cast("Iterator[object]", self.fn(*self._arguments(values))):
                yield self._shown(step)

        if inspect.isgeneratorfunction(self.fn):
            return streaming
        if {"picked", "request"} <= set(wanted):
            return clicked_and_requested
        return clicked if "picked" in wanted else requested if "request" in wanted else plain

    def _arguments(self, values: Sequence[object]) -> Iterator[object]:
        """Yield one argument a part, from the values of all their controls."""
        first = 0
        for part in self.reads:
            width = len(part.inputs())
            yield part.read(values[first : first + width])
            first += width

    def _shown(self, result: object) -> object:
        """Return a result as the framework takes it: one value for each control that is shown."""
        if not isinstance(result, Updates):
            return result
        strange = [control for control in result if control not in self.shows]
        if strange:
            raise LookupError(f"{strange[0]} is not among the controls of this handler")
        found = [result.get(control, gr.skip()) for control in self.shows]
        return found[0] if len(found) == 1 else found


def filled_in(control: Any) -> Any:
    """Return the event that tells that somebody filled in a control.

    A list of several tells by its change alone of a name that was typed into it, and that all were taken out of it
    (gradio 6.31).
    """
    several = getattr(control, "multiselect", False)
    return control.change if several else getattr(control, "input", control.change)


def picked(event: gr.EventData) -> str:
    """Return the value that was clicked in an HTML block, or an empty text for anything that is none."""
    data = event._data
    value = data.get("value") if isinstance(data, Mapping) else None
    return value if isinstance(value, str) else ""
