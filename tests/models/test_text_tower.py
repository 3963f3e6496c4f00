"""A text run loads the language model of a base that sees, under the whole model's names and with its very logits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from app.errors import ModelError
from app.models.loading import load_base, load_config
from app.models.text_tower import inside_tower, language_class, place_of
from tests.models import tiny_models, todays_models

pytestmark = pytest.mark.filterwarnings("ignore")
# Some are stored under the names of earlier transformers: gemma3, mistral3, llava, qwen2_5_vl.
SEEING = ("gemma3", "gemma4", "qwen3_5", "mistral3", "llava", "qwen2_5_vl", "qwen3_vl", "lfm2_vl", "smolvlm")


@pytest.mark.parametrize("kind", SEEING)
def test_the_language_model_answers_as_the_whole_one(tmp_path: Path, kind: str) -> None:
    folder = todays_models.save(tmp_path, kind)
    whole = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tower = load_base(str(folder), quant="none", dtype="fp32")
    ids = torch.randint(5, 300, (2, 19), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = (model(input_ids=ids, use_cache=False).logits for model in (whole, tower))
    assert torch.equal(expected, found)
    assert set(tower.state_dict()) < set(whole.state_dict())
    assert not any("vis" in name for name in tower.state_dict())
    assert tower.generate(ids[:1], max_new_tokens=4, do_sample=False).shape[1] > ids.shape[1]


def test_a_vocabulary_can_grow(tmp_path: Path) -> None:
    tower = load_base(str(todays_models.save(tmp_path, "gemma3")), quant="none", dtype="fp32")
    tower.resize_token_embeddings(384, mean_resizing=False)
    assert tower.get_input_embeddings().weight is tower.get_output_embeddings().weight
    assert tower(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, 2, 384)


def test_targets_by_last_and_by_whole_names_hold_in_the_language_model_only(tmp_path: Path) -> None:
    tower = load_base(str(todays_models.save(tmp_path, "gemma3")), quant="none", dtype="fp32")
    layer = "model.language_model.layers.0.self_attn.q_proj"
    for names in ({"q_proj"}, {layer}):
        pattern = inside_tower(tower, names)
        assert isinstance(pattern, str) and re.fullmatch(pattern, layer)
        assert not re.fullmatch(pattern, "model.vision_tower.encoder.layers.0.self_attn.q_proj")
    assert not re.fullmatch(str(inside_tower(tower, {layer})), layer.replace("0", "1"))


def test_a_base_of_text_is_loaded_as_ever(tmp_path: Path) -> None:
    folder = tiny_models.save_model(tmp_path)
    model = load_base(str(folder), quant="none", dtype="fp32")
    assert place_of(model) == "" and inside_tower(model, {"q_proj"}) == {"q_proj"}
    assert language_class(load_config(str(folder)))[0].__name__ == "AutoModelForCausalLM"


def test_missing_weights_of_the_language_model_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = todays_models.save(tmp_path, "mistral3")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layers.0.self_attn.q_proj.weight"))
    save_file({name: one for name, one in weights.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"language_model\.layers\.0\.self_attn\.q_proj"):
        load_base(str(folder), quant="none", dtype="fp32")
