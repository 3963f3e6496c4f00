"""The framework's script is changed where it costs most, and nothing else of what is served."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator

import brotli
import pytest

from app.ui.shell.serving import script_changes
from app.ui.shell.serving.linked_files import linked_files
from tests.ui.running_page import RunningPage


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    with RunningPage(tmp_path_factory.mktemp("frontend") / "workspace") as running:
        yield running


def test_the_changed_scripts_are_served(served: RunningPage) -> None:
    for name, script in script_changes.changed_files().items():
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
    template = (script_changes.ASSETS.parent / "index.html").read_text(encoding="utf-8")
    assert template.count("document.head.appendChild(script);") == 1, "the framework loads it there"
    assert "document.head.appendChild(script);" not in served.get("/").body.decode()


def test_one_style_sheet_stands_for_those_of_the_components(served: RunningPage) -> None:
    document = served.get("/").body.decode()
    linked = linked_files(frozenset({"textbox", "html", "no such kind"}))
    assert linked is not None and linked.sheets and linked_files(frozenset({"no such kind"})) is None
    for name in linked.sheets:
        assert f'./assets/{name}" disabled>' in document
    [name] = {word for word in document.split('"') if word.startswith("./assets/workbench-")}
    answer = served.get(name.removeprefix("."))
    assert answer.headers["content-type"] == ["text/css"] and len(answer.body) > len(linked.text)
    for file in linked.sheets:
        assert (script_changes.ASSETS / file).read_bytes() in answer.body


def test_the_document_names_the_scripts_that_it_will_need(served: RunningPage) -> None:
    """Each is a file that is served, none is named twice, and the framework's own steps come first."""
    named = re.findall(
        r'<link rel="modulepreload" crossorigin href="\./assets/([^"]+)">', served.get("/").body.decode()
    )
    assert len(named) == len(set(named)) > 40
    blocks, textbox = (next(named.index(one) for one in named if one.startswith(name)) for name in ("Blocks-", "HTML-"))
    assert blocks < textbox
    for name in named:
        assert served.get(f"/assets/{name}").headers["content-type"] == ["application/javascript"]


def test_the_scripts_of_the_page_stand_before_the_first_style_sheet(served: RunningPage) -> None:
    """A script behind a style sheet waits for it; the theme is linked by the address that the framework looks for."""
    document = served.get("/").body.decode()
    config = json.JSONDecoder().raw_decode(document.partition("window.gradio_config = ")[2])[0]
    assert "head" not in config or not config["head"]
    assert document.index("window.workbenchServer") < document.index('rel="stylesheet"')
    assert document.index("gradio_config = ") < document.index("window.workbenchServer")
    theme_link = f'<link rel="stylesheet" href="{config["root"]}/theme.css?v={config["theme_hash"]}">'
    assert document.count(theme_link) == 1 and document.index(theme_link) < document.index("<style>:root{color-scheme")
    assert served.get("/", "Accept-Encoding: br").status == 200


def test_the_page_can_be_installed_with_an_icon_that_is_large_enough(served: RunningPage) -> None:
    manifest = json.loads(served.get("/manifest.json").body)
    assert manifest["name"] == "LoRA Workbench" and manifest["display"] == "standalone"
    assert [icon["sizes"] for icon in manifest["icons"]] == ["192x192", "512x512"]
    assert b'rel="manifest"' in served.get("/").body
    drawn = served.get("/favicon.ico").body
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert tuple(int.from_bytes(drawn[place : place + 4], "big") for place in (16, 20)) == (512, 512)


def test_a_script_is_asked_for_once(served: RunningPage) -> None:
    """A file that is changed keeps the framework's name: the browser asks each time, and is told that it has it."""
    changed = next(iter(script_changes.changed_files()))
    others = {path.name for path in script_changes.ASSETS.glob("*.js")} - set(script_changes.changed_files())
    for name, kept in ((changed, "no-cache"), (min(others), "public, max-age=86400")):
        answer = served.get(f"/assets/{name}", "Accept-Encoding: br")
        assert brotli.decompress(answer.body) == served.get(f"/assets/{name}").body
        assert answer.headers["cache-control"] == [kept] and answer.headers["vary"] == ["Accept-Encoding"]
        [mark] = answer.headers["etag"]
        again = served.get(f"/assets/{name}", f"If-None-Match: {mark}")
        assert (again.status, again.body) == (304, b"") and again.headers["etag"] == [mark]
        other = served.get(f"/assets/{name}", 'If-None-Match: "another"')
        assert other.status == 200 and other.body


def test_no_other_file_is_served_from_there(served: RunningPage) -> None:
    for name in ("../index.html", "..%2findex.html", "no-such.js", "workbench-0123456789abcdef.css", ".js"):
        assert served.get(f"/assets/{name}").status != 200


def test_a_document_that_was_sent_before_is_the_same(served: RunningPage) -> None:
    first, second = served.get("/"), served.get("/")
    assert first.body == second.body and first.headers == {**second.headers, "date": first.headers["date"]}
    packed = served.get("/", "Accept-Encoding: br")
    assert brotli.decompress(packed.body) == first.body
    assert b"</html>" in served.get("/?__theme=dark").body
