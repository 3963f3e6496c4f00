"""Each refused combination fails in the libraries themselves, or its reason is shown; the allowed ones really run."""

from pathlib import Path
from typing import Any

import pytest

from app import catalog
from app.config import schema
from app.config.rules import refused_here
from app.config.schema import RunConfig
from app.errors import ConfigError
from app.runs.submission import submit
from app.workspace import Workspace
from tests.training.in_process import run, small

pytestmark = pytest.mark.filterwarnings("ignore")

PLAIN = {"quantization.load_in_4bit": False}
INT8 = {**PLAIN, "quantization.load_in_8bit": True}
FULL = {**PLAIN, "adapter.method": "full"}
# (settings, the setting that is named, what the library says when the run is started all the same)
FAILS: list[tuple[dict[str, Any], str, str]] = [
    ({"adapter.method": "full"}, "adapter.method", "floating point"),
    ({"adapter.init_lora_weights": "orthogonal", **PLAIN, "adapter.r": 3}, "adapter.init_lora_weights", "to be even"),
    ({"adapter.init_lora_weights": "orthogonal"}, "adapter.init_lora_weights", "floating point"),
    ({"adapter.target_modules": ["q_proj", "lm_head"]}, "adapter.target_modules", "not supported"),
    (
        {"adapter.target_modules": ["q_proj", "v_proj"], "adapter.modules_to_save": ["q_proj"]},
        "adapter.modules_to_save",
        "floating point",
    ),
    ({"training.optim": "lora_fa", "adapter.use_dora": True}, "training.optim", "unsupported operand"),
]
# Here no library speaks up: it does something else than was asked.
SILENT: list[tuple[dict[str, Any], str]] = [
    ({"quantization.load_in_8bit": True}, "quantization.load_in_8bit"),
    ({**FULL, "adapter.loraplus_lr_ratio": 4}, "adapter.loraplus_lr_ratio"),
    ({**FULL, "training.optim": "lora_fa"}, "training.optim"),
    ({"training.optim": "lora_fa", "adapter.loraplus_lr_ratio": 4}, "adapter.loraplus_lr_ratio"),
    ({"training.early_stopping_patience": 2, "data.validation_split": 0}, "training.early_stopping_patience"),
    ({"training.load_best_model_at_end": True, "data.validation_split": 0}, "training.load_best_model_at_end"),
]
RUNS: list[dict[str, Any]] = [
    {**INT8, "adapter.use_rslora": True, "training.optim": "lora_fa"},
    {"training.optim": "lora_fa", "adapter.bias": "all"},
    {"adapter.loraplus_lr_ratio": 4, "adapter.use_dora": True, "training.optim": "adamw_8bit"},
    {"adapter.init_lora_weights": "orthogonal", **PLAIN, "adapter.r": 4},
    {"training.neftune_noise_alpha": 5, "memory.checkpointing": "every-2", "training.optim": "paged_adamw_8bit"},
    {"adapter.target_modules": ["self_attn.q_proj", "mlp.down_proj"], "adapter.modules_to_save": ["norm"]},
]


def two_steps(changes: dict[str, Any]) -> RunConfig:
    """Return a run of two steps without validation, unless that is asked for."""
    return small(training__max_steps=2, data__validation_split=0.0).changed(changes)


@pytest.mark.parametrize(("changes", "named", "said"), FAILS)
def test_what_is_refused_fails_in_the_library(
    changes: dict[str, Any], named: str, said: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        two_steps(changes)
    assert [problem.field for problem in caught.value.problems] == [named]
    assert all(problem.remedy for problem in caught.value.problems)
    monkeypatch.setattr(schema, "refused_together", lambda _: iter(()))
    status = run(workspace, two_steps(changes)).status()
    assert status.state == "failed" and said in status.reason


@pytest.mark.parametrize(("changes", "named"), SILENT)
def test_what_would_be_done_otherwise_than_asked_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        two_steps(changes)


@pytest.mark.parametrize("changes", [RUNS[0], *(pytest.param(changes, marks=pytest.mark.slow) for changes in RUNS[1:])])
def test_what_is_allowed_runs(changes: dict[str, Any], workspace: Workspace) -> None:
    submit.refuse(two_steps(changes))
    status = run(workspace, two_steps(changes)).status()
    assert status.state == "finished", status.reason


def test_dora_on_int8_needs_a_card(workspace: Workspace) -> None:
    asked = two_steps({**INT8, "adapter.use_dora": True})
    assert [problem.field for problem in refused_here(asked, kind=None)] == ["adapter.use_dora"]
    assert not list(refused_here(asked, kind="cuda"))
    assert run(workspace, asked).status().state == "failed"


@pytest.mark.parametrize("start", ["pissa", "olora", "corda", "loftq", "eva", "nonsense"])
def test_starts_that_change_the_base_are_refused_with_the_reason(start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig().changed({"adapter.init_lora_weights": start})
    assert ("this start" in caught.value.problems[0].message) == (start != "nonsense")


def test_olora_does_change_the_base_and_the_offered_starts_do_not() -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    def moved(start: object) -> bool:
        layer = torch.nn.Sequential(torch.nn.Linear(32, 32))
        before = layer[0].weight.detach().clone()
        wrapped = get_peft_model(layer, LoraConfig(r=4, target_modules=["0"], init_lora_weights=start))
        return not torch.equal(wrapped.base_model.model[0].base_layer.weight, before)

    assert moved("olora") and moved("pissa")
    assert not any(moved(start) for start in (True, False, "gaussian", "orthogonal"))


def test_what_is_not_installed_is_refused(workspace: Workspace) -> None:
    asked = two_steps({"training.report_to": ["wandb"], "model.attn_implementation": "flash_attention_2"})
    found = {problem.field: problem.message for problem in refused_here(asked, kind=None)}
    assert set(found) == {"model.attn_implementation", "training.report_to"}
    with pytest.raises(ConfigError, match="wandb is not installed"):
        submit.start(workspace, asked)
    assert not list(workspace.jobs.iterdir())


def test_a_wrong_target_gets_the_nearest_right_one(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="did you mean q_proj"):
        submit.start(workspace, two_steps({"adapter.target_modules": ["q_prj"]}))
    with pytest.raises(ConfigError, match="cannot be trained"):
        submit.refuse(two_steps({"adapter.target_modules": ["v_proj"], "adapter.modules_to_save": ["q_proj"]}))
    submit.refuse(two_steps({**PLAIN, "adapter.target_modules": ["v_proj"], "adapter.modules_to_save": ["q_proj"]}))


def test_the_attention_of_gpt2_is_told_from_its_mlp() -> None:
    from app.catalog.modules import attention_names, is_named, layer_modules

    spec = catalog.find("gpt2")
    assert attention_names(spec) == ("c_attn", "attn.c_proj")
    assert [module.role for module in layer_modules(spec, 0) if is_named(spec, module, attention_names(spec))] == [
        "qkv",
        "o",
    ]
    assert attention_names(catalog.find("starter")) == ("q_proj", "k_proj", "v_proj", "o_proj")


def test_the_project_has_no_second_list_of_refusals() -> None:
    for module in (Path(__file__).parents[2] / "app" / "config").glob("*.py"):
        assert module.stem == "rules" or "_problems(config" not in module.read_text(encoding="utf-8"), module
