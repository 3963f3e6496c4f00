"""What is said of wrong settings: the setting that was meant, and what it allows."""

from __future__ import annotations

import pytest

from app.config import problems
from app.config.schema import RunConfig, parse
from app.config.sections import settings
from app.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "training.learning_rate"),
        ("training.lr", "training.learning_rate"),
        ("max_seq_length", "data.max_length"),
        ("learning_rate", "training.learning_rate"),
        ("data.learning_rate", "training.learning_rate"),
        ("training.learning_rat", "training.learning_rate"),
        ("Epochs", "training.num_train_epochs"),
        ("zzzzzzzz", ""),
    ],
)
def test_a_wrong_name_leads_to_the_setting_that_was_meant(name: str, meant: str) -> None:
    assert problems.nearest_name(name) == meant


def test_every_name_from_elsewhere_leads_to_a_setting_that_is_there() -> None:
    assert set(problems._KNOWN_ELSEWHERE.values()) <= {name for name, _ in settings()}


def test_a_range_is_said_as_limits_or_words_and_not_at_all_where_there_is_none() -> None:
    assert problems.range_of("adapter.r").startswith("allowed: at least 1")
    assert problems.range_of("training.optim").startswith("one of adamw_torch_fused, ")
    assert problems.range_of("data.file") == problems.range_of("no.such") == ""


def test_each_wrong_setting_is_told_with_what_was_found() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            {"adapter": {"r": "x" * 200, "lora_r": 8, "target_modules": 5}, "training": {"learning_rate": -1}}, "a file"
        )
    told = {one.field: one for one in caught.value.problems}
    assert set(told) == {"adapter.r", "adapter.lora_r", "adapter.target_modules", "training.learning_rate"}
    assert len(told["adapter.r"].message) < 200 and "found" in told["training.learning_rate"].message
    assert "adapter.r" in told["adapter.lora_r"].remedy


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", r"\(no name\): a value without a setting; write NAME=VALUE"),
        (" ", r"\(no name\): a value without a setting"),
        ("training", "raining: a section, not a setting; name one, such as training[.]"),
        ("model.", "model\\.: no such setting"),
    ],
)
def test_a_section_and_no_name_are_called_so(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RunConfig().changed({name: 5})
