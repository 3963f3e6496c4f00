import pytest

from app import config
from app.config import RunConfig
from app.errors import ConfigError


def test_yaml_round_trip_is_equal() -> None:
    changed = RunConfig().changed({"adapter.r": 8, "data.mapping": {"prompt": "q"}, "training.learning_rate": 3e-4})
    assert config.from_yaml(changed.to_yaml()) == changed


def test_every_setting_has_help_label_and_a_valid_default() -> None:
    for name, field in config.settings():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra["label"], name
    assert RunConfig() == config.parse({})


def test_all_problems_are_told_at_once_with_field_limit_and_remedy() -> None:
    text = """
training: {learning_rate: 1.0e+308, max_stepps: 3, save_steps: 0}
adapter: {r: -1, lora_dropout: .nan, target_modules: 5}
output_path: /etc
"""
    with pytest.raises(ConfigError) as caught:
        config.from_yaml(text)
    lines = {problem.field: problem.line() for problem in caught.value.problems}
    assert set(lines) == {
        "training.learning_rate",
        "training.max_stepps",
        "training.save_steps",
        "adapter.r",
        "adapter.lora_dropout",
        "adapter.target_modules",
        "output_path",
    }
    assert "at least 1" in lines["adapter.r"]
    assert "training.max_steps" in lines["training.max_stepps"]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("training.learning_rte", "training.learning_rate"),
        ("rank", "adapter.r"),
        ("adapter.alpha", "adapter.lora_alpha"),
        ("batch_size", "training.per_device_train_batch_size"),
        ("training.gradient_checkpointing", "memory.checkpointing"),
        ("max_steps", "training.max_steps"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(wrong: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        RunConfig().changed({wrong: 1})


def test_unknown_names_and_wrong_values_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig().changed({"adapter.rank": 4, "training.max_steps": "many"})
    assert {problem.field for problem in caught.value.problems} == {"adapter.rank", "training.max_steps"}


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization.load_in_8bit": True},
        {"adapter.method": "full"},
        {"adapter.target_modules": []},
        {"adapter.target_modules": ["lm_head"]},
        {"training.max_steps": 0},
        {"memory.checkpointing": "every-0"},
    ],
)
def test_pairs_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RunConfig().changed(changes)


def test_method_follows_quantisation() -> None:
    plain = {"quantization.load_in_4bit": False}
    assert RunConfig().method == "qlora"
    assert RunConfig().changed(plain).method == "lora"
    assert RunConfig().changed({**plain, "adapter.method": "full"}).method == "full"


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
    changes = config.parse_assignments([word])
    assert list(changes.values()) == [value]
    RunConfig().changed(changes)


def test_assignments_are_yaml_and_scientific_numbers() -> None:
    read = config.parse_assignments(
        ["training.learning_rate=1e-4", "adapter.target_modules=[q_proj, v_proj]", "model.name=0e"]
    )
    assert read == {
        "training.learning_rate": 1e-4,
        "adapter.target_modules": ["q_proj", "v_proj"],
        "model.name": "0e",
    }
    with pytest.raises(ConfigError, match="no '='"):
        config.parse_assignments(["training.seed"])


@pytest.mark.parametrize("text", ["- 1", "a: [", "!!python/object/apply:os.system ['true']", "[" * 5000, "12"])
def test_text_that_is_no_config_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError):
        config.from_yaml(text)
