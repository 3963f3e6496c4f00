"""Each setting of the page has the name by which the libraries know it."""

from __future__ import annotations

import inspect
import re

import pytest
from transformers import GenerationConfig, TrainingArguments

from app.config.sections import settings
from app.ui.components import forms, library_names, messages
from app.ui.tabs.playground import session

NAMES = library_names.by_control()


@pytest.mark.parametrize("name", forms.ORDER)
def test_every_setting_of_the_form_has_its_name(name: str) -> None:
    assert NAMES[messages.element_id(name)] == name.rpartition(".")[2]


def test_every_number_of_the_playground_has_its_name() -> None:
    known = GenerationConfig().to_dict()
    fields = (session.TOKENS, session.TEMPERATURE, session.SEED, session.TOP_P, session.TOP_K, session.PENALTY)
    named = {NAMES[field.element_id] for field in fields}
    assert named - {"seed"} <= known.keys() and len(named) == 6


def test_the_names_of_training_are_those_of_the_trainer() -> None:
    """What the form says of the optimiser's side is what transformers takes under that name."""
    taken = inspect.signature(TrainingArguments).parameters
    for name in (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "warmup_steps",
        "optim",
    ):
        assert name in taken and name in NAMES.values()


def test_the_style_sheet_names_each_control_once() -> None:
    rules = dict(re.findall(r'#([\w-]+)\{--library-name:"([^"]+)"\}', library_names.style()))
    assert {id_: name.replace("\u200b", "") for id_, name in rules.items()} == NAMES
    assert len(rules) >= len(dict(settings())) - 3
