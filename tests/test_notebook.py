"""The notebook starts the page as Colab would reach it: its cells run here, with a stand-in for Colab's own module."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import build_parser
from tests.ui.running_page import RunningPage, free_port

HOUSE = Path(__file__).parents[1]
NOTEBOOK = json.loads((HOUSE / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
NAME = "k1-7860.notebook.example"


def test_it_holds_no_output_and_every_cell_is_plain_python() -> None:
    assert NOTEBOOK["nbformat"] == 4 and len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for number, text in enumerate(CODE):
        compile(text, f"cell {number}", "exec")


def test_the_cell_without_the_page_names_a_verb_that_there_is() -> None:
    assert '"launch.py", "demo"' in CODE[-1]
    assert build_parser()[0].parse_args(["demo", "--workspace", "x"]).verb == "demo"


def test_the_page_starts_and_is_found_at_the_proxys_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    output = types.SimpleNamespace(eval_js=lambda text: asked.append(text) or f"https://{NAME}/")
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)  # type: ignore[arg-type]
    port = free_port()
    values: dict[str, Any] = {}
    exec(CODE[0].replace('HOME = "lora-workbench"', f"HOME = {str(HOUSE)!r}"), values)
    exec(CODE[1].replace('WORKSPACE = "workspace"', f"WORKSPACE = {str(tmp_path / 'workspace')!r}"), values)
    try:
        exec(CODE[2].replace("7860", str(port)), values)
        told = capsys.readouterr().out
        assert asked == [f"google.colab.kernel.proxyPort({port})"]
        assert f"Open https://{NAME}/?token={values['TOKEN']}" in told and len(values["TOKEN"]) >= 16
        page = RunningPage(tmp_path / "workspace", port=port)
        mine = f"Authorization: Bearer {values['TOKEN']}"
        assert page.get("/config", host=NAME).status == 401
        found = page.get("/config", mine, f"Origin: https://{NAME}", host=NAME)
        assert found.status == 200 and json.loads(found.body)["root"] == f"https://{NAME}"
        assert (tmp_path / "workspace" / "jobs").is_dir()
    finally:
        if "PAGE" in values:
            values["PAGE"].terminate()
            values["PAGE"].wait(timeout=60)
            values["PAGE"].stdout.close()
