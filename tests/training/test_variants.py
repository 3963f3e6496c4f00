"""Every way of training on the starter model: it learns, is stopped and resumed, saves, and trains what PEFT counts."""

from pathlib import Path
from typing import Any

import pytest

from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.workspace import Workspace
from tests.training.in_process import go, prepare, run, small, stop_at

# PEFT 0.21 uses names that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore")

PLAIN = {"quantization.load_in_4bit": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "qlora": {},
    "lora": PLAIN,
    "int8": {**PLAIN, "quantization.load_in_8bit": True},
    "full": {**PLAIN, "adapter.method": "full", "training.learning_rate": 3e-4},
    "dora": {"adapter.use_dora": True},
    "rslora": {"adapter.use_rslora": True},
    "lora+": {"adapter.loraplus_lr_ratio": 4, "training.learning_rate": 5e-4},
    "lora-fa": {"training.optim": "lora_fa", "training.learning_rate": 5e-3},
    "gaussian": {"adapter.init_lora_weights": "gaussian"},
    "orthogonal": {**PLAIN, "adapter.init_lora_weights": "orthogonal"},
    "head": {"adapter.modules_to_save": ["lm_head"]},
    "bf16 adapter": {"adapter.dtype": "bf16"},
}
# Always run; the others with the slow tests.
QUICK = ("lora-fa",)


def validated(job: JobDirectory) -> list[float]:
    return [row["eval_loss"] for row in read_rows(job.metrics_file) if "eval_loss" in row]


def weights_of(job: JobDirectory) -> bytes:
    return next(job.result.glob("*/*.safetensors")).read_bytes()


def trained_by_peft(job: JobDirectory) -> int:
    """Count what PEFT (or, for full fine-tuning, torch) says is trained when the same model is built anew."""
    from app.training import child
    from app.training.arguments import sft_arguments
    from app.training.optimizers import peft_optimizer

    config = small(**{name.replace(".", "__"): value for name, value in changes_of(job).items()})
    model = child.build_model(config, child.resolve(config.model.name))
    if config.adapter.method == "full":
        return int(model.num_parameters(only_trainable=True))
    arguments = sft_arguments(config, Path("unused"), child.resolve_dtype("fp32"), "cpu", validate=False)
    peft_optimizer(config, model, arguments)
    return int(model.get_nb_trainable_parameters()[0])


def changes_of(job: JobDirectory) -> dict[str, Any]:
    return VARIANTS[job.job["name"]]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_variant_learns_resumes_and_trains_what_peft_counts(name: str, workspace: Workspace) -> None:
    from app.jobs import directory

    config = small(**{key.replace(".", "__"): value for key, value in VARIANTS[name].items()})
    whole = go(directory.create(workspace, "train", config.as_dict(), name=name))
    status = whole.status()
    assert status.state == "finished", status.reason
    before, after = validated(whole)[0], validated(whole)[-1]
    assert after < before
    trained = status.result["trainable_params"]
    assert trained == trained_by_peft(whole) == estimate(request_from_config(config)).trainable_params

    stopped = prepare(workspace, config.changed({"training.max_steps": 12}))
    stop_at(stopped, 5)
    assert stopped.status().state == "stopped" and stopped.status().step == 5
    stopped.stop_file.unlink()
    go(stopped)
    assert stopped.status().state == "finished", stopped.status().reason
    assert [row["loss"] for row in steps_of(read_rows(stopped.metrics_file))] == [
        row["loss"] for row in steps_of(read_rows(whole.metrics_file))
    ]
    assert weights_of(stopped) == weights_of(whole)


def test_lora_fa_leaves_a_alone(workspace: Workspace) -> None:
    from safetensors.torch import load_file

    from app.training import child

    fixed = run(workspace, small(training__optim="lora_fa", training__max_steps=2))
    after = load_file(next(fixed.result.glob("adapter/*.safetensors")))
    fresh = child.build_model(small(), child.resolve("starter"))
    start = {name.replace(".default", ""): value for name, value in fresh.state_dict().items() if "lora_" in name}
    assert after.keys() == start.keys()
    for name, value in after.items():
        assert bool((value == start[name]).all()) == ("lora_A" in name), name
