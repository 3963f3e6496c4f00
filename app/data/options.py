"""What a person may choose about how rows become tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from app.data.conversions import Mapping, check_format, parse_mapping
from app.errors import UsageError

TrainOn = Literal["assistant", "last", "all"]
# `auto` drops rows of turns, and splits plain text, which loses nothing by it.
OverLength = Literal["auto", "drop", "cut", "split"]
# Kinds of problem that leave a row usable; dropping or repairing them is a choice.
DROPPABLE = (
    *("duplicate", "near_duplicate", "secret", "email", "role_order", "control_token"),
    *("marked_bad", "lost_characters"),
)
REPAIRABLE = ("role_order", "empty_answer", "secret", "email", "control_token")


@dataclass(frozen=True)
class DataOptions:
    """Options of reading, masking and packing. Lengths in tokens; `validation_split` is a share of the rows.

    `drop` and `repair` name kinds of problem that are taken care of (see DROPPABLE and REPAIRABLE).
    """

    format: str = ""
    mapping: Mapping = ()
    max_length: int = 1024
    packing: bool = True
    train_on: TrainOn = "assistant"
    over_length: OverLength = "auto"
    validation_split: float = 0.0
    seed: int = 0
    chat_template: str = ""
    drop: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()

    @classmethod
    def checked(cls, **given: Any) -> DataOptions:
        """Build options from plain values (a dict of settings or a request); raise UsageError for wrong ones."""
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise UsageError(f"{unknown[0]} is no data option", f"Options: {', '.join(cls.__dataclass_fields__)}")
        mapping = given.get("mapping") or {}
        given["mapping"] = parse_mapping(dict(mapping))
        given["format"] = check_format(given.get("format") or "")
        given["chat_template"] = given.get("chat_template") or ""
        for name, known in (("drop", DROPPABLE), ("repair", REPAIRABLE)):
            given[name] = tuple(sorted(given.get(name) or ()))
            _check_choices(name, given[name], known)
        options = cls(**given)
        _check_choices("train_on", (options.train_on,), get_args(TrainOn))
        _check_choices("over_length", (options.over_length,), get_args(OverLength))
        if options.max_length < 8 or not 0 <= options.validation_split <= 0.5:
            raise UsageError(
                f"max_length {options.max_length} or validation_split {options.validation_split} is out of range",
                "At least 8 tokens, and a share between 0 and 0.5",
            )
        return options

    def as_json(self) -> str:
        """Return the options as canonical text, for hashing and for requests."""
        return json.dumps({**asdict(self), "mapping": dict(self.mapping)}, sort_keys=True, ensure_ascii=False)


def _check_choices(name: str, given: tuple[Any, ...], known: tuple[str, ...]) -> None:
    wrong = [value for value in given if value not in known]
    if wrong:
        raise UsageError(f"{wrong[0]} is no choice for {name}", f"Choices: {', '.join(known)}")
