"""The special tokens that a chat template writes where a model has said its last word.

A tokenizer's end token need not be one of them: that of Qwen3.5 ends a text, and its turns end otherwise. A model that
is not stopped at its turn's end talks on to itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.data.chat_template.layout_finder import SkeletonBuilder
from app.data.chat_template.templates import ChatTemplate
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.formats.conversation import Conversation, ToolCall, Turn
from app.errors import TemplateError

_QUESTION = Turn("user", "How is the weather?")
_CALL = ToolCall("get_weather", {"city": "Paris"}, "call12345")
_CITY = {"type": "string", "description": "City"}
_FUNCTION = {
    "name": "get_weather",
    "description": "Weather",
    "parameters": {"type": "object", "properties": {"city": _CITY}},
}
# The last turn of each ends the model's writing: an answer, and a call that hands over to a tool.
_ASKED = (
    Conversation((_QUESTION, Turn("assistant", "It is fine."))),
    Conversation(
        (_QUESTION, Turn("assistant", "", tool_calls=(_CALL,))), ({"type": "function", "function": _FUNCTION},)
    ),
)


def turn_ends(source: str, special_tokens: Mapping[str, str], added_tokens: Collection[str]) -> tuple[str, ...]:
    """Return the special tokens that end an answer and a call in this template, none where it cannot be rendered.

    `special_tokens` are what the template may write by name (bos_token, eos_token), `added_tokens` all special tokens.
    """
    eos = special_tokens.get("eos_token", "")
    template = ChatTemplate(source, "", dict(special_tokens))
    ends = (eos,) if eos else ()
    builder = SkeletonBuilder(ModelTokenizer(None, template, eos, ends, frozenset(added_tokens), ""))
    found: dict[str, None] = {}
    for conversation in _ASKED:
        try:
            found[builder.build(conversation).answers[-1].end_mark] = None
        except TemplateError:  # it has no place for calls, or says no end at all
            continue
    return tuple(mark for mark in found if mark in added_tokens)
