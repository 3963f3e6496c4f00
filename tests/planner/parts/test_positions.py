"""Rows longer than a model's positions are refused with both numbers, a scaling of the positions counted in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app import planner
from app.catalog import find
from app.config.schema import RunConfig
from app.errors import ConfigError, PlanError
from app.planner import PlanRequest
from app.planner.parts.positions import longest_row
from app.runs.submission.submit import refuse

MODEL = replace(find("starter"), max_positions=1024, config={})


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({}, 1024),
        ({"rope_scaling": None}, 1024),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 4096),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 1024),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}}, 4096),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128}}, 1024),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 32.0}}, 1024),
        ({"text_config": {"rope_scaling": {"type": "dynamic", "factor": 2}}}, 2048),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, 1024),
    ],
)
def test_the_longest_row_of_a_model(config: dict[str, Any], longest: int) -> None:
    model = replace(MODEL, config=config)
    assert longest_row(model) == longest
    planner.plan(PlanRequest(model=model, seq_len=longest))
    with pytest.raises(PlanError) as caught:
        planner.plan(PlanRequest(model=model, seq_len=longest + 1))
    assert f"{longest:,}" in caught.value.why and f"{longest + 1:,}" in caught.value.why


def test_models_without_positions_have_no_limit() -> None:
    planner.plan(PlanRequest(model=replace(MODEL, alibi=True), seq_len=4096))
    planner.plan(PlanRequest(model=replace(MODEL, max_positions=0), seq_len=4096))


def test_a_run_is_refused_at_its_start() -> None:
    config = RunConfig().changed({"model.name": "starter", "data.max_length": 1024})
    refuse(config)
    with pytest.raises(ConfigError, match=r"1,025.*1,024"):
        refuse(config.changed({"data.max_length": 1025}))
