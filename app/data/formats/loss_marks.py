"""Tell from what stands beside a message whether it is learned, or context only.

Every tool has a name of its own for it (`weight`, `loss`, `train`, `trainable`, `masked`, `isTrained`,
`include_in_loss`, `ignore`), so the words of a name decide and not a list of names.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Literal

from app.data.formats.conversation import Message
from app.data.reading.rows import BadRow, Fields

# What a name says: its value tells that the message is learned, is hidden from the loss, is hidden if it is `true`
# (a number could mean either), or says it of parts of the message.
_Meaning = Literal["learned", "hidden", "hidden_if_true", "parts", ""]
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[一-鿿]+")
_LEARN = frozenset(
    (
        *(
            "loss",
            "losses",
            "train",
            "trained",
            "training",
            "trainable",
            "learn",
            "learned",
            "learnable",
            "weight",
            "grad",
            "supervise",
        ),
        *("训练", "lossmask", "weights"),
        *("supervised", "supervision", "finetune", "finetuning", "optimize", "optimise"),
    )
)
_MASKED = frozenset(("masked", "untrained", "unsupervised", "untrainable", "frozen"))
_LEFT_OUT = frozenset(
    (
        *(
            "ignore",
            "ignored",
            "skip",
            "skipped",
            "exclude",
            "excluded",
            "no",
            "not",
            "without",
            "disable",
            "disabled",
            "mask",
        ),
        *("context", "drop", "dropped", "hide", "hidden"),
    )
)
_FILLERS = frozenset(
    (
        *("is", "has", "do", "does", "should", "use", "used", "for", "in", "include", "included", "keep"),
        *(
            "to",
            "with",
            "on",
            "turn",
            "message",
            "calculate",
            "calc",
            "compute",
            "computed",
            "enable",
            "enabled",
            "scale",
            "the",
        ),
        *("this", "be", "of", "apply", "from", "only", "will", "flag", "target"),
    )
)
_PARTS = frozenset(("detail", "details", "span", "spans", "ranges", "offsets"))
_NESTED = ("metadata", "meta", "extra", "info", "config")
_NO = ("false", "no", "off", "none")


def weight_of(message: Message) -> float:
    """Return how much a message is to be learned: 0 for context, 1, or the number that stands there.

    Raises BadRow where only parts of a message are to be learned.
    """
    weight = 1.0
    for name, value in message.items():
        if value is None:
            continue
        if isinstance(value, dict) and name in _NESTED:
            weight *= weight_of(value)
        meaning = _meaning(name) if isinstance(name, str) else ""
        if meaning == "parts" and value:
            raise _of_parts(name)
        if meaning in ("learned", "hidden") and isinstance(value, list) and value:
            raise _of_parts(name)
        if meaning == "learned":
            weight *= _number(value)
        if meaning == "hidden" and not _is_no(value):
            return 0.0
        if meaning == "hidden_if_true" and (value is True or str(value).strip().lower() == "true"):
            return 0.0
    return weight


def refuse_unlearned(fields: Fields) -> None:
    """Raise BadRow for a row that says of itself, beside its text, that nothing of it is to be learned."""
    for name, value in fields.items():
        if isinstance(value, dict) and name in _NESTED:
            refuse_unlearned(value)
        meaning = _meaning(name) if isinstance(name, str) else ""
        if meaning in ("", "parts") or not isinstance(value, (bool, int, float, str, list)):
            continue
        if isinstance(value, list):
            _refuse_list(name, value)
            continue
        bare = str(value).strip().lower()
        is_hidden = bare == "true" or (meaning == "hidden" and bare in ("1", "yes"))
        if is_hidden if meaning != "learned" else (bare != "none" and _is_no(value)):
            raise BadRow(
                "unlearned",
                f"{name[:60]} is {bare[:20]}: the row says that it is not to be trained",
                "Nothing to do where that is meant; else remove the column",
            )


def _refuse_list(name: str, marks: list[object]) -> None:
    """Raise BadRow for marks of messages that stand in a list beside them."""
    if marks and all(isinstance(mark, (bool, int, float)) for mark in marks) and not all(marks):
        raise BadRow(
            "shape",
            f"{name[:60]} lists which messages are trained, and such marks are read in the messages alone",
            'Give the messages that are context only "weight": 0, or remove the column',
        )


def _of_parts(name: object) -> BadRow:
    return BadRow(
        "shape",
        f"{name!s:.60} says which parts of a message are trained, and only whole messages can be chosen",
        'Cut the message in two and give one of them "weight": 0, or remove the column',
    )


@lru_cache(maxsize=4096)
def _meaning(name: str) -> _Meaning:
    words = {word.lower() for word in _WORD.findall(name)}
    learns, masked, left_out = words & _LEARN, words & _MASKED, words & _LEFT_OUT
    rest = words - _LEARN - _MASKED - _LEFT_OUT - _FILLERS
    if learns and rest and rest <= _PARTS:
        return "parts"
    if rest:
        return ""  # train_on_input, weight_kg
    if masked or (learns and left_out - {"mask", "context"}) or (left_out == {"context"} and "only" in words):
        return "hidden"
    if learns:
        return "learned"  # loss_mask too: by custom its 1 is learned
    return "hidden_if_true" if left_out else ""


def _number(value: object) -> float:
    """Return the weight that a value says; 1 for `true` and for what is no number."""
    if _is_no(value):
        return 0.0
    try:
        number = float(value) if isinstance(value, (int, float, str)) else 1.0
    except ValueError:
        return 1.0
    return number if math.isfinite(number) and number else 1.0


def _is_no(value: object) -> bool:
    if isinstance(value, str):
        bare = value.strip().lower()
        return bare in _NO or (bare.strip("0.") == "" and "0" in bare)
    return isinstance(value, (bool, int, float)) and value == 0
