"""What the Export tab does besides its cards: Ollama, the smallest file, the list of what was made."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from app.config import presets
from app.errors import UsageError, WorkbenchError
from app.export.requests import ExportRequest
from app.export.targets import job as export_job
from app.hub import push
from app.jobs import directory as jobs
from app.jobs import supervisor
from app.jobs.child import JobChild
from app.jobs.directory import JobDirectory, Status
from app.models.names import STARTER, resolve
from app.reading import parsed_as
from app.runs.on_disk import exports
from app.ui.components import number_format
from app.ui.components.markup import escaped
from app.ui.shell.language import Translator
from app.ui.tabs.export import made_panel, making, ollama_panel, push_panel, tab
from app.ui.tabs.export.making import FileChoice, FileFields
from app.workspace import Workspace
from tests.export.targets import ollama_server
from tests.models import tiny_models

T = Translator("en")


def merged_starter(workspace: Workspace) -> str:
    job = jobs.create(workspace, "merge", {"adapter": "/none", "out": resolve(STARTER)})
    job.write_status(Status(state="finished", result={"model": resolve(STARTER)}))
    return f"model:{job.id}"


def asked_for(job: JobDirectory) -> ExportRequest:
    return parsed_as(ExportRequest, job.config)


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs be handed in and wait."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)


@pytest.mark.usefixtures("unstarted")
def test_ollama_is_asked_about_first_and_answers_in_the_card(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here")
    value, file = merged_starter(workspace), FileChoice("q8_0")
    with ollama_server.running() as address:
        monkeypatch.setenv("OLLAMA_HOST", address)
        asked = ollama_panel.ask(workspace, value, "mine", file, T)
        assert asked.text.startswith(f"Create mine in Ollama at {address}?")
        assert not jobs.all_jobs(workspace, "export")
        monkeypatch.delenv("OLLAMA_HOST")  # the job makes it where the question was asked
        job = ollama_panel.create(workspace, asked.about)
        outcome, result = export_job.run(JobChild(job))
        job.write_status(Status(state=outcome, result=dict(result)))
        assert result["created"] == "mine" and result["answer"]
        card = tab.view(workspace, value, T).cards["ollama"].html
        assert "mine is in Ollama and answers:" in card and "ollama run mine" in card
        monkeypatch.setenv("OLLAMA_HOST", address)
        again = ollama_panel.ask(workspace, value, "mine", file, T)
        assert again.text == f"Ollama at {address} has a model mine. Replace it?"
        assert (again.about.is_taken, asked.about.is_taken) == (True, False)  # type: ignore[attr-defined]


def test_names_and_a_missing_ollama_are_said_before_anything_is_made(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = merged_starter(workspace)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(WorkbenchError, match="is no name for Ollama"):
        ollama_panel.ask(workspace, value, "a b", FileChoice(), T)
    with pytest.raises(WorkbenchError, match=r"does not answer at 127\.0\.0\.1:9"):
        ollama_panel.ask(workspace, value, "", FileChoice(), T)
    assert not jobs.all_jobs(workspace, "export")


@pytest.mark.usefixtures("unstarted")
def test_the_smallest_that_passes_is_a_choice_like_a_format(workspace: Workspace) -> None:
    value = merged_starter(workspace)
    chosen = FileFields(gr.Dropdown(), gr.Textbox()).read([exports.SMALLEST, " kl=0.05 "])
    request = asked_for(making.make(workspace, value, "gguf", chosen))
    assert request.smallest == "kl=0.05"
    assert asked_for(making.make(workspace, value, "hub", chosen)).smallest == ""
    assert asked_for(making.make(workspace, value, "lmstudio", FileChoice("q3_k_m"))).dtype == "q3_k_m"
    with pytest.raises(UsageError, match="is no bound"):
        making.make(workspace, value, "gguf", FileChoice(exports.SMALLEST, "fast"))
    for odd in (None, 5, "q1", ["q8_0"]):
        assert FileFields(gr.Dropdown(), gr.Textbox()).read([odd, None]) == FileChoice()


def test_each_format_has_its_size_and_time(workspace: Workspace) -> None:
    value = merged_starter(workspace)
    source = exports.find(workspace, value)
    seconds = {dtype: exports.expected_seconds(source, "gguf", dtype) for dtype in ("f16", "q4_k_m", exports.SMALLEST)}
    assert seconds["f16"] < seconds["q4_k_m"] < seconds[exports.SMALLEST]
    card = tab.view(workspace, value, T, exports.SMALLEST).cards["gguf"].html
    assert "between" in card and "at most" in card


def test_the_list_names_size_place_and_report_and_asks_before_it_removes(workspace: Workspace) -> None:
    assert "No export yet" in made_panel.table(workspace, T)
    out = workspace.output_dir("mine <b>")
    out.mkdir()
    (out / "model.gguf").write_bytes(b"x" * 2_000_000)
    job = jobs.create(workspace, "export", {"out": str(out), "to": "gguf"})
    job.write_status(Status(state="finished", ended=1.7e9, result={"verdict": "warn", "dtype": "q4_k_m"}))
    shown = made_panel.table(workspace, T)
    date = number_format.moment(1.7e9, T)
    for text in ("GGUF Q4_K_M", number_format.gigabytes(2_000_000), date, "wb-warn", str(escaped(out.name))):
        assert text in shown
    assert [f'data-pick="{verb}:{job.id}"' in shown for verb in ("show", "fetch", "remove")] == [True] * 3
    asked = made_panel.remove_question(workspace, job.id, T)
    assert str(out) in asked.text and "1.9 MB" in asked.text and asked.about == job.id and out.is_dir()


def request_from(client: str, **headers: str) -> gr.Request:
    return SimpleNamespace(client=SimpleNamespace(host=client), headers=headers)  # type: ignore[return-value]


def test_the_file_manager_opens_only_where_browser_and_server_are_one(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_panel.is_local(request_from("127.0.0.1", host="localhost:7860"))
    assert not made_panel.is_local(request_from("10.0.0.8"))
    assert not made_panel.is_local(request_from("127.0.0.1", **{"X-Forwarded-For": "10.0.0.8"}))
    assert not made_panel.is_local(None)
    out = workspace.output_dir("mine")
    out.mkdir()
    job = jobs.create(workspace, "export", {"out": str(out), "to": "adapter"})
    job.write_status(Status(state="finished", ended=1.7e9))
    opened = tmp_path / "opened"
    program = tmp_path / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(opened))}.part\nmv {opened}.part {opened}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    assert str(out) in made_panel.shown(workspace, job.id, T, is_local=False) and not opened.exists()
    assert "file manager" in made_panel.shown(workspace, job.id, T, is_local=True)
    supervisor._started[-1].wait(10)
    assert opened.read_text().strip() == str(out)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "It lies on the machine" in made_panel.shown(workspace, job.id, T, is_local=True)


@pytest.mark.usefixtures("unstarted")
def test_a_push_is_asked_about_and_goes_from_the_prepared_folder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    value = merged_starter(workspace)
    with pytest.raises(UsageError, match="no folder for the hub yet"):
        push_panel.ask(workspace, value, "me/mine", True, T)
    job = making.make(workspace, value, "hub", repo="me/mine")
    out = Path(asked_for(job).out)
    out.mkdir()
    (out / "README.md").write_text("card")
    job.write_status(Status(state="finished", result={"out": str(out)}))
    assert asked_for(job).repo == "me/mine"
    with pytest.raises(UsageError, match="is no hub repository"):
        push_panel.ask(workspace, value, "mine", True, T)
    with pytest.raises(UsageError, match="No repository is named"):  # it said: '' is no hub repository
        push_panel.ask(workspace, value, " ", True, T)
    asked = push_panel.ask(workspace, value, " me/mine ", False, T)
    assert "seen by everybody" in asked.text and out.name in asked.text
    assert push_panel.standing(workspace, value, T) == ""
    pushing = push.start(workspace, asked.about)  # type: ignore[arg-type]
    assert "Pushing to me/mine" in push_panel.standing(workspace, value, T)
    pushing.write_status(Status(state="failed", reason="Nothing was pushed to me/mine. No network."))
    assert "Nothing was pushed" in push_panel.standing(workspace, value, T)
    pushing.write_status(Status(state="finished", result={"url": "https://huggingface.co/me/mine"}))
    assert "https://huggingface.co/me/mine" in push_panel.standing(workspace, value, T)


@pytest.mark.usefixtures("unstarted")
def test_a_checkpoint_a_blend_and_a_trained_model_go_out(workspace: Workspace, tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "qwen3")
    config = presets.load("cpu-starter").config.changed({"model.name": str(base)})
    run = jobs.create(workspace, "train", config.as_dict(), name="mine")
    checkpoint = tiny_models.save_adapter(run.checkpoints / "step-5", base)
    tiny_models.tokenizer().save_pretrained(checkpoint)
    for name in ("complete.json", "optimizer.pt"):
        (checkpoint / name).write_text("{}")
    run.write_status(Status(state="stopped"))
    blend = jobs.create(workspace, "blend", {"run": run.id})
    blended = tiny_models.save_adapter(tmp_path / "blended", base)
    tiny_models.tokenizer().save_pretrained(blended)
    blend.write_status(Status(state="finished", result={"adapter": str(blended), "rank": 4}))
    full = config.changed({"adapter.method": "full", "quantization.load_in_4bit": False})
    whole = jobs.create(workspace, "train", full.as_dict(), name="whole")
    tiny_models.save_model(whole.result / "model", "qwen3")
    whole.write_status(Status(state="finished"))
    offered = [value for _, value in exports.choices(workspace)]
    made = {}
    for value, target in ((f"{run.id}:5", "adapter"), (blend.id, "adapter"), (whole.id, "gguf")):
        assert value in offered
        job = making.make(workspace, value, target, FileChoice("f16"))
        outcome, result = export_job.run(JobChild(job))
        assert outcome == "finished"
        made[value] = (job, set(result["files"]))
    assert "adapter_model.safetensors" in made[blend.id][1] and asked_for(made[blend.id][0]).adapter == str(blended)
    files = made[f"{run.id}:5"][1]
    assert "adapter_model.safetensors" in files and not files & {"optimizer.pt", "complete.json"}
    assert asked_for(made[whole.id][0]).model == str(whole.result / "model")
    assert any(name.endswith("-f16.gguf") for name in made[whole.id][1])
