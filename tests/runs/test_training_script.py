"""A run as a script: the same curve from transformers, peft and trl alone, in one process and in two."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.data.dataset.build import BuiltDataset
from app.errors import DataError, JobError
from app.jobs import directory, requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.runs.submission import submit
from app.runs.training_script import recipe, script
from app.workspace import Workspace, open_workspace

DATA = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"
STEPS = 50


def config(**changes: object) -> RunConfig:
    """Packing, double quantisation, accumulation and validation on. No dropout: two processes draw it differently."""
    return presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "data.max_length": 48,
            "data.validation_split": 0.1,
            "training.max_steps": STEPS,
            "training.per_device_train_batch_size": 1,
            "training.gradient_accumulation_steps": 2,
            "training.eval_steps": 20,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, JobDirectory]]:
    workspace = open_workspace(tmp_path_factory.mktemp("recipe"))
    data = workspace.root / DATA.name
    data.write_bytes(DATA.read_bytes())
    job = submit.start(workspace, config(data__file=str(data)))
    status = requests.wait(job, timeout_s=240)
    assert status.state == "finished", job.log_file.read_text()[-3000:]
    yield workspace, job


def curve_of(job: JobDirectory) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in steps_of(read_rows(job.metrics_file))}


def printed_by(job: JobDirectory, folder: Path, *launcher: str) -> list[dict[str, float]]:
    """Run a job's recipe as a process of its own, outside of the house, and return what it printed."""
    file = folder / "recipe.py"
    file.write_text(recipe(job), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, *launcher, str(file), str(folder / "out")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "out" / "adapter_model.safetensors").is_file()
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]


def furthest_apart(printed: list[dict[str, float]], curve: dict[int, float]) -> float:
    """Return the largest relative difference of two curves over the same steps."""
    other = {int(row["step"]): row["loss"] for row in printed if "loss" in row}
    assert set(other) == set(curve) == set(range(1, STEPS + 1))
    return max(abs(other[step] - loss) / loss for step, loss in curve.items())


@pytest.mark.slow
def test_the_recipe_gives_the_curve_of_the_run(finished: tuple[Workspace, JobDirectory], tmp_path: Path) -> None:
    _, job = finished
    printed = printed_by(job, tmp_path)
    assert furthest_apart(printed, curve_of(job)) < 1e-4
    validated = [row["eval_loss"] for row in read_rows(job.metrics_file) if "eval_loss" in row]
    assert [row["eval_loss"] for row in printed if "eval_loss" in row] == pytest.approx(validated, rel=1e-4)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(finished: tuple[Workspace, JobDirectory], tmp_path: Path) -> None:
    _, job = finished
    options = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    printed = printed_by(job, tmp_path, *options)
    assert printed[0] == {"processes": 2}
    assert furthest_apart(printed, curve_of(job)) < 1e-3


@pytest.mark.slow
def test_run_again_is_bitwise_the_same(finished: tuple[Workspace, JobDirectory]) -> None:
    workspace, job = finished
    twin = submit.again(workspace, job)
    assert twin.id != job.id
    assert requests.wait(twin, timeout_s=240).state == "finished"
    assert curve_of(twin) == curve_of(job)
    weights = "adapter/adapter_model.safetensors"
    assert (twin.result / weights).read_bytes() == (job.result / weights).read_bytes()
    Path(job.config["data"]["file"]).write_text("[]")
    with pytest.raises(DataError, match="has changed"):
        submit.again(workspace, job)


def test_a_run_that_has_read_nothing_and_other_jobs_have_no_recipe(workspace: Workspace) -> None:
    with pytest.raises(JobError, match="no tokenised rows"):
        recipe(directory.create(workspace, "train", config().as_dict()))
    with pytest.raises(JobError, match="no training run"):
        recipe(directory.create(workspace, "selftest", {}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapter.method": "full", "quantization.load_in_4bit": False},
        {"quantization.load_in_4bit": False, "quantization.load_in_8bit": True, "adapter.use_rslora": True},
        {"adapter.loraplus_lr_ratio": 16, "training.early_stopping_patience": 2},
        {"training.optim": "lora_fa", "training.load_best_model_at_end": True},
        {"model.dtype": "auto", "memory.checkpointing": "every-2", "adapter.target_modules": ["q_proj", "v_proj"]},
    ],
)
def test_every_recipe_is_python_and_imports_what_it_uses(changes: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "validation_packed.arrow").touch()
    rows = BuiltDataset(tmp_path, {"rows": 3, "file": 'my "data" \\ .json\n'})
    text = script(config().changed(changes), rows, "A run", {"torch": "2.13.0"})
    tree = ast.parse(text)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used
    assert not [name for name in used if name.startswith("create_") and name not in imported]


@pytest.mark.parametrize(("model", "says"), [("qwen3-30b-a3b", True), ("qwen3-8b", False)])
def test_a_recipe_of_experts_says_that_they_stay_in_16_bits(model: str, says: bool, tmp_path: Path) -> None:
    rows = BuiltDataset(tmp_path, {"rows": 3, "file": "rows.json"})
    text = script(config().changed({"model.name": model}), rows, "A run", {})
    assert ("leaves this model's experts in 16 bits" in text) is says
    ast.parse(text)
    whole = script(config().changed({"model.name": model, "quantization.load_in_4bit": False}), rows, "A run", {})
    assert "experts in 16 bits" not in whole
