"""Every way of training on the starter: it learns, resumes, saves, trains what PEFT counts, answers in the engine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config.schema import RunConfig
from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.requests import columns_of
from app.jobs import directory, requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.models.names import resolve
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.runs.on_disk import artifacts
from app.workspace import Workspace, open_workspace
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
# What one engine holds at once: adapters on one base, stored in one way; a model trained as a whole is its own base.
ENGINES = {"nf4": ("dora", "rslora", "lora+", "lora-fa"), "int8": ("int8",), "full": ("full",)}
ASKED = [{"role": "user", "content": "What is the sea?"}]
Train = Callable[[str], JobDirectory]


def config_of(name: str) -> RunConfig:
    return small(**{key.replace(".", "__"): value for key, value in VARIANTS[name].items()})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Return a function that trains a variant once for all tests of this file."""
    workspace = open_workspace(tmp_path_factory.mktemp("variants"))
    made: dict[str, JobDirectory] = {}

    def train(name: str) -> JobDirectory:
        if name not in made:
            made[name] = go(directory.create(workspace, "train", config_of(name).as_dict(), name=name))
        return made[name]

    yield train
    for engine in artifacts.living_engines(workspace):
        requests.stop(workspace, engine, force=True)
        requests.wait(engine, timeout_s=60)


def validated(job: JobDirectory) -> list[float]:
    return [row["eval_loss"] for row in read_rows(job.metrics_file) if "eval_loss" in row]


def weights_of(job: JobDirectory) -> bytes:
    return next(job.result.glob("*/*.safetensors")).read_bytes()


def trained_by_peft(job: JobDirectory) -> int:
    """Count what PEFT (or, for full fine-tuning, torch) says is trained when the same model is built anew."""
    from app.devices import Processor
    from app.models.loading import resolve_dtype
    from app.training import assembly
    from app.training.trainers.arguments import trl_arguments
    from app.training.trainers.optimizers import peft_optimizer

    config = config_of(job.name)
    model = assembly.build_model(config, resolve(config.model.name))
    if config.adapter.method == "full":
        return int(model.num_parameters(only_trainable=True))
    arguments = trl_arguments(config, Path("unused"), resolve_dtype("fp32"), Processor(), validate=False)
    peft_optimizer(config, model, arguments)
    return int(model.get_nb_trainable_parameters()[0])


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_variant_learns_resumes_and_trains_what_peft_counts(name: str, workspace: Workspace, trained: Train) -> None:
    config = config_of(name)
    whole = trained(name)
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

    from app.training import assembly

    fixed = run(workspace, small(training__optim="lora_fa", training__max_steps=2))
    after = load_file(next(fixed.result.glob("adapter/*.safetensors")))
    fresh = assembly.build_model(small(), resolve("starter"))
    start = {name.replace(".default", ""): value for name, value in fresh.state_dict().items() if "lora_" in name}
    assert after.keys() == start.keys()
    for name, value in after.items():
        assert bool((value == start[name]).all()) == ("lora_A" in name), name


def answered_alone(job: JobDirectory, quant: str, most_tokens: int) -> str:
    """Return the greedy answer of a run's result, loaded by PEFT and transformers without the engine."""
    import torch
    from peft import PeftModel

    from app.models.loading import load_base, load_tokenizer

    whole, adapter = job.result / "model", job.result / "adapter"
    base = load_base(str(whole) if whole.is_dir() else resolve("starter"), quant=quant, dtype="auto")  # type: ignore[arg-type]
    model = base if whole.is_dir() else PeftModel.from_pretrained(base, str(adapter))
    tokenizer = load_tokenizer(str(whole if whole.is_dir() else adapter))
    ids = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        found = model.eval().generate(
            input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=most_tokens, use_cache=True
        )
    return str(tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_variant_answers_in_the_playground_as_it_does_alone(engine: str, trained: Train) -> None:
    runs = [trained(name) for name in ENGINES[engine]]
    workspace = open_workspace(runs[0].path.parents[1])
    chosen = artifacts.together(workspace, [job.id for job in runs])
    columns = [artifact.column for artifact in chosen]
    job = artifacts.engine_for(workspace, chosen)
    with EngineClient(wait_for_endpoint(job, timeout_s=240)) as client:
        events = client.chat_columns(columns, ASKED, temperature=0, max_tokens=8)
        answers = {column.name: column.text for column in columns_of(events, columns)}
    requests.stop(workspace, job)
    for run_, artifact, column in zip(runs, chosen, columns, strict=True):
        assert answers[column] == answered_alone(run_, artifact.quant, 8), artifact.name
