"""docs/settings.md says what RunConfig says, and the library names in it are those of the pinned libraries."""

import dataclasses

import pytest

from app.config.reference import FILE, library_name, page
from app.config.sections import settings


def test_the_page_is_that_of_the_settings() -> None:
    assert FILE.read_text(encoding="utf-8") == page(), "run `python -m app.config.reference`"


def test_every_setting_has_a_row() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [name for name, _ in settings()]


@pytest.mark.filterwarnings("ignore")
def test_names_of_the_libraries_are_arguments_that_they_take() -> None:
    import inspect

    import peft
    import transformers
    import trl

    arguments = {
        "peft.LoraConfig": {field.name for field in dataclasses.fields(peft.LoraConfig)},
        "transformers.TrainingArguments": {field.name for field in dataclasses.fields(transformers.TrainingArguments)},
        "trl.SFTConfig": {field.name for field in dataclasses.fields(trl.SFTConfig)},
        "trl.DPOConfig": {field.name for field in dataclasses.fields(trl.DPOConfig)},
        "trl.KTOConfig": {field.name for field in dataclasses.fields(trl.KTOConfig)},
        "transformers.BitsAndBytesConfig": set(inspect.signature(transformers.BitsAndBytesConfig).parameters),
    }
    for name, _ in settings():
        owner, _, argument = library_name(name).rpartition(".")
        if "(" not in argument and owner:
            assert argument in arguments[owner], name
