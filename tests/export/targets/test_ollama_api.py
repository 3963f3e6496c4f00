"""Models made in Ollama over its API: a real process that speaks it, files that llama.cpp answers with."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.main import main
from app.errors import ExportError, TakenError, UsageError
from app.export.requests import ExportRequest
from app.export.targets.ollama_api import Ollama
from app.models.names import STARTER, resolve
from tests.export.exporting import export
from tests.export.targets import ollama_server

pytest.importorskip("xllamacpp", reason="llama.cpp is not here (pip install -r requirements-dev.txt)")
STARTER_FOLDER = Path(resolve(STARTER))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ollama_server.running() as found:
        yield found


def seen(address: str) -> list[str]:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}/requests") as answer:
        found: list[str] = json.load(answer)
    return found


def test_the_model_is_made_asked_and_never_replaced_unasked(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", address)
    answer = export(tmp_path / "first", "ollama", model=STARTER_FOLDER, dtype="q8_0", create="mine")
    assert answer["created"] == "mine" and answer["answer"] and answer["run"] == "ollama run mine"
    assert not any(mark in answer["answer"] for mark in ("<|im_end|>", "<|im_start|>"))
    calls = seen(address)
    assert calls.index("POST /api/blobs") < calls.index("POST /api/create") < calls.index("POST /api/chat")
    with pytest.raises(TakenError, match="Ollama has a model mine"):
        export(tmp_path / "second", "ollama", model=STARTER_FOLDER, dtype="q8_0", create="mine")
    assert not (tmp_path / "second").exists() and seen(address).count("POST /api/create") == 1
    again = export(tmp_path / "first2", "ollama", model=STARTER_FOLDER, dtype="q8_0", create="mine", replace=True)
    assert again["answer"] == answer["answer"] and seen(address).count("POST /api/create") == 2


def test_an_export_that_ollama_does_not_take_stands_and_says_how_it_is_made_later(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of writing is not lost for a full disk of Ollama's; the export is listed, and the line to run is said."""
    monkeypatch.setenv("OLLAMA_HOST", address)
    words = ["export", "--model", str(STARTER_FOLDER), "--to", "ollama", "--out", str(tmp_path / "kept"), "--json"]
    words += ["--dtype", "q8_0", "--create", "no-room", "--workspace", str(tmp_path / "workspace")]
    assert main(words) == ExportError.exit_code
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert "no space left on device" in answer["create_error"] and "created" not in answer
    assert answer["run"].startswith("cd ") and "ollama create no-room" in answer["run"]
    assert "The files stand, and Ollama has no no-room" in said.err and "no space left" in said.err
    assert (tmp_path / "kept" / "Modelfile").is_file() and answer["verdict"]
    assert main(["exports", "list", "--json", "--workspace", str(tmp_path / "workspace")]) == 0
    assert str(tmp_path / "kept") in capsys.readouterr().out


def test_what_ollama_refuses_is_said_in_its_words(tmp_path: Path, address: str) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"did not create other.*[Ii]nvalid file magic"):
        Ollama.of(address).create("other", {"x.gguf": tmp_path / "x.gguf"}, {"template": "", "parameters": {}})
    with pytest.raises(ExportError, match="does not answer with nobody"):
        Ollama.of(address).ask("nobody")


def test_without_ollama_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert not Ollama.of().is_here()
    with pytest.raises(ExportError, match=r"Ollama does not answer at 127\.0\.0\.1:9"):
        export(tmp_path / "out", "ollama", model=STARTER_FOLDER, create="mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("", Ollama("127.0.0.1", 11434)),
        ("0.0.0.0", Ollama("127.0.0.1", 11434)),
        (":8000", Ollama("127.0.0.1", 8000)),
        ("http://box:1234/", Ollama("box", 1234)),
        ("https://box", Ollama("box", 443, secure=True)),
        ("[::1]:5", Ollama("::1", 5)),
    ],
)
def test_addresses_are_read_as_ollama_s_client_does(
    address: str, found: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert Ollama.of(address) == found
    with pytest.raises(UsageError, match="no address"):
        Ollama.of("box:port")


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "gguf", "create": "mine"},
        {"to": "ollama", "create": "-x"},
        {"to": "ollama", "create": "a b"},
        {"to": "ollama", "replace": True},
        {"to": "ollama", "create": "mine", "out": "o.zip"},
    ],
)
def test_what_cannot_be_created_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ExportRequest(**{"out": "o", "model": "m", **wrong})  # type: ignore[arg-type]
