import pytest

from app import catalog
from app.catalog import spec_from_config, total_parameters
from app.errors import ModelError
from app.planner import PlanRequest, estimate

# Gemma 3 4B: https://huggingface.co/google/gemma-3-4b-it states 4,300,079,472 parameters.
TEXT = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "sliding_window": 1024,
}
TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "image_size": 896,
    "patch_size": 14,
}


def spec(**changes: object) -> catalog.ModelSpec:
    return spec_from_config({"model_type": "gemma3", "text_config": TEXT, "vision_config": TOWER, **changes}, "wide")


def test_a_known_tower_is_counted_to_the_parameter() -> None:
    assert total_parameters(spec()) == 4_300_079_472
    assert spec().unplanned == 416_866_032 + 1152 * 2560 + 1152
    (note,) = [line for line in estimate(PlanRequest(model=spec())).warnings if "vision" in line]
    assert f"{spec().unplanned:,}" in note


def test_an_unknown_tower_is_named() -> None:
    found = spec(vision_config={"model_type": "other"})
    assert found.unplanned == 0 and found.uncounted == "vision_config"
    assert any("vision_config" in line for line in estimate(PlanRequest(model=found)).warnings)


def test_a_text_model_has_neither() -> None:
    found = spec_from_config({"model_type": "gemma3", "text_config": TEXT}, "plain")
    assert (found.unplanned, found.uncounted) == (0, "")


@pytest.mark.parametrize("value", [None, -1, 1.5, "27", True, 10**30])
def test_a_broken_tower_names_its_field(value: object) -> None:
    with pytest.raises(ModelError, match="num_hidden_layers"):
        spec(vision_config={**TOWER, "num_hidden_layers": value})
