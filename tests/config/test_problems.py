import pytest

from app.config import parsing
from app.config.schema import RunConfig
from app.errors import ConfigError


def test_all_problems_are_told_at_once_with_field_limit_and_remedy() -> None:
    text = """
training: {learning_rate: 1.0e+308, max_stepps: 3, save_steps: 0}
adapter: {r: -1, lora_dropout: .nan, target_modules: 5}
output_path: /etc
"""
    with pytest.raises(ConfigError) as caught:
        parsing.from_yaml(text)
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
