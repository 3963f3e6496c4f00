"""Read rows that hold more than one opinion: pairs of a better and a worse answer, and answers with a thumb.

A pair comes as `prompt`, `chosen` and `rejected` (texts or messages, TRL), with the prompt inside both sides (HH,
UltraFeedback), behind `conversations` (LLaMA-Factory), as messages that end in the chosen answer beside
`rejected_response` or `rejected_messages` (ms-swift), or under the names of columns.CHOSEN and REJECTED. A thumb is a
conversation with `label` (TRL, ms-swift) or `kto_tag` (LLaMA-Factory).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import takewhile

from app.data.formats import columns
from app.data.formats.conversation import Conversation, Message, Turn
from app.data.formats.conversions import Mapping, conversation_of
from app.data.formats.message_lists import as_list
from app.data.reading.rows import BadRow, Fields

_UP = (
    *("true", "1", "1.0", "yes", "up", "good", "chosen", "desirable", "desired", "thumbs_up", "thumb_up", "like"),
    *("liked", "positive", "accepted", "\N{THUMBS UP SIGN}"),
)
_DOWN = (
    *("false", "0", "0.0", "no", "down", "bad", "rejected", "undesirable", "undesired", "thumbs_down", "thumb_down"),
    *("dislike", "disliked", "negative", "-1", "-1.0", "\N{THUMBS DOWN SIGN}"),
)
# Signs that change how a thumb looks and not what it says: skin tones, and that it is shown in colours.
_LOOKS = re.compile("[\U0001f3fb-\U0001f3ff\ufe0e\ufe0f]")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. `prompt` are the turns that both sides share; each answer is one turn or more."""

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: tuple[Message, ...] = ()

    def side(self, answer: tuple[Turn, ...]) -> Conversation:
        """Return the conversation of one side; only its answer is to be trained."""
        before = tuple(replace(turn, trained=False) for turn in self.prompt)
        return Conversation(before + answer, self.tools)

    def plain_text(self) -> str:
        """Return all that is said, for comparing."""
        rejected = Conversation(self.rejected).plain_text()
        return f"{Conversation(self.prompt + self.chosen, self.tools).plain_text()}\n\N{THUMBS DOWN SIGN} {rejected}"

    def prompt_text(self) -> str:
        """Return what is asked, for comparing."""
        return Conversation(self.prompt, self.tools).plain_text()


@dataclass(frozen=True)
class Thumb:
    """One answer, `up` or down. Only the last answer of the conversation is judged."""

    conversation: Conversation
    up: bool


def has_sides(fields: Fields) -> bool:
    """Tell whether a row holds a chosen and a rejected answer."""
    if columns.find(fields, columns.REJECTED) is None:
        return False
    return columns.find(fields, columns.CHOSEN) is not None or columns.find(fields, columns.MESSAGES) is not None


def pair_of(fields: Fields, format_name: str = "") -> Pair:
    """Read a pair. Raises BadRow for a row that is none, whose sides are equal, or that has no common prompt."""
    if not has_sides(fields):
        raise BadRow(
            "no_pair",
            "The row has no chosen and rejected answer",
            "Add the columns chosen and rejected; rows with label are for the objective kto",
        )
    chosen, rejected = _sides(fields, format_name)
    shared = list(takewhile(lambda both: both[0] == both[1], zip(chosen.turns, rejected.turns, strict=False)))
    common = min(len(shared), len(chosen.turns) - 1, len(rejected.turns) - 1)
    if chosen.turns == rejected.turns:
        raise BadRow("equal_sides", "The chosen and the rejected answer are equal", "Drop the row")
    if common < 1:
        raise BadRow("no_prompt", "The two sides have no prompt in common", "Add the column prompt")
    pair = Pair(chosen.turns[:common], chosen.turns[common:], rejected.turns[common:], chosen.tools)
    for side in (pair.chosen, pair.rejected):
        if any(turn.role != "assistant" for turn in side):
            raise BadRow(
                "sides_part_early",
                "The two sides part before their last answer, so that more than an answer differs",
                "Cut both sides behind the first answer that differs",
            )
        _refuse_empty(side)
    return pair


def _refuse_empty(answer: tuple[Turn, ...]) -> None:
    if not any(turn.content.strip() or turn.tool_calls for turn in answer):
        raise BadRow("empty_answer", "An answer is empty", "Write the answer, or drop the row")


def _sides(fields: Fields, format_name: str) -> tuple[Conversation, Conversation]:
    """Return both sides as whole conversations, each read as the row with that side's answer is."""
    chosen, rejected = columns.find(fields, columns.CHOSEN), columns.find(fields, columns.REJECTED)
    assert rejected is not None  # has_sides
    if chosen is not None:
        name = format_name if format_name == "preference" else ""
        swapped = {**fields, chosen: fields[rejected]}
        return conversation_of(fields, name), conversation_of(swapped, name)
    listed = columns.find(fields, columns.MESSAGES)
    assert listed is not None
    bare = {name: value for name, value in fields.items() if name != rejected}
    own = conversation_of(bare)
    other = as_list(fields[rejected])
    if other and isinstance(other[0], dict):
        said = conversation_of({**bare, listed: other})
        whole = said.turns[0].role != "assistant"
        return own, said if whole else replace(own, turns=own.turns[:-1] + said.turns)
    last = conversation_of({"prompt": "?", "completion": fields[rejected]}).turns[-1]
    return own, replace(own, turns=(*own.turns[:-1], last))


def label_of(fields: Fields) -> bool | None:
    """Return a row's thumb: True is up, None where the row has none that can be read."""
    value = columns.value(fields, columns.LABEL)
    if isinstance(value, bool):
        return value
    bare = re.sub(r"(?<=\w)[\s-]+(?=\w)", "_", _LOOKS.sub("", str(value)).strip().lower())
    return True if bare in _UP else False if bare in _DOWN else None


def thumbs_of(fields: Fields, format_name: str = "", mapping: Mapping = ()) -> tuple[Thumb, ...]:
    """Read an answer with its thumb, or the two answers of a pair as one up and one down.

    Raises BadRow for a row without a label, and what `conversation_of` raises.
    """
    if not mapping and has_sides(fields):
        pair = pair_of(fields, format_name)
        return Thumb(pair.side(pair.chosen), True), Thumb(pair.side(pair.rejected), False)
    up = label_of(fields)
    if up is None:
        raise BadRow("no_label", "The row has no label that says up or down", "Add the column label with true or false")
    label = columns.find(fields, columns.LABEL)
    unlabelled = {name: value for name, value in fields.items() if name != label}
    conversation = conversation_of(unlabelled, format_name, mapping)
    if not conversation.turns or conversation.turns[-1].role != "assistant":
        raise BadRow(
            "role_order", "The row does not end in an answer that could be judged", "Add the column completion"
        )
    _refuse_empty(conversation.turns[-1:])
    turns = (*(replace(turn, trained=False) for turn in conversation.turns[:-1]), conversation.turns[-1])
    return (Thumb(replace(conversation, turns=turns), up),)
