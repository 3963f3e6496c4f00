"""What is wrong with settings, said in our words: pydantic's errors as Problems, unknown names with the nearest one."""

from __future__ import annotations

import difflib

from pydantic import ValidationError

from app.config.rules import refused_starts
from app.config.sections import choices, settings
from app.errors import Problem, keyed

# Names that people carry over from the libraries, and what they are called here.
_KNOWN_ELSEWHERE = {
    "gradient_checkpointing": "memory.checkpointing",
    "activation_checkpointing": "memory.checkpointing",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "batch_size": "training.per_device_train_batch_size",
    "micro_batch": "training.per_device_train_batch_size",
    "epochs": "training.num_train_epochs",
    "lr": "training.learning_rate",
    "rank": "adapter.r",
    "alpha": "adapter.lora_alpha",
    "lora_r": "adapter.r",
    "dropout": "adapter.lora_dropout",
    "targets": "adapter.target_modules",
    "seq_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "optimizer": "training.optim",
    "warmup_ratio": "training.warmup_steps",
}


def nearest_name(name: str) -> str:
    """Find the dotted setting that a wrong name most likely meant; empty where none is near."""
    names = [known for known, _ in settings()]
    last = name.rsplit(".", 1)[-1].lower()
    if last in _KNOWN_ELSEWHERE:
        return _KNOWN_ELSEWHERE[last]
    by_last = [known for known in names if known.rsplit(".", 1)[-1] == last]
    if by_last:
        return by_last[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    short = {known.rsplit(".", 1)[-1]: known for known in names}
    close = difflib.get_close_matches(last, list(short), n=1, cutoff=0.6)
    return short[close[0]] if close else ""


def unknown_setting(name: str) -> Problem:
    """Say that a name is no setting, and which one it most likely meant."""
    if not name.strip():
        return Problem("(no name)", keyed("a_value_without_a_name", "a value without a setting"), "write NAME=VALUE")
    within = next((known for known, _ in settings() if known.startswith(f"{name}.")), "")
    if within:
        return Problem(name, keyed("a_section_of_settings", "a section, not a setting"), f"name one, such as {within}")
    near = nearest_name(name)
    if near == name:  # in a file, where a section stands above its settings
        section, _, last = name.partition(".")
        return Problem(name, keyed("no_such_setting", "no such setting"), f"write {last} below {section}")
    return Problem(
        name,
        keyed("no_such_setting", "no such setting"),
        f"did you mean {near}?" if near else "see `train --help` for the names",
    )


def problems_of(error: ValidationError) -> list[Problem]:
    """Turn pydantic's errors into Problems, one a setting, each with the range that it allows."""
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False, include_context=True):
        # The parts behind the second belong to pydantic's union branches.
        name = ".".join(map(str, item["loc"][:2])) or "(top)"
        if name in problems:
            continue
        if item["type"] == "extra_forbidden":
            problems[name] = unknown_setting(name)
        elif item["type"] == "model_type":
            problems[name] = Problem(name, f"expected settings below it, found {_short(item['input'])}", "")
        elif name == "adapter.init_lora_weights" and str(item["input"]).lower() in refused_starts():
            problems[name] = Problem(name, refused_starts()[str(item["input"]).lower()], range_of(name))
        else:
            problems[name] = Problem(name, f"{item['msg'].lower()}, found {_short(item['input'])}", range_of(name))
    return list(problems.values())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def range_of(name: str) -> str:
    """Say what a setting allows, its limits or its words; empty where it takes any value of its type."""
    field = dict(settings()).get(name)
    if field is None:
        return ""
    words = {"Ge": "at least {}", "Gt": "more than {}", "Le": "at most {}", "Lt": "less than {}"}
    parts = []
    for limit in field.metadata:
        form = words.get(type(limit).__name__)
        if form:
            parts.append(form.format(getattr(limit, type(limit).__name__.lower())))
    if not parts and choices(name):
        return "one of " + ", ".join(str(value) for value in choices(name))
    return "allowed: " + " and ".join(parts) if parts else ""
