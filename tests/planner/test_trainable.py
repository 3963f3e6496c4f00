"""Trained parameters against PEFT itself, on models without numbers."""

from typing import Any

import pytest

from app import catalog
from app.planner import PlanRequest, estimate

# PEFT 0.21 uses names that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore")

CASES: list[tuple[str, int, tuple[str, ...], bool]] = [
    ("llama-2-7b", 8, ("q_proj", "v_proj"), False),
    ("llama-3.2-1b", 16, ("all-linear",), True),
    ("qwen2.5-0.5b", 16, ("all-linear",), False),
    ("qwen3-0.6b", 4, ("q_proj", "k_proj", "v_proj", "o_proj"), False),
    ("gemma-2-2b", 8, ("all-linear",), False),
    ("phi-3-mini", 8, ("all-linear",), False),
    ("glm-4-9b-0414", 8, ("all-linear",), False),
    ("gpt2", 8, ("c_attn",), False),
    ("gpt2-medium", 8, ("c_proj",), False),
    ("bloom-560m", 8, ("query_key_value",), False),
    ("falcon-7b", 8, ("all-linear",), False),
    ("starcoder2-3b", 8, ("all-linear",), False),
    ("pythia-160m", 8, ("all-linear",), False),
    ("mixtral-8x7b", 8, ("all-linear",), False),
    ("qwen3-30b-a3b", 8, ("all-linear",), False),
    ("deepseek-v2-lite", 8, ("all-linear",), False),
    ("gpt-oss-20b", 8, ("all-linear",), False),
]


def test_the_figure_that_everyone_knows() -> None:
    request = PlanRequest(model=catalog.find("llama-2-7b"), rank=8, targets=("q_proj", "v_proj"))
    assert estimate(request).trainable_params == 4_194_304


@pytest.mark.parametrize(("name", "rank", "targets", "dora"), CASES)
def test_trained_parameters_are_those_of_peft(name: str, rank: int, targets: tuple[str, ...], dora: bool) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    layers = 2
    model = catalog.find(name)
    shallow = model.with_layers(layers)
    config = {key: value for key, value in model.config.items() if key != "model_type"}
    config.update({key: layers for key in ("num_hidden_layers", "n_layer") if key in config})
    with torch.device("meta"):
        built: Any = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(model.config["model_type"], **config)
        )
        parameters = sum(parameter.numel() for parameter in built.parameters())
        chosen: Any = "all-linear" if "all-linear" in targets else list(targets)
        lora = peft.LoraConfig(r=rank, target_modules=chosen, use_dora=dora, task_type="CAUSAL_LM")
        wrapped = peft.get_peft_model(built, lora)
    trained = sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)
    request = PlanRequest(model=shallow, rank=rank, targets=targets, dora=dora)
    assert estimate(request).trainable_params == trained
    assert catalog.total_parameters(shallow) == parameters
