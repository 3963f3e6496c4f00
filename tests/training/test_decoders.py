"""Today's decoders go the whole way: NF4, rows, training, a stop and a bitwise resume, answers, the merge."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from app.config.schema import RunConfig
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence
from app.engine.batching.text import TextStream
from app.engine.variants import BASE, VariantSet
from app.jobs.directory import JobDirectory
from app.jobs.metrics import steps_of, tail_rows
from app.models.loading import load_base, load_tokenizer
from app.models.tensors import read_checkpoint
from app.runs.training_script import recipe
from app.workspace import Workspace
from tests.export.merging import merge
from tests.models import todays_models
from tests.training.in_process import go, prepare, run, small, stop_at

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("qwen3_5", "mistral3")
SLOW = (
    *(
        "gemma3",
        "gemma4",
        "gemma4_text",
        "qwen3_5_text",
        "qwen3_vl",
        "qwen2_5_vl",
        "ministral3",
        "lfm2",
        "granitemoehybrid",
    ),
    *("falcon_h1", "olmo3", "glm4_moe_lite", "smollm3"),
)
SEEING = ("gemma3", "gemma4", "qwen3_5", "qwen3_vl", "qwen2_5_vl", "mistral3")
KINDS = [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]


def settings(model: Path, **changes: object) -> RunConfig:
    """Return a run of four steps on NF4."""
    return small(
        model__name=str(model),
        data__max_length=128,
        training__max_steps=4,
        training__save_steps=2,
        training__eval_steps=4,
        training__learning_rate=1e-2,
        training__per_device_train_batch_size=2,
        training__gradient_accumulation_steps=1,
        adapter__r=4,
        **changes,
    )


def ended(job: JobDirectory) -> Path:
    """Return the adapter of a run that has ended well."""
    status = job.status()
    assert status.state == "finished", status.reason
    return job.result / "adapter"


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, Path]:
    """Train one tiny model of a kind, undisturbed and with a stop: kind, base, both adapters."""
    from app.workspace import open_workspace

    kind = str(request.param)
    folder = tmp_path_factory.mktemp(kind)
    model, workspace = todays_models.save(folder / "base", kind), open_workspace(folder / "workspace")
    whole = run(workspace, settings(model))
    stopped = prepare(workspace, settings(model))
    stop_at(stopped, 2)
    assert stopped.status().state == "stopped", stopped.status().reason
    stopped.stop_file.unlink()
    return kind, model, ended(whole), ended(go(stopped))


def test_a_resumed_run_ends_in_the_same_bits(trained: tuple[str, Path, Path, Path]) -> None:
    _, _, whole, resumed = trained
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert one.keys() == other.keys() and one
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(bool(one[name].any()) for name in one if "lora_B" in name)


def test_the_merge_is_the_formula_in_float32(trained: tuple[str, Path, Path, Path], tmp_path: Path) -> None:
    kind, base, adapter, _ = trained
    merged = merge(adapter, tmp_path / "merged", base=str(base))
    ids = torch.randint(5, 300, (1, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = load_base(str(merged), quant="none", dtype="fp32")(input_ids=ids, use_cache=False).logits
        model = PeftModel.from_pretrained(load_base(str(base), quant="none", dtype="fp32"), str(adapter)).eval()
        expected = model(input_ids=ids, use_cache=False).logits
        plain = load_base(str(base), quant="none", dtype="fp32")(input_ids=ids, use_cache=False).logits
    assert float((found - expected).abs().max() / expected.abs().max()) < 5e-5
    assert float((plain - expected).abs().max() / expected.abs().max()) > 1e-3
    before, after = read_checkpoint(base), read_checkpoint(merged)
    assert before.keys() == after.keys()
    tower = [name for name in before if "vis" in name or "projector" in name]
    assert bool(tower) == (kind in SEEING)
    assert all(torch.equal(before[name].read(), after[name].read()) for name in tower)


def test_an_adapter_of_a_base_that_sees_is_one_of_the_whole_model(trained: tuple[str, Path, Path, Path]) -> None:
    kind, base, adapter, _ = trained
    if kind not in SEEING:
        pytest.skip("a base of text alone")
    whole = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(whole, str(adapter)).eval()
    ours = PeftModel.from_pretrained(load_base(str(base), quant="none", dtype="fp32"), str(adapter)).eval()
    layers = {name for name, _ in adapted.named_parameters() if "lora_" in name}
    stored = load_file(adapter / "adapter_model.safetensors")
    assert {name.replace(".default.", ".") for name in layers} == set(stored)
    ids = torch.randint(5, 300, (1, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(adapted(input_ids=ids, use_cache=False).logits, ours(input_ids=ids, use_cache=False).logits)
    assert "language_model" in json.loads((adapter / "adapter_config.json").read_text())["target_modules"]


def test_rows_are_packed_or_grouped_as_the_model_allows(tmp_path: Path, workspace: Workspace) -> None:
    model = todays_models.save(tmp_path / "base", "lfm2")
    job = run(workspace, settings(model))
    ended(job)
    assert json.loads((job.path / "dataset.json").read_text())["packed"] is False


def test_columns_answer_as_peft_does(trained: tuple[str, Path, Path, Path]) -> None:
    """Rows of a batch, base and adapter mixed, are the greedy tokens of the model alone; hybrids keep a state a row."""
    _, base, adapter, _ = trained
    columns = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    columns.add("own", adapter)
    prompts = [[7, 30, 41, 9, 55, 100, 23], [60, 61, 62], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]]
    rows = [row_of(name, prompt) for prompt in prompts for name in (BASE, "own")]
    together = columns.columns["own"].shared  # an adapter on experts runs beside the shared batch
    for joined in [rows] if together else [rows[::2], rows[1::2]]:
        batch = DecodeBatch(columns)
        batch.join(joined[:2])
        batch.step()
        batch.join(joined[2:])
        while batch.rows:
            batch.step()
    model = PeftModel.from_pretrained(load_base(str(base), quant="none", dtype="fp32"), str(adapter)).eval()
    for row in rows:
        with nullcontext() if row.column == "own" else model.disable_adapter():
            assert row.tokens == greedy(model, row.prompt), (row.column, row.prompt)
    assert any(one.tokens != other.tokens for one, other in zip(rows[::2], rows[1::2], strict=True))


def row_of(column: str, prompt: list[int]) -> DecodeSequence:
    """Return a row of eight greedy tokens."""
    sampling = Sampling(max_tokens=8, temperature=0)
    return DecodeSequence(column, prompt, sampling, TextStream(lambda ids: ""), frozenset(), lambda event: None)


def greedy(model: PeftModel, prompt: list[int]) -> list[int]:
    """Return eight greedy tokens, each from the whole text before it and without a cache."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.slow
def test_the_script_of_a_run_on_a_base_that_sees_gives_its_curve(tmp_path: Path, workspace: Workspace) -> None:
    base = todays_models.save(tmp_path / "base", "gemma3")
    job = run(workspace, settings(base, data__validation_split=0.0))
    ended(job)
    file = tmp_path / "recipe.py"
    file.write_text(recipe(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file), str(tmp_path / "out")], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    losses = [row["loss"] for row in printed if "loss" in row]
    own = [row["loss"] for row in steps_of(tail_rows(job.metrics_file))]
    assert losses == pytest.approx(own, rel=1e-4) and len(own) == 4
    one, other = (load_file(each / "adapter_model.safetensors") for each in (job.result / "adapter", tmp_path / "out"))
    assert one.keys() == other.keys()
