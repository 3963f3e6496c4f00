"""Exports as jobs: what is in the folders, what never is, and what happens to a place that is taken."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.errors import ExportError, ModelError, NetworkError, OtherBaseError, UsageError, WorkbenchError, WorkspaceError
from app.export.requests import (
    OLLAMA_NAME,
    ExportAnswer,
    ExportRequest,
    MergeRequest,
    ollama_name,
    start_export,
    start_merge,
    wait_for_answer,
)
from app.export.staging import refuse_private
from app.export.targets import nf4_folder
from app.hub import push
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.identity import fingerprint, write_note
from app.workspace import Workspace, open_workspace
from tests.export.exporting import export
from tests.models import tiny_models

TOKEN = "hf_" + "a1B2" * 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> JobDirectory:
    """A finished training job with everything private that a trainer can leave in its folders."""
    home = tmp_path_factory.mktemp("private-home")
    base = tiny_models.save_model(home / "base", "qwen3", dtype=torch.bfloat16)
    job = JobDirectory(home / "jobs" / "20260101-000000-train-abcdef")
    adapter = tiny_models.save_adapter(job.result / "adapter", base, scale=0.03)
    tiny_models.tokenizer().save_pretrained(adapter)
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "trainer_state.json", "scheduler.pt"):
        (adapter / name).write_text(TOKEN)
    (adapter / "README.md").write_text(f"base_model: {base}\n")
    config = {"model": {"name": str(base)}, "adapter": {"r": 8}, "data": {"file": str(home / "diary.json")}}
    facts = {"kind": "train", "config": config, "data_sha256": "ab" * 32, "versions": {"peft": "0.21.2"}}
    job.job_file.write_text(json.dumps(facts))
    rows = [
        {"step": n, "loss": 3.0 / n, "time": float(n), **({"eval_loss": 2.0} if n == 9 else {})} for n in range(1, 10)
    ]
    job.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job.status_file.write_text(json.dumps({"state": "finished", "step": 9, "result": {"rows": 312, "steps": 9}}))
    return job


def everything_in(folder: Path) -> bytes:
    return b"\n".join(path.name.encode() + b"\n" + path.read_bytes() for path in folder.rglob("*") if path.is_file())


def assert_clean(folder: Path) -> None:
    found = everything_in(folder)
    for private in (
        b"private-home",
        TOKEN.encode(),
        b"training_args",
        b"optimizer.pt",
        b"diary",
        str(folder.parent).encode(),
    ):
        assert private not in found, private
    assert not re.search(rb"hf_[A-Za-z0-9]{20}", found)


def test_the_adapter_folder_is_clean_and_loads(tmp_path: Path, run: JobDirectory) -> None:
    adapter, out = run.result / "adapter", tmp_path / "out"
    answer = export(out, "adapter", adapter=adapter)
    assert {"out", "files", "run"} <= set(answer) and answer["out"] == str(out)
    assert sorted(answer["files"]) == sorted(path.name for path in out.iterdir())
    assert_clean(out)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    base = AutoModelForCausalLM.from_pretrained(run.config["model"]["name"], dtype=torch.float32)
    with tiny_models.quiet_peft(), torch.no_grad():
        model = PeftModel.from_pretrained(base, str(out))
        ours = model(torch.arange(40)[None]).logits
        model = PeftModel.from_pretrained(model.unload(), str(adapter))
        assert torch.equal(ours, model(torch.arange(40)[None]).logits)


@pytest.mark.parametrize("name", ["mine.zip", "mine.ZIP"])
def test_a_zip_holds_the_same_files(tmp_path: Path, run: JobDirectory, name: str) -> None:
    answer = export(tmp_path / name, "adapter", adapter=run.result / "adapter")
    assert answer["files"] == [name] and answer["bytes"] == (tmp_path / name).stat().st_size
    with zipfile.ZipFile(tmp_path / name) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert "mine/adapter_model.safetensors" in archive.namelist()
    assert_clean(tmp_path / "unpacked")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".mine")]


def test_the_card_is_made_from_the_run(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "out", "hub", adapter=run.result / "adapter", repo="me/mine")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "ab" * 32 in card and "312 rows" in card and "| adapter.r | 8 |" in card and "peft 0.21.2" in card
    assert "Loss 3.000 at first, 0.333 at the end" in card and "me/mine" in answer["run"]
    picture = (tmp_path / "out" / "loss.svg").read_text()
    assert picture.startswith("<svg") and "validation loss" in picture and "nan" not in picture
    assert_clean(tmp_path / "out")


def test_the_card_of_a_checkpoint_ends_where_the_checkpoint_does(tmp_path: Path, run: JobDirectory) -> None:
    checkpoint = Path(shutil.copytree(run.result / "adapter", run.checkpoints / "step-4"))
    export(tmp_path / "out", "hub", adapter=checkpoint)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A checkpoint after step 4, not the end of the run." in card and "0.750 at the end" in card
    assert_clean(tmp_path / "out")


def test_no_file_of_weights_has_a_blank_in_its_name(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "海盗 ü", "gguf", adapter=run.result / "adapter", lora_only=True)
    assert "海盗-ü-lora-f32.gguf" in answer["files"] and f"'{tmp_path}/海盗 ü/海盗-ü-lora-f32.gguf'" in answer["run"]


def test_a_name_that_files_beside_it_would_make_too_long_is_refused_at_once(tmp_path: Path, run: JobDirectory) -> None:
    workspace, adapter = open_workspace(tmp_path / "workspace"), str(run.result / "adapter")
    for name in ("n" * 231, "海" * 77):
        with pytest.raises(ExportError, match="too long"):
            start_export(workspace, ExportRequest("gguf", str(tmp_path / name), adapter))
    export(tmp_path / ("海" * 76), "adapter", adapter=adapter)


@pytest.mark.parametrize("option", ["imatrix", "rows", "suite"])
def test_a_file_that_is_missing_is_said_before_work_begins(tmp_path: Path, run: JobDirectory, option: str) -> None:
    workspace, adapter = open_workspace(tmp_path / "workspace"), str(run.result / "adapter")
    request = ExportRequest("gguf", str(tmp_path / "out"), adapter, **{option: str(tmp_path / "none")})  # type: ignore[arg-type]
    with pytest.raises(WorkspaceError, match="none cannot be read"):
        start_export(workspace, request)
    assert not list(workspace.jobs.iterdir())


def test_what_is_no_adapter_is_told_from_what_is_a_model(tmp_path: Path, run: JobDirectory) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    base = run.config["model"]["name"]
    for start, kind in ((start_export, partial(ExportRequest, "gguf")), (start_merge, MergeRequest)):
        with pytest.raises(ExportError, match=r"[Ii]t is a whole model.*--model"):
            start(workspace, kind(adapter=base, out=str(tmp_path / "out")))  # type: ignore[operator]
    near = ExportRequest("gguf", str(tmp_path / "out"), adapter=str(run.path))
    with pytest.raises(ExportError, match=f"Name {re.escape(str(run.result / 'adapter'))}"):
        start_export(workspace, near)
    with pytest.raises(UsageError, match=r"is a model, and this export is for an adapter alone.*vllm serve DIR"):
        ExportRequest("vllm", "out", model=base)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Mein Pirat ü", "mein-pirat-u"), ("v1.2_x", "v1.2_x"), ("a/b:c", "a-b-c"), ("x" * 200, "x" * 80), (".-ß", "ss")],
)
def test_every_name_has_a_form_for_ollama(text: str, name: str) -> None:
    assert ollama_name(text) == name and OLLAMA_NAME.fullmatch(name)


def test_names_without_a_letter_for_ollama_stay_apart() -> None:
    one, other = ollama_name("海盗"), ollama_name("猫")
    assert one != other and all(OLLAMA_NAME.fullmatch(name) for name in (one, other))


def test_a_merged_model_goes_out_with_its_receipt(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "ollama", "ollama", adapter=run.result / "adapter", safetensors=True)
    assert answer["verdict"] in ("pass", "warn") and answer["receipt"] == str(tmp_path / "ollama" / "receipt.json")
    receipt = json.loads((tmp_path / "ollama" / "receipt.json").read_text())
    assert receipt["reasons"] == answer["reasons"]
    assert receipt["export"]["ollama"]["template_equal"] is True and receipt["merged_against_adapter"] != "not measured"
    model = tmp_path / "hub"
    export(model, "hub", model=tmp_path / "ollama")
    assert "Merge receipt" in (model / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(model).config.model_type == "qwen3"
    for folder in (tmp_path / "ollama", model):
        assert_clean(folder)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_model_whose_weights_are_not_whole_is_not_packed(tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    model = AutoModelForCausalLM.from_pretrained(tiny_models.save_model(tmp_path / "base"))
    model.save_pretrained(sharded, max_shard_size="200KB")
    export(tmp_path / "whole", "hub", model=sharded)
    shard = sorted(sharded.glob("model-*.safetensors"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        export(tmp_path / "cut", "hub", model=sharded)
    shard.unlink()
    with pytest.raises(ModelError):
        export(tmp_path / "lost", "hub", model=sharded)
    assert not (tmp_path / "cut").exists() and not (tmp_path / "lost").exists()


def test_a_tokenizer_that_the_model_cannot_have_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    tokens = len(tiny_models.tokenizer())
    short = tiny_models.save_model(tmp_path / "short", vocab_size=tokens - 5)
    with pytest.raises(ExportError, match=f"the model has {tokens - 5} embeddings"):
        export(tmp_path / "out", "gguf", model=short, dtype="q8_0")
    lost = tiny_models.save_model(tmp_path / "lost")
    for path in lost.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(WorkbenchError, match="tokenizer"):
        export(tmp_path / "out", "gguf", model=lost, dtype="q8_0")
    assert not (tmp_path / "out").exists()


def test_gguf_for_ollama_says_what_was_merged(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "out", "ollama", adapter=run.result / "adapter", dtype="q8_0")
    assert answer["files"] == ["Modelfile", "out-q8_0.gguf", "receipt.json", "receipt.md"]
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["export"]["gguf"]["beyond_rounding"] == 0 and receipt["base"]["name"] == "base"
    assert (tmp_path / "out" / "Modelfile").read_text().startswith("FROM ./out-q8_0.gguf\n")
    assert answer["greedy_agreement"] > 0.8 and answer["mean_kl"] < 0.05
    assert "ollama create out " in answer["run"] and "ollama run out" in answer["run"]
    assert_clean(tmp_path / "out")


def test_vllm_gets_requests_to_try(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "out", "vllm", adapter=run.result / "adapter", base="owner/model", name="mine")
    assert answer["command"].startswith(
        "vllm serve owner/model --enable-lora --max-lora-rank 8 --lora-modules mine=mine"
    )
    assert answer["run"] == f"cd {tmp_path / 'out'} && {answer['command']}"
    requests = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").read_text().splitlines()]
    assert len(requests) >= 2 and all(one["model"] == "mine" and one["messages"] for one in requests)
    assert subprocess.run(["sh", "-n", tmp_path / "out" / "requests.sh"], check=False).returncode == 0
    assert_clean(tmp_path / "out")


def test_the_verdict_for_vllm_follows_the_base(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    without_note = export(tmp_path / "a", "vllm", adapter=adapter, base=base)
    assert without_note["verdict"] == "cannot tell" and "no note" in without_note["reasons"][0]
    write_note(adapter, fingerprint(str(base)))
    passed = export(tmp_path / "b", "vllm", adapter=adapter, base=base)
    assert passed["verdict"] == "pass" and not passed["reasons"]
    assert json.loads((tmp_path / "b" / "receipt.json").read_text())["verdict"] == "pass"
    away = export(tmp_path / "c", "vllm", adapter=adapter, base="owner/model")
    assert away["verdict"] == "cannot tell" and "not on this machine" in away["reasons"][0]
    sibling = shutil.copytree(base, tmp_path / "sibling")
    tensors = load_file(sibling / "model.safetensors")
    tensors["model.norm.weight"][0] += 0.5
    save_file(tensors, sibling / "model.safetensors", {"format": "pt"})
    warned = export(tmp_path / "d", "vllm", adapter=adapter, base=sibling)
    assert warned["verdict"] == "warn" and "trained on another base" in warned["reasons"][0]
    wider = tiny_models.save_model(tmp_path / "wider", "llama", hidden_size=192)
    with pytest.raises(OtherBaseError):
        export(tmp_path / "e", "vllm", adapter=adapter, base=wider)
    assert not (tmp_path / "e").exists()


def test_as_a_job_it_is_in_the_history_and_touches_nothing_that_exists(workspace: Workspace, run: JobDirectory) -> None:
    out = workspace.output_dir("mine")
    request = ExportRequest("adapter", str(out), adapter=str(run.result / "adapter"))
    job = start_export(workspace, request)
    assert wait_for_answer(job, ExportAnswer).out == str(out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert job.kind.accelerator is False and job.describe().as_dict()["job"] == "export"
    with pytest.raises(ExportError, match="exists"):
        start_export(workspace, request)
    assert before == {path: path.read_bytes() for path in out.iterdir()}
    failing = ExportRequest("hub", str(workspace.output_dir("none")), model=str(run.result / "adapter"))
    with pytest.raises(ExportError, match="not a model folder"):
        start_export(workspace, failing)


def test_a_stopped_export_leaves_nothing(workspace: Workspace, run: JobDirectory) -> None:
    out = workspace.output_dir("mine")
    job = start_export(workspace, ExportRequest("gguf", str(out), adapter=str(run.result / "adapter")))
    jobs.stop(workspace, job)
    with pytest.raises(ExportError, match="did not finish"):
        wait_for_answer(job, ExportAnswer)
    assert job.status().state == "stopped" and not out.exists()
    jobs.wait(job)


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "trainer_state.json", "rng_state_0.pth"])
def test_a_trainer_s_file_stops_the_export(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ExportError, match="trainer"):
        refuse_private(tmp_path / name, [])
    with pytest.raises(ExportError, match="token"):
        (tmp_path / "card.md").write_text(f"use {TOKEN}")
        refuse_private(tmp_path / "card.md", [])
    for key in ("ghp_" + "a" * 36, "AKIA" + "A" * 16):
        (tmp_path / "card.md").write_text(f"use {key}")
        with pytest.raises(ExportError, match="token or key"):
            refuse_private(tmp_path / "card.md", [])
    with pytest.raises(ExportError, match="folder of this machine"):
        (tmp_path / "config.json").write_text('{"a": "/home/ann/models"}')
        refuse_private(tmp_path / "config.json", ["/home/ann"])
    for hidden in ("notes.model", "tokenizer.json", "LICENSE.rst"):
        (tmp_path / hidden).write_text("x" * (5 << 20) + f' "{TOKEN}"')
        with pytest.raises(ExportError, match="token"):
            refuse_private(tmp_path / hidden, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "pickle", "adapter": "a"},
        {"to": "gguf"},
        {"to": "gguf", "adapter": "a", "model": "b"},
        {"to": "vllm", "model": "b"},
        {"to": "hub", "adapter": "a", "lora_only": True},
        {"to": "gguf", "adapter": "a", "dtype": "q4"},
    ],
)
def test_requests_that_do_not_fit_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ExportRequest(**{"out": "o", **wrong})  # type: ignore[arg-type]


def test_without_a_network_the_folder_stays_and_the_token_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(NetworkError) as caught:
        push.push(tmp_path, "me/mine", TOKEN, private=True)
    assert "stays in" in caught.value.line() and TOKEN not in caught.value.line()
    for wrong in ("mine", "../x/y", "a/b/c", "me/x y"):
        with pytest.raises(UsageError):
            push.checked(wrong)


def test_a_4_bit_folder_loads_as_any_and_answers_as_it_did(tmp_path: Path, run: JobDirectory) -> None:
    answer = export(tmp_path / "small", "nf4", adapter=run.result / "adapter")
    receipt = json.loads((tmp_path / "small" / "receipt.json").read_text())
    assert receipt["export"]["nf4"]["loaded_again_equal"] is True and answer["verdict"] in ("pass", "warn")
    with tiny_models.quiet_peft():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert "tokenizer.json" in answer["files"] and str(tmp_path / "small") in answer["run"]
    assert_clean(tmp_path / "small")


def test_a_4_bit_folder_that_answers_otherwise_is_not_made(
    tmp_path: Path, run: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrub = nf4_folder.scrubbed

    def damaged(stored: dict[str, Any]) -> dict[str, object]:
        stored["rms_norm_eps"] = 0.5
        return scrub(stored)

    monkeypatch.setattr(nf4_folder, "scrubbed", damaged)
    with pytest.raises(ExportError, match="answers otherwise"):
        export(tmp_path / "small", "nf4", model=run.config["model"]["name"])
    assert not (tmp_path / "small").exists()
