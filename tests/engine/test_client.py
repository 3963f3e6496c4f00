"""The client: whatever happens in its threads is an event, and every stream has an end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from app.cli.verbs import playground
from app.config.presets import load
from app.config.schema import parse
from app.engine.client import Ask, EngineClient
from app.engine.http.endpoint import Endpoint
from app.errors import ConfigError, EngineError
from app.jobs import requests, supervisor
from app.workspace import open_workspace
from tests.ui.running_page import free_port

LATIN = os.fsdecode("Wie heißt du?".encode("latin-1"))


class _Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        choice = {"delta": {"content": "yes"}, "finish_reason": "stop", "workbench": {}}
        self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def client() -> Iterator[EngineClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with EngineClient(Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "t", 0)) as made:
        yield made
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("content", "settings", "reason"),
    [
        (LATIN, {}, "no text in UTF-8"),
        ("half \ud83d", {}, "no text in UTF-8"),
        ("ok", {"stop": LATIN}, "no text in UTF-8"),
        ("ok", {"temperature": float("nan")}, "cannot be sent"),
        ("ok", {"seed": object()}, "cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_an_error_of_its_column_and_no_wait(
    client: EngineClient, content: str, settings: dict[str, Any], reason: str
) -> None:
    good = Ask("good", [{"role": "user", "content": "hello"}])
    bad = Ask("bad", [{"role": "user", "content": content}], settings)
    events = list(client.answers([bad, good]))
    errors = [event for event in events if event.error]
    assert [event.column for event in errors] == ["bad"] and reason in errors[0].error
    errors[0].error.encode()
    assert "".join(event.text for event in events if event.column == "good") == "yes"


@pytest.mark.timeout(20)
def test_whatever_a_thread_raises_is_an_error_and_no_wait(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Ask) -> Iterator[Any]:
        raise KeyError("odd")

    monkeypatch.setattr(client, "answer", fail)
    (event,) = client.answers([Ask("one", [])])
    assert event.column == "one" and "odd" in event.error


def test_names_that_cannot_be_sent_are_one_line(client: EngineClient) -> None:
    with pytest.raises(EngineError, match="no text in UTF-8"):
        client.load_adapter("a", LATIN)
    with pytest.raises(EngineError):
        client.unload_adapter(f"a/../\0{LATIN}")


@pytest.mark.parametrize(
    "words",
    [
        ["chat", "--model", "starter", "--prompt", LATIN],
        ["chat", "--model", "starter", "--prompt", "hi", "--system", LATIN],
        ["serve", "--model", "starter", "--token", LATIN],
        ["train", "--preset", "cpu-starter", "--data", "x", "--set", f"training.sample_prompts=['{LATIN}']"],
    ],
)
def test_the_command_line_refuses_bytes_that_are_no_text(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--workspace", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "UTF-8" in said and said.count("\n") == 1
    said.encode()


@pytest.mark.parametrize("token", ["schlüssel", "two\nlines", "with blank", " led", "密钥", "bell\a"])
def test_a_token_that_no_request_can_carry_is_refused(
    token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", "/nowhere", "--token", token, "--workspace", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--token" in said and "a request cannot carry it" in said and said.count("\n") == 1
    assert token.strip() not in said


def test_a_prompt_in_latin_1_bytes_ends_with_a_line(tmp_path: Path) -> None:
    words = [b"chat", b"--model", b"starter", b"--prompt", "Wie heißt du?".encode("latin-1")]
    found = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"app.cli", *words, b"--workspace", os.fsencode(tmp_path)],
        capture_output=True,
        timeout=60,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert found.returncode == 2 and b"UTF-8" in found.stderr and found.stderr.count(b"\n") == 1


def test_settings_hold_no_half_characters() -> None:
    with pytest.raises(ConfigError, match=r"sample_prompts.*no text in utf-8"):
        parse({"training": {"sample_prompts": ["hi", LATIN]}})


def test_serve_says_a_word_before_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before: list[str] = []

    def waiting(job: object) -> Endpoint:
        before.append(capsys.readouterr().err)
        raise EngineError("The engine did not start", "the test ends here")

    monkeypatch.setattr(playground, "wait_for_endpoint", waiting)
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    assert main(["serve", "--model", "starter", "--port", str(free_port()), "--workspace", str(tmp_path)]) == 1
    assert before == ["Loading starter.\n"]


def test_serve_says_who_made_it_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def taken(job: object) -> Endpoint:
        requests.submit(open_workspace(tmp_path), "train", load("cpu-starter").config.as_dict())
        return Endpoint("http://127.0.0.1:9/v1", "t", 0)

    monkeypatch.setattr(playground, "wait_for_endpoint", taken)
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    assert main(["serve", "--model", "starter", "--port", str(free_port()), "--workspace", str(tmp_path)]) == 0
    assert "stopped from elsewhere. Another run owns the accelerator: " in capsys.readouterr().err
