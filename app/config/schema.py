"""RunConfig: the one typed object that says what a run does. Its settings stand in sections.py, one section a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import ValidationError, model_validator

from app.config.objectives import settled_by_objective
from app.config.problems import problems_of, unknown_setting
from app.config.rules import refused_together
from app.config.sections import Sections, section_fields
from app.errors import ConfigError, Problem


class RunConfig(Sections):
    """Everything that decides a run. Two equal RunConfigs on one machine give the same adapter."""

    @model_validator(mode="after")
    def _pairs_fit(self) -> RunConfig:
        problems = list(refused_together(self))
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def method(self) -> Literal["qlora", "lora", "full"]:
        """Name the method in the words of the planner."""
        if self.adapter.method == "full":
            return "full"
        return "qlora" if self.quantization.load_in_4bit or self.quantization.load_in_8bit else "lora"

    @property
    def effective_batch(self) -> int:
        """Count the rows (packed rows when packing) of one optimiser step."""
        return self.training.per_device_train_batch_size * self.training.gradient_accumulation_steps

    def settled(self) -> RunConfig:
        """Return the config as it is run: with what its objective leaves no choice about."""
        changes = settled_by_objective(self)
        return self.changed(changes, "the objective") if changes else self

    def as_dict(self) -> dict[str, Any]:
        """Give plain nested data, as it stands in YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Write the YAML that `from_yaml` reads back to an equal RunConfig."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)

    def changed(self, changes: Mapping[str, Any], source: str = "the changes") -> RunConfig:
        """Copy it with dotted names set, for example `{"adapter.r": 8}`.

        Raises ConfigError with every wrong name and value.
        """
        tree = self.as_dict()
        unknown = []
        for name, value in changes.items():
            section, _, key = name.partition(".")
            if key and section in RunConfig.model_fields and key in section_fields(section):
                tree[section][key] = value
            else:
                unknown.append(unknown_setting(name))
        try:
            changed = parse(tree, source)
        except ConfigError as error:
            raise ConfigError(unknown + error.problems, source) from None
        if unknown:
            raise ConfigError(unknown, source)
        return changed


def parse(tree: Any, source: str = "the settings") -> RunConfig:
    """Build a RunConfig from nested data. Raises ConfigError that lists every problem with field, limit and remedy."""
    if not isinstance(tree, Mapping):
        raise ConfigError(
            [
                Problem(
                    "(top)",
                    f"expected sections, found {type(tree).__name__}",
                    f"use the sections {', '.join(RunConfig.model_fields)}",
                )
            ],
            source,
        )
    try:
        # A section without a setting, as where all of its lines are comments, is none to YAML.
        return RunConfig.model_validate({name: {} if held is None else held for name, held in tree.items()})
    except ConfigError as error:
        raise ConfigError(error.problems, source) from None
    except ValidationError as error:
        raise ConfigError(problems_of(error), source) from None
