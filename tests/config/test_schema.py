import pytest

from app.config.schema import RunConfig
from app.errors import ConfigError


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
