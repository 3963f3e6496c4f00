import pytest

from app.config import parsing
from app.config.schema import RunConfig
from app.errors import ConfigError


def test_yaml_round_trip_is_equal() -> None:
    changed = RunConfig().changed({"adapter.r": 8, "data.mapping": {"prompt": "q"}, "training.learning_rate": 3e-4})
    assert parsing.from_yaml(changed.to_yaml()) == changed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("adapter.target_modules=q_proj,v_proj", ["q_proj", "v_proj"]),
        ("adapter.target_modules=q_proj + v_proj", ["q_proj", "v_proj"]),
        ("adapter.target_modules=q_proj", ["q_proj"]),
        ("adapter.target_modules=all-linear", "all-linear"),
        ("adapter.modules_to_save=[]", []),
        ("data.repair=empty_answer", ["empty_answer"]),
        ("training.sample_prompts=Red, or is it blue?", ["Red, or is it blue?"]),
    ],
)
def test_a_list_is_written_as_the_other_options_write_it(word: str, value: object) -> None:
    changes = parsing.parse_assignments([word])
    assert list(changes.values()) == [value]
    RunConfig().changed(changes)


def test_assignments_are_yaml_and_scientific_numbers() -> None:
    read = parsing.parse_assignments(
        ["training.learning_rate=1e-4", "adapter.target_modules=[q_proj, v_proj]", "model.name=0e"]
    )
    assert read == {
        "training.learning_rate": 1e-4,
        "adapter.target_modules": ["q_proj", "v_proj"],
        "model.name": "0e",
    }
    with pytest.raises(ConfigError, match="no '='"):
        parsing.parse_assignments(["training.seed"])


@pytest.mark.parametrize("text", ["- 1", "a: [", "!!python/object/apply:os.system ['true']", "[" * 5000, "12"])
def test_text_that_is_no_config_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parsing.from_yaml(text)
