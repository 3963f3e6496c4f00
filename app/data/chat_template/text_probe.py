"""Find out how a chat template looks into texts, so that rows it cannot tell apart need not be rendered one by one.

Rendering costs a third of the time of tokenising. Most templates only copy a text, or ask whether it holds a tag. Here
a template is rendered once with texts that note every question asked about them. If only questions were asked whose
answers are known for a whole class of texts (does it contain this tag, strip these characters), then every text of that
class is written as it stands. A template that does anything else with a text, or might do so unseen (see text_flow), is
rendered row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.data.chat_template.text_flow import NOTED_EDGES, NOTED_PARTS, is_proven
from app.data.formats.conversation import Message

# What a template could change or mistake for its own: quotes, escapes, tags, case, line breaks, other scripts.
_CANARY = "\ue0f0{number}<&\"'\\\n éZ>\ue0f1"


@dataclass
class Inspections:
    """What a template asked about texts. `opaque` turns False when an answer depends on more than parts and edges."""

    parts: set[str] = field(default_factory=set)
    edges: set[str] = field(default_factory=set)
    spaces: bool = False
    opaque: bool = True

    def allow(self, text: str) -> bool:
        """Say whether the template writes this text as it stands."""
        if text[0] in self.edges or text[-1] in self.edges:
            return False
        if self.spaces and (text[0].isspace() or text[-1].isspace()):
            return False
        for part in self.parts:  # noqa: SIM110 - asked of every text of every row; a generator takes as long again
            if part in text:
                return False
        return True


class OpaqueText(str):
    """A text that notes what is asked about it. What is made from it notes too."""

    seen: Inspections
    joined: bool

    @classmethod
    def of(cls, text: str, seen: Inspections, joined: bool = False) -> OpaqueText:
        """Return a text that notes into `seen`; `joined` says that other writing stands before or behind it."""
        made = cls(text)
        made.seen, made.joined = seen, joined
        return made

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        return str.__len__(self) > 0

    def __add__(self, other: str) -> str:
        return OpaqueText.of(str.__add__(self, other), self.seen, joined=True)

    def __radd__(self, other: str) -> str:
        return OpaqueText.of(str.__add__(other, self), self.seen, joined=True)

    def __rmod__(self, other: Any) -> Any:
        self.seen.opaque = False
        return str.__mod__(other, str.__str__(self))

    __hash__ = str.__hash__


def _noting(name: str) -> Callable[..., Any]:
    """Return a method that notes its arguments and answers as text does."""
    plain = getattr(str, name)

    def method(self: OpaqueText, *args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else None
        if name in NOTED_EDGES and not kwargs and (first is None or isinstance(first, str)):
            self.seen.edges.update(first or "")
            self.seen.spaces |= first is None
        elif name in NOTED_PARTS and not kwargs and isinstance(first, str) and first:
            self.seen.parts.add(first)
            # In joined text a part may also begin in one of the two and end in the other.
            self.seen.edges.update(first if self.joined and len(first) > 1 else "")
        else:
            self.seen.opaque = False
        return _wrapped(plain(self, *args, **kwargs), self.seen, self.joined)

    return method


def _wrapped(value: Any, seen: Inspections, joined: bool) -> Any:
    if isinstance(value, str):
        return OpaqueText.of(value, seen, joined)
    if isinstance(value, (list, tuple)):
        return type(value)(_wrapped(item, seen, joined) for item in value)
    return value


# What Python itself needs to make, keep and compare by identity an object.
_INNATE = {"__new__", "__init__", "__init_subclass__", "__subclasshook__", "__class__", "__doc__", "__getattribute__"}
_INNATE |= {"__setattr__", "__delattr__", "__dir__", "__hash__", "__repr__", "__getnewargs__", "__sizeof__"}
for _name in dir(str):
    if _name not in _INNATE and _name not in OpaqueText.__dict__ and callable(getattr(str, _name)):
        setattr(OpaqueText, _name, _noting(_name))


def inspect(
    source: str,
    special_tokens: dict[str, str],
    messages: list[Message],
    literals: tuple[str, ...],
    order: list[int],
) -> Inspections | None:
    """Render messages with canaries for texts; return what was asked, None where rows have to be rendered.

    `literals` are the template's own writing, `order` says which message's text stands behind each of them.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    if not is_proven(source):
        return None
    compiled = _compile_jinja_template(source)
    seen = Inspections()
    canaries = [_CANARY.format(number=number) for number in range(len(messages))]
    asked = [
        {**message, "content": OpaqueText.of(canary, seen)} for message, canary in zip(messages, canaries, strict=True)
    ]
    text = compiled.render(messages=asked, tools=None, documents=None, add_generation_prompt=False, **special_tokens)
    wanted = "".join(literal + canaries[number] for literal, number in zip(literals, order, strict=False))
    sound = seen.opaque and not any(part in canary for part in seen.parts for canary in canaries)
    return seen if sound and text == wanted + literals[-1] else None
