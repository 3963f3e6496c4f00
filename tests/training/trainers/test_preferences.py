"""DPO, KTO and ORPO on a processor: as TRL alone, killed and resumed bitwise, going on from an adapter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.schema import RunConfig
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.jobs.metrics import events_of, read_rows, steps_of
from app.runs.training_script import recipe
from app.workspace import Workspace, open_workspace
from assets.build.preferences import write
from tests.models.tiny_models import PEFT_WARNING
from tests.training.in_process import go, run, small

HOUSE = Path(__file__).parents[3]
pytestmark = [PEFT_WARNING, pytest.mark.filterwarnings("ignore")]
FILES = {"sft": "neutral", "dpo": "pairs", "kto": "thumbs", "orpo": "pairs"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of the pirate's style as files, and the beginning of each as `NAME-short.jsonl`."""
    made = tmp_path_factory.mktemp("preferences")
    for name, file in write(made).items():
        (made / f"{name}-short.jsonl").write_text("".join(file.read_text().splitlines(keepends=True)[:48]))
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return open_workspace(tmp_path_factory.mktemp("shared"))


def config(folder: Path, objective: str, **changes: object) -> RunConfig:
    settings: dict[str, object] = {
        "data__file": str(folder / f"{FILES[objective]}-short.jsonl"),
        "training__objective": objective,
        "training__per_device_train_batch_size": 4,
        "training__max_steps": 8,
        "training__save_steps": 3,
        "data__validation_split": 0.0,
        "data__max_length": 96,
    }
    return small(**{**settings, **changes})


def losses_of(job: JobDirectory) -> list[float]:
    return [row["loss"] for row in steps_of(read_rows(job.metrics_file))]


def weights_of(job: JobDirectory) -> bytes:
    return (job.result / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def neutral(shared: Workspace, folder: Path) -> JobDirectory:
    """An adapter to go on from."""
    return run(shared, config(folder, "sft", training__max_steps=20, training__learning_rate=2e-3))


@pytest.fixture(scope="module")
def from_neutral(shared: Workspace, folder: Path, neutral: JobDirectory) -> Iterator[JobDirectory]:
    """A DPO run that goes on from the neutral adapter."""
    start = str(neutral.result / "adapter")
    yield run(shared, config(folder, "dpo", adapter__start_from=start, adapter__lora_dropout=0.1))


@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
def test_an_objective_learns_and_says_so(shared: Workspace, folder: Path, objective: str) -> None:
    job = run(shared, config(folder, objective, data__validation_split=0.1, training__eval_steps=4))
    assert job.status().state == "finished", job.status().reason
    last = job.last_metrics()
    assert last is not None
    losses = losses_of(job)
    assert len(losses) == 8 and losses[-1] < losses[0]
    assert 0 <= last["rewards_accuracy"] <= 1 and isinstance(last["rewards_margin"], float)
    assert ("kl" in last) is (objective == "kto")
    validated = [row for row in read_rows(job.metrics_file) if "eval_loss" in row]
    assert len(validated) == 2 and all("eval_rewards_margin" in row for row in validated)
    assert {path.name for path in job.checkpoints.iterdir()} == {"step-3", "step-6", "step-8"}
    assert not list(job.path.rglob("ref/*"))


def test_the_reference_is_the_adapter_that_the_run_began_with(
    from_neutral: JobDirectory, neutral: JobDirectory
) -> None:
    first = steps_of(read_rows(from_neutral.metrics_file))[0]
    # Policy and reference are the same before the first step, so nothing is preferred yet.
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["rewards_margin"] == 0
    assert weights_of(from_neutral) != weights_of(neutral)
    kept = from_neutral.path / "start" / "adapter_model.safetensors"
    assert kept.read_bytes() == weights_of(neutral)


def test_a_reference_that_reads_beforehand_says_the_same_once(
    shared: Workspace, folder: Path, neutral: JobDirectory, from_neutral: JobDirectory
) -> None:
    start = str(neutral.result / "adapter")
    settings = {"adapter__start_from": start, "adapter__lora_dropout": 0.1, "training__precompute_ref_log_probs": True}
    job = run(shared, config(folder, "dpo", **settings))
    assert losses_of(job) == pytest.approx(losses_of(from_neutral), abs=2e-5)
    rows = shared.root / "datasets" / json.loads((job.path / "dataset.json").read_text())["hash"]
    kept = list(rows.glob("reference-*.arrow"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    again = run(shared, config(folder, "dpo", **settings))
    assert losses_of(again) == losses_of(job)
    assert [path.stat().st_mtime_ns for path in rows.glob("reference-*.arrow")] == [before]
    other = run(shared, config(folder, "dpo", training__precompute_ref_log_probs=True, training__max_steps=1))
    assert other.status().state == "finished"
    assert len(list(rows.glob("reference-*.arrow"))) == 2  # another reference is not taken for this one


@pytest.mark.parametrize(
    "objective", ["dpo", pytest.param("kto", marks=pytest.mark.slow), pytest.param("orpo", marks=pytest.mark.slow)]
)
def test_killed_and_resumed_is_bitwise_the_same(
    shared: Workspace, folder: Path, neutral: JobDirectory, objective: str
) -> None:
    start = {"adapter__start_from": str(neutral.result / "adapter")} if objective == "dpo" else {}
    settings = config(folder, objective, **start)
    undisturbed = run(shared, settings)
    job = directory.create(shared, "train", settings.as_dict())
    script = Path(__file__).parents[1] / "killed_inside.py"
    with job.log_file.open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(HOUSE), "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, str(script), str(job.path), "step-5"], stdout=log, stderr=log, env=environment, timeout=240
        )
    assert done.returncode == -signal.SIGKILL, job.log_file.read_text()[-3000:]
    go(job)
    assert job.status().state == "finished", job.status().reason
    assert losses_of(job) == losses_of(undisturbed)
    assert weights_of(job) == weights_of(undisturbed)
    assert [row for row in events_of(read_rows(job.metrics_file)) if row["event"] == "resumed"]


def test_out_of_memory_lets_the_reference_read_beforehand_first(folder: Path) -> None:
    from app.training.memory.oom_fallback import next_rung

    wanted = config(folder, "kto")
    taken = []
    while rung := next_rung(wanted):
        taken.append(rung.changes)
        wanted = wanted.changed(rung.changes)
    assert taken[0] == {"training.precompute_ref_log_probs": True}
    # KTO needs two rows in a micro-batch.
    assert wanted.training.per_device_train_batch_size == 2 and wanted.effective_batch == 4
    assert wanted.memory.checkpointing == "full"


def test_thumbs_of_one_direction_are_told(shared: Workspace, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "thumbs-short.jsonl").read_text(encoding="utf-8").splitlines()]
    file = folder / "up.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows if row["label"]), encoding="utf-8")
    told = []
    for data in (file, folder / "thumbs-short.jsonl"):
        job = run(shared, config(folder, "kto", data__file=str(data), training__max_steps=1))
        events = events_of(read_rows(job.metrics_file))
        told.append([row["message"] for row in events if "every thumb is up" in str(row.get("message"))])
    assert len(told[0]) == 1 and not told[1]


PLAIN = """
import json, sys
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)
model, file, out = sys.argv[1:]
rows = [json.loads(line) for line in open(file, encoding="utf-8")]


def said(role, text):
    return [{"role": role, "content": text}]


data = Dataset.from_list(
    [
        {
            "prompt": said("user", row["prompt"]),
            "chosen": said("assistant", row["chosen"]),
            "rejected": said("assistant", row["rejected"]),
        }
        for row in rows
    ]
)
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
    args=DPOConfig(
        output_dir=out, save_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        max_steps=30, logging_steps=1, learning_rate=1.5e-3, warmup_steps=0, per_device_train_batch_size=4,
        gradient_accumulation_steps=1, seed=42, beta=0.2, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.1],
        gradient_checkpointing=False,
    ),
    train_dataset=data,
    processing_class=AutoTokenizer.from_pretrained(model),
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"),
)
trainer.train()
json.dump([row["loss"] for row in trainer.state.log_history if "loss" in row], open(out + "/losses.json", "w"))
"""


def test_the_loss_is_that_of_a_plain_script_of_trl(shared: Workspace, folder: Path, tmp_path: Path) -> None:
    """TRL reads texts and tokenises them itself; nothing of the workbench is in the script."""
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "out").mkdir()
    model, data = HOUSE / "assets" / "starter", folder / "pairs-short.jsonl"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "plain.py"), str(model), str(data), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    plain = json.loads((tmp_path / "out" / "losses.json").read_text())
    settings = {
        "training__max_steps": 30,
        "training__beta": 0.2,
        "training__sft_weight": 0.1,
        "quantization__load_in_4bit": False,
        "training__save_steps": 100,
    }
    job = run(shared, config(folder, "dpo", **settings))
    assert len(plain) == 30
    assert losses_of(job) == pytest.approx(plain, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
def test_the_script_of_a_run_gives_its_curve(
    shared: Workspace, folder: Path, neutral: JobDirectory, tmp_path: Path, objective: str
) -> None:
    start = {"adapter__start_from": str(neutral.result / "adapter")} if objective == "kto" else {}
    job = run(shared, config(folder, objective, **start))
    (tmp_path / "recipe.py").write_text(recipe(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "recipe.py"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    assert [row["loss"] for row in printed if "loss" in row] == pytest.approx(losses_of(job), abs=1e-4)
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file() and not (tmp_path / "out" / "ref").exists()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_preferred_style_rises_and_the_facts_stay(shared: Workspace, folder: Path, objective: str) -> None:
    """Held-out prompts, greedy: the neutral adapter answers in the style now and then, the preferring one does."""
    from tokenizers import Tokenizer

    from assets.build.samples import SAMPLES, build
    from assets.build.tuning import judge, load
    from benchmarks.preferences import NEUTRAL, PREFERRED, RIGHT, STYLED

    sample = next(one for one in SAMPLES if one.style == "pirate")
    prompts = build(sample)[1]
    starter = HOUSE / "assets" / "starter"
    tokenizer = Tokenizer.from_file(str(starter / "tokenizer.json"))

    def trained(objective: str, settings: dict[str, object], **changes: object) -> JobDirectory:
        named: dict[str, object] = {name.replace(".", "__"): value for name, value in settings.items()}
        named["data__file"] = str(folder / f"{FILES[objective]}.jsonl")
        return run(shared, config(folder, objective, **{"training__warmup_steps": 10, **named, **changes}))

    def shares(job: JobDirectory) -> tuple[float, float]:
        model = load(starter)
        model.load_adapter(str(job.result / "adapter"))
        return judge(model.eval(), tokenizer, "pirate", prompts)

    begun = trained("sft", NEUTRAL, training__save_steps=1000)
    before, _ = shares(begun)
    start = str(begun.result / "adapter")
    styled, right = shares(trained(objective, PREFERRED, adapter__start_from=start, training__save_steps=1000))
    assert before < 0.75 and styled > STYLED and right > RIGHT, (before, styled, right)
