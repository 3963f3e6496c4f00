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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  max_steps: 5\n  max_steps: 50\n", "Line 3: names max_steps a second time"),
        ("training:\n  max_steps: 5\ndata: {}\ntraining:\n  seed: 3\n", "Line 4: names training a second time"),
        ("training: &a\n  max_steps: 5\ndata: *a\n", "Line 3: refers to another place of the file"),
        ("training:\n  max_steps: true\n", "training.max_steps: input should be a number, found True"),
        ("training:\n  learning_rate: no\n", "training.learning_rate: input should be a number, found False"),
        ("training:\n  max_steps: 1:30\n", "found '1:30'"),
        ("training: 5\n", "Training: expected settings below it, found 5"),
        ("training.max_steps: 5\n", "write max_steps below training"),
    ],
)
def test_what_yaml_would_read_as_something_else_is_refused_by_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsing.from_yaml(text)
    assert said in str(caught.value)


def test_numbers_are_read_as_people_write_them() -> None:
    assert parsing.from_yaml("training:\n  max_steps: 010\n  seed: 1_000\n").training.max_steps == 10
    assert parsing.from_yaml("training:\n  learning_rate: 1e-4\n  weight_decay: .5\n").training.weight_decay == 0.5
    assert parsing.parse_assignments(["training.max_steps=010"]) == {"training.max_steps": "010"}


def test_a_section_whose_lines_are_all_comments_changes_nothing() -> None:
    assert parsing.from_yaml("training:\n  # max_steps: 5\n") == RunConfig()
