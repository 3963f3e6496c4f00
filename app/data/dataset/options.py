"""What a person may choose about how rows become tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from app.config.objectives import row_kind
from app.config.schema import RunConfig
from app.config.sections import Objective
from app.data.formats.conversions import Mapping, check_format, parse_mapping
from app.errors import UsageError

TrainOn = Literal["assistant", "last", "all"]
# `auto` drops rows of turns, and splits plain text, which loses nothing by it.
OverLength = Literal["auto", "drop", "cut", "split"]
# Kinds of problem that leave a row usable; dropping or repairing them is a choice.
DROPPABLE = (
    *("duplicate", "near_duplicate", "secret", "email", "role_order", "control_token"),
    *("marked_bad", "lost_characters", "empty_turn", "null_word", "loss_weight"),
)
_MOST_TOKENS = 1_048_576
REPAIRABLE = ("role_order", "empty_answer", "secret", "email", "control_token")


@dataclass(frozen=True)
class DataOptions:
    """Options of reading, masking and packing. Lengths in tokens; `validation_split` is a share of the rows.

    `objective` decides what is read of a row: a conversation, a pair of answers, or an answer with a thumb. `drop` and
    `repair` name kinds of problem that are taken care of (see DROPPABLE and REPAIRABLE).
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
    objective: Objective = "sft"

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
        _check_choices("objective", (options.objective,), get_args(Objective))
        _check_choices("over_length", (options.over_length,), get_args(OverLength))
        if not 8 <= options.max_length <= _MOST_TOKENS or not 0 <= options.validation_split <= 0.5:
            raise UsageError(
                f"max_length {options.max_length} or validation_split {options.validation_split} is out of range",
                f"From 8 to {_MOST_TOKENS:,} tokens, and a share between 0 and 0.5",
            )
        return options

    @classmethod
    def of(cls, config: RunConfig, **own: object) -> DataOptions:
        """Return the options of a run, some of them given apart. Raises UsageError for wrong ones."""
        return cls.checked(**{**settings_of(config), **own})

    def as_json(self) -> str:
        """Return the options as canonical text, for hashing."""
        plain = {**asdict(self), "mapping": dict(self.mapping)}
        # Objectives that read the same rows share them; conversations are hashed as ever.
        del plain["objective"]
        if self.objective != "sft":
            plain["rows"] = row_kind(self.objective)
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)


def settings_of(config: RunConfig) -> dict[str, object]:
    """Return the plain values of a run's options."""
    data = config.data
    return {
        "format": "" if data.format == "auto" else data.format,
        "mapping": dict(data.mapping or {}),
        "max_length": data.max_length,
        "packing": data.packing and config.training.objective == "sft",
        "train_on": data.train_on,
        "over_length": data.over_length,
        "validation_split": data.validation_split,
        "seed": config.training.seed,
        "chat_template": data.chat_template or "",
        "drop": list(data.drop),
        "repair": list(data.repair),
        "objective": config.training.objective,
    }


def _check_choices(name: str, given: tuple[Any, ...], known: tuple[str, ...]) -> None:
    wrong = [value for value in given if value not in known]
    if wrong:
        raise UsageError(f"{wrong[0]} is no choice for {name}", f"Choices: {', '.join(known)}")
