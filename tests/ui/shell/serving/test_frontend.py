"""The framework's script is changed where it costs most, and nothing else of what is served."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest

from app.ui.shell.serving import frontend
from tests.ui.running_page import RunningPage


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    with RunningPage(tmp_path_factory.mktemp("frontend") / "workspace") as running:
        yield running


@pytest.mark.parametrize("change", frontend.CHANGES, ids=lambda change: change.file)
def test_every_change_fits_the_installed_framework(change: frontend.Change) -> None:
    """A new version of the framework, in which a piece reads otherwise, is slow and says nothing: here it fails."""
    files = [path.read_text(encoding="utf-8") for path in frontend.ASSETS.glob(f"{change.file}*.js")]
    assert [text.count(change.before) for text in files if change.before in text] == [1]


def test_a_piece_that_is_not_there_leaves_the_script_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Blocks-1.js").write_text("another version", encoding="utf-8")
    monkeypatch.setattr(frontend, "ASSETS", tmp_path)
    assert frontend.changed_files.__wrapped__() == {}


def test_the_changed_scripts_are_served(served: RunningPage) -> None:
    for name, script in frontend.changed_files().items():
        assert served.get(f"/assets/{name}").body == script
        assert gzip.decompress(served.get(f"/assets/{name}", "Accept-Encoding: gzip").body) == script
        assert served.get(f"/assets/{name}", method="HEAD").body == b""


def test_the_documents_are_compressed(served: RunningPage) -> None:
    plain = served.get("/").body
    answer = served.get("/", "Accept-Encoding: br, gzip")
    assert answer.headers["content-encoding"] == ["br"] and "Accept-Encoding" in answer.headers["vary"][0]
    assert int(answer.headers["content-length"][0]) == len(answer.body) < len(plain) / 5
    assert b"</html>" in brotli.decompress(answer.body)
    config = served.get("/config", "Accept-Encoding: gzip")
    assert json.loads(gzip.decompress(config.body))["connect_heartbeat"] is False


def test_the_document_loads_no_script_for_frames(served: RunningPage) -> None:
    template = (frontend.ASSETS.parent / "index.html").read_text(encoding="utf-8")
    assert template.count("document.head.appendChild(script);") == 1, "the framework loads it there"
    assert "document.head.appendChild(script);" not in served.get("/").body.decode()


def test_one_style_sheet_stands_for_those_of_the_components(served: RunningPage) -> None:
    document = served.get("/").body.decode()
    sheet = frontend.style_sheet(frozenset({"textbox", "html", "no such kind"}))
    assert sheet is not None and sheet.files and frontend.style_sheet(frozenset({"no such kind"})) is None
    for name in sheet.files:
        assert f'./assets/{name}" disabled>' in document
    [name] = {word for word in document.split('"') if word.startswith("./assets/workbench-")}
    answer = served.get(name.removeprefix("."))
    assert answer.headers["content-type"] == ["text/css"] and len(answer.body) > len(sheet.text)
    for file in sheet.files:
        assert (frontend.ASSETS / file).read_bytes() in answer.body


def test_the_page_can_be_installed_with_an_icon_that_is_large_enough(served: RunningPage) -> None:
    manifest = json.loads(served.get("/manifest.json").body)
    assert manifest["name"] == "LoRA Workbench" and manifest["display"] == "standalone"
    assert [icon["sizes"] for icon in manifest["icons"]] == ["192x192", "512x512"]
    assert b'rel="manifest"' in served.get("/").body
    drawn = served.get("/favicon.ico").body
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert tuple(int.from_bytes(drawn[place : place + 4], "big") for place in (16, 20)) == (512, 512)
