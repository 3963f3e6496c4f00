"""A mirror of the hub: everything comes from there, nothing wrong is taken for one, and no token goes there unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.main import main
from app.errors import NetworkError, UsageError
from app.hub import address, client, downloads, mirror, push
from app.hub.address import HUB, Address
from app.hub.push import PushRequest
from app.jobs import directory, requests
from app.runs.on_disk import models_on_disk
from app.workspace import Workspace
from tests.hub.model_hub import Hub, cache, hub
from tests.hub.stand_in import Silent, serving

__all__ = ["cache", "hub"]

DEAD = "http://127.0.0.1:9"
TOKEN = "hf_" + "m" * 34


class Page(Silent):
    """What is at most addresses of the web: a page, whatever is asked for."""

    def do_GET(self) -> None:
        self._answer(b"<html>hello</html>")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person with a token; what a test does to the hub's library of this process is taken back."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.setattr(constants, name, getattr(constants, name))
    monkeypatch.setattr(address, "_root", None)


@pytest.fixture
def elsewhere(hub: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A mirror that answers, while the hub itself does not."""
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    return hub


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that is no hub."""
    with serving(Page, monkeypatch) as served:
        yield served


def fetched(workspace: Workspace, *more: str) -> int:
    return main(["models", "fetch", "o/n", *more, "--json", "--workspace", str(workspace.root)])


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("https://hub.example.org/", "https://hub.example.org"),
        (" HTTP://Hub.Example.ORG:8080 ", "http://hub.example.org:8080"),
        ("https://example.org/artifacts/api/hub", "https://example.org/artifacts/api/hub"),
        ("https://[::1]:8080", "https://[::1]:8080"),
    ],
)
def test_addresses(typed: str, url: str) -> None:
    assert address.checked(typed) == Address(url, sends_token=False)


@pytest.mark.parametrize(
    "typed",
    [
        "hub.example.org",
        "ftp://hub.example.org",
        "file:///etc/passwd",
        "https://",
        "https://me:secret-word@hub.example.org",
        "https://secret-word@hub.example.org",
        "https://hub.example.org?token=secret-word",
        "https://hub.example.org#x",
        "https://hub.example.org:0",
        "https://hub.example.org:99999",
        "https://hub.example.org/../x",
        "https://hub example.org",
        "https://[::1",
        "https://hub.example.org/" + "a" * 400,
    ],
)
def test_what_is_no_address(typed: str) -> None:
    with pytest.raises(UsageError, match="is no address of a hub") as refused:
        address.checked(typed)
    assert "secret-word@" not in refused.value.line()


def test_the_hub_itself_is_no_mirror() -> None:
    assert address.checked("https://HuggingFace.co/") == Address(HUB, sends_token=True)
    assert address.checked("http://huggingface.co").sends_token is False


def test_a_token_goes_nowhere_in_the_open() -> None:
    with pytest.raises(UsageError, match=r"is not sent to hub\.example\.org over http"):
        address.checked("http://hub.example.org", sends_token=True)
    assert address.checked("http://127.0.0.1:8080", sends_token=True).sends_token
    assert address.checked("https://hub.example.org", sends_token=True).sends_token


def test_which_address_counts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert address.of(workspace) == address.current() == Address(HUB)
    monkeypatch.setenv("HF_ENDPOINT", "https://of.the.environment")
    assert address.of(workspace) == Address("https://of.the.environment", sends_token=False)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")
    assert address.of(workspace).sends_token
    address.keep(workspace, address.checked("https://of.the.page"))
    assert address.of(workspace) == address.current() == Address("https://of.the.page", sends_token=False)
    (workspace.root / "hub.json").write_text('{"hub": "file:///x", "sends_token": true}')
    assert address.of(workspace).host == "of.the.environment"
    address.keep(workspace, None)
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    with pytest.raises(UsageError, match="'nonsense' is no address of a hub"):
        address.of(workspace)


def test_a_model_comes_from_the_mirror_that_was_named(
    elsewhere: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched(workspace) == 1  # the hub itself is away
    assert "127.0.0.1:9 cannot be reached" in capsys.readouterr().err and not Hub.asked
    assert fetched(workspace, "--mirror", elsewhere) == 0
    told = capsys.readouterr()
    assert (Path(json.loads(told.out)["folder"]) / "model.safetensors").read_bytes() == Hub.files["model.safetensors"]
    assert f"from {elsewhere.removeprefix('http://')}" in told.err
    assert directory.all_jobs(workspace, "fetch")[-1].config["hub"] == elsewhere
    assert Hub.tokens == []  # it was not said that the mirror may have it
    assert not (workspace.root / "hub.json").exists()  # this once


def test_a_token_goes_to_a_mirror_where_it_was_said(elsewhere: str, workspace: Workspace) -> None:
    assert fetched(workspace, "--mirror", elsewhere, "--send-token") == 0
    assert set(Hub.tokens) == {f"Bearer {TOKEN}"}


def test_what_the_page_keeps_serves_everything(elsewhere: str, workspace: Workspace) -> None:
    address.keep(workspace, mirror.named(elsewhere))
    status = requests.wait(models_on_disk.start(workspace, "o/n"), timeout_s=60)
    assert status.state == "finished", status.reason
    Hub.files = {"train.jsonl": b'{"text": "a"}\n'}
    asked = requests.wait(downloads.start(workspace, "o/n", ask_only=True), timeout_s=60)
    assert asked.result["bytes"] == len(Hub.files["train.jsonl"]), asked.reason
    assert list(downloads.fetch(workspace, "o/n").glob("*.jsonl"))
    Hub.files = {"config.json": b'{"model_type": "other"}'}
    assert client.fetch_config("o/other").read_bytes() == Hub.files["config.json"]
    assert Hub.tokens == []
    # A process that has asked the mirror goes back to the hub, and to its token.
    address.keep(workspace, None)
    from huggingface_hub import constants

    address.pin(Address(HUB))
    assert address.settle().url == constants.ENDPOINT == HUB
    assert not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN


def test_a_mirror_that_is_away_or_none_is_refused_at_once(
    page: str, cache: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for url, said in ((DEAD, "127.0.0.1:9 cannot be reached from here"), (page, "is no hub")):
        with pytest.raises(NetworkError, match=said):
            mirror.named(url)
        assert fetched(workspace, "--mirror", url) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line and "Check the address of the mirror" in line
    assert fetched(workspace, "--mirror", "ftp://x") == 2 and fetched(workspace, "--send-token") == 2
    assert not directory.all_jobs(workspace)


def test_a_mirror_that_went_bad_fails_the_job_in_one_line(page: str, cache: Path, workspace: Workspace) -> None:
    for url, said in ((DEAD, "o/n cannot be fetched. 127.0.0.1:9 cannot be reached"), (page, "is no hub. Check")):
        job = models_on_disk.start(workspace, "o/n", Address(url, sends_token=False))
        status = requests.wait(job, timeout_s=60)
        assert status.state == "failed" and said in status.reason, status.reason


def test_addresses_where_clouds_keep_secrets_are_not_asked() -> None:
    with pytest.raises(UsageError, match=r"169\.254\.169\.254 is not asked"):
        mirror.named("http://169.254.169.254")


def test_nothing_is_pushed_to_a_mirror_that_gets_no_token(elsewhere: str, workspace: Workspace, tmp_path: Path) -> None:
    address.keep(workspace, Address(elsewhere, sends_token=False))
    with pytest.raises(UsageError, match="Nothing is pushed to the mirror"):
        push.start(workspace, PushRequest(str(tmp_path), "me/mine"))
    for pushes in (
        lambda: push.push(tmp_path, "me/mine", TOKEN, private=True),
        lambda: push.refuse_token("me/mine", TOKEN),
    ):
        with pytest.raises(UsageError, match=r"(?i)the hub token is not sent to"):
            pushes()
    assert not Hub.asked and not Hub.tokens
