"""Tell from what stands beside a message whether it is learned, or context only.

Every tool has a name of its own for it (`weight`, `loss`, `train`, `trainable`, `masked`, `isTrained`,
`include_in_loss`, `ignore`), so the words of a name decide and not a list of names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from app.data.formats.conversation import Message
from app.data.reading.rows import BadRow

# What a name says: its value tells that the message is learned, is hidden from the loss, is hidden if it is `true`
# (a number could mean either), or says it of parts of the message.
_Meaning = Literal["learned", "hidden", "hidden_if_true", "parts", ""]
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
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


def is_trained(message: Message) -> bool:
    """Say whether a message is one to learn; raise BadRow where only parts of it are."""
    for name, value in message.items():
        if value is None:
            continue
        if isinstance(value, dict) and name in _NESTED and not is_trained(value):
            return False
        meaning = _meaning(name) if isinstance(name, str) else ""
        if meaning == "parts" and value:
            raise BadRow(
                "shape",
                f"{name} says which parts of a message are trained, and only whole messages can be chosen",
                'Cut the message in two and give one of them "weight": 0, or remove the column',
            )
        if meaning == "learned" and _is_no(value):
            return False
        if meaning == "hidden" and not _is_no(value):
            return False
        if meaning == "hidden_if_true" and (value is True or str(value).strip().lower() == "true"):
            return False
    return True


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


def _is_no(value: object) -> bool:
    if isinstance(value, str):
        bare = value.strip().lower()
        return bare in _NO or (bare.strip("0.") == "" and "0" in bare)
    return isinstance(value, (bool, int, float)) and value == 0
