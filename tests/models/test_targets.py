"""Modules that look like any linear layer and are not."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from app.models.targets import name_backbone, not_adapted, read_past
from tests.models import todays_models


def _empty(kind: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(todays_models.config(kind))
    return model


def test_routers_and_layers_whose_weights_are_read_past_them_are_left_out() -> None:
    routers = not_adapted(_empty("phimoe"))
    assert routers
    assert all(name.endswith("router") for name in routers)
    read = read_past(_empty("mamba"))
    assert read
    assert {name.rpartition(".")[2] for name in read} == {"x_proj", "dt_proj"}
    assert "out_proj" in not_adapted(_empty("falcon_h1")), "PEFT refuses it"
    assert not_adapted(_empty("falcon")) == [] == not_adapted(_empty("qwen3"))


def test_a_backbone_is_found_where_the_class_names_it_wrongly() -> None:
    model = _empty("llama4_text")
    assert model.base_model is model
    name_backbone(model)
    assert model.base_model is model.model
    plain = _empty("qwen3")
    name_backbone(plain)
    assert plain.base_model is plain.model
