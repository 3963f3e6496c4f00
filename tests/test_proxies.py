import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import proxies
from app.cli.main import main
from app.workspace import Workspace

HOUSE = Path(__file__).parents[1]
UNUSABLE = ["socks5://127.0.0.1:9", "socks5h://u:secret@127.0.0.1:9", "http://[::1", ":::", "ftp://x", "\udce4"]


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("address", UNUSABLE)
def test_what_httpx_cannot_use_is_dropped(name: str, address: str) -> None:
    environment = {name: address, "PATH": "x"}
    assert proxies.settle(environment) == [name]
    assert environment == {"PATH": "x"}


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:3128", "https://u:p@proxy.example:1"])
def test_what_it_can_use_stays(address: str) -> None:
    environment = {"ALL_PROXY": address, "SSL_CERT_FILE": __file__}
    assert proxies.settle(environment) == []
    assert len(environment) == 2


@pytest.mark.parametrize("path", ["/no/such/file", "a\0b", "x" * 5000])
def test_certificates_that_are_not_there_are_dropped(path: str) -> None:
    assert proxies.settle({"SSL_CERT_FILE": path, "SSL_CERT_DIR": path}) == ["SSL_CERT_DIR", "SSL_CERT_FILE"]


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy", "SSL_CERT_FILE"])
def test_libraries_of_the_page_import_behind_any_proxy(name: str) -> None:
    code = "from app import proxies; proxies.settle(); import httpx; httpx.Client(); print('ok')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOUSE,
        env=os.environ | {name: "socks5://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr


def test_a_verb_says_in_one_line_what_it_dropped(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://u:secret@127.0.0.1:9")
    assert main(["jobs", "list"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ALL_PROXY" in said and "secret" not in said
    assert "ALL_PROXY" not in os.environ
