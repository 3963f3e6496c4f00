"""The data tab and a run read the same options from one plan."""

from __future__ import annotations

import pytest

from app.config.schema import RunConfig
from app.data.dataset.options import DataOptions, settings_of
from app.runs.dataset_selection import DatasetSelection


@pytest.mark.parametrize(
    "data", [{}, {"train_on": "last", "max_length": 77, "drop": ["secret"], "over_length": "cut", "format": "alpaca"}]
)
def test_a_look_has_the_options_of_its_plan(data: dict[str, object]) -> None:
    config = RunConfig.model_validate({"data": {"file": "a.jsonl", **data}})
    own = DatasetSelection(file="a.jsonl", format=config.data.format, drop=tuple(config.data.drop))
    assert own.options(config) == DataOptions.of(config)
    assert set(settings_of(config)) == set(DataOptions.__dataclass_fields__)


def test_what_a_look_mends_goes_before_the_plan() -> None:
    config = RunConfig.model_validate({"data": {"file": "a.jsonl", "over_length": "cut", "drop": ["secret"]}})
    own = DatasetSelection(file="a.jsonl", repair=("email",), over_length="split")
    options = own.options(config)
    assert (options.drop, options.repair, options.over_length) == ((), ("email",), "split")
