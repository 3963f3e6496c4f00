"""Switches that would open the page to others: refused, or without effect, and what is said is what is done."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from app.errors import UsageError
from app.ui.shell.serving import environment, guard, server
from tests.ui.running_page import TOKEN, RunningPage


@pytest.mark.fault("A5")
def test_framework_variables_have_no_effect(tmp_path: Path) -> None:
    switches = {
        "GRADIO_SHARE": "True",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_ALLOWED_PATHS": "/",
        "GRADIO_ROOT_PATH": "http://evil.example",
        "GRADIO_MCP_SERVER": "True",
        "GRADIO_SERVER_PORT": "1",
        "GRADIO_NUM_WORKERS": "2",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    with RunningPage(tmp_path / "workspace", environment=switches) as page:
        for name in ("GRADIO_SHARE", "GRADIO_SERVER_NAME", "GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH"):
            assert name in page.said
        assert page.get("/gradio_api/file=/etc/hostname").status == 403
        assert b"evil.example" not in page.get("/").body
        assert page.get("/gradio_api/mcp/").status == 404
        assert page.process is not None
        listening = [c for c in psutil.Process(page.process.pid).net_connections("inet") if c.status == "LISTEN"]
        assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", page.port)]


def test_what_an_earlier_page_was_given_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "workspace" / "uploads" / ".incoming" / "abc" / "left.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    with RunningPage(tmp_path / "workspace"):
        assert not left.exists()


@pytest.mark.fault("F3")
def test_an_interrupt_ends_the_page_quietly(tmp_path: Path) -> None:
    with RunningPage(tmp_path / "workspace") as page:
        assert page.process is not None
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(timeout=20) == 0
        lines = page.said.splitlines()
    assert lines[-1] == "The page is closed. Runs go on; `jobs list` shows them."
    assert len(lines) == 2 and "Traceback" not in page.said


@pytest.mark.fault("F22")
def test_a_second_page_is_told_where_the_first_is(tmp_path: Path) -> None:
    with RunningPage(tmp_path / "workspace") as page:
        with pytest.raises(UsageError, match=f"already runs at {page.url}"):
            server.check_port("127.0.0.1", page.port)
        second = RunningPage(tmp_path / "workspace")
        assert second.start().wait(timeout=60) == 2
        assert page.url in second.said and "Traceback" not in second.said


def test_a_strangers_port_is_refused_with_a_remedy() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port}.*--port {port + 1}"):
            server.check_port("127.0.0.1", port)
    server.check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
@pytest.mark.fault("A5")
def test_another_host_needs_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="--token"):
        server.check_exposure(host, None)
    server.check_exposure(host, "long-enough-token")


@pytest.mark.parametrize("token", ["", "short", "with\nnewline-in-it"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        server.check_exposure("127.0.0.1", token)


def test_a_wildcard_is_not_a_name() -> None:
    names = server.allowed_names("0.0.0.0")
    assert "127.0.0.1" in names and "0.0.0.0" not in names and "::" not in names
    assert server.allowed_names("127.0.0.1") == guard.LOOPBACK_NAMES


@pytest.mark.fault("A23")
def test_the_environment_is_settled_and_said(tmp_path: Path) -> None:
    variables = {"GRADIO_SHARE": "1", "GRADIO_ANALYTICS_ENABLED": "True", "PATH": "/bin", "NO_PROXY": "example.org"}
    assert environment.settle(tmp_path, variables) == ["GRADIO_SHARE"]
    assert variables["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert "GRADIO_SHARE" not in variables
    assert variables["PATH"] == "/bin"
    assert variables["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    ("address", "authority"),
    [
        ("https://k1-7860.notebook.example", "k1-7860.notebook.example"),
        ("  HTTPS://Name.Example:8443/ ", "name.example:8443"),
        ("https://name.example:443/", "name.example"),
        ("name.example", "name.example"),
    ],
)
def test_a_proxys_address_is_its_host(address: str, authority: str) -> None:
    assert server.proxy_of(address) == authority


@pytest.mark.parametrize(
    "address",
    [
        *("http://name.example", "https://", "https://a@name.example", "https://name.example/path"),
        *("https://name.example?x", "https://na me.example", "https://name.example:0", "https://name.example:port"),
        *("a,b", "*", "https://[::1", "x" * 999),
    ],
)
def test_what_is_no_proxys_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"is no address of a proxy.*--behind https://"):
        server.proxy_of(address)


def test_behind_a_proxy_a_token_is_needed() -> None:
    with pytest.raises(UsageError, match=r"whoever knows that address.*--token"):
        server.check_exposure("127.0.0.1", None, "name.example")


@pytest.mark.fault("A5")
def test_behind_a_proxy_the_page_answers_its_address_and_says_it(tmp_path: Path) -> None:
    name, mine = "k1-7860.notebook.example", f"Authorization: Bearer {TOKEN}"
    arguments = ("--behind", f"https://{name}", "--token", TOKEN)
    with RunningPage(tmp_path / "workspace", *arguments) as page:
        assert f"https://{name}/" in page.said and TOKEN not in page.said
        for host in (name, page.address):
            assert page.get("/", host=host).status == 401
            found = page.get("/config", mine, f"Origin: https://{name}", host=host)
            assert found.status == 200 and json.loads(found.body)["root"] == f"https://{name}"
        assert page.get("/config", mine, host="evil.example").status == 403
        assert page.get("/config", mine, "Origin: https://evil.example", host=name).status == 403
        assert page.get("/config", mine, "X-Forwarded-Host: evil.example", host=name).body == found.body
        entered = page.get(f"/?token={TOKEN}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document", host=name)  # fmt: skip
        assert entered.status == 303 and "HttpOnly" in entered.headers["set-cookie"][0]
