"""A folder whose only tokenizer is a SentencePiece model is refused in our words, wherever it is named."""

import shutil
from pathlib import Path

import pytest

from app.cli.main import main
from app.config import presets
from app.data.chat_template.tokenizer import load_tokenizer
from app.errors import ModelError
from app.models.names import resolve
from app.runs.submission import submit
from app.workspace import Workspace

PIRATE = Path(__file__).parents[3] / "assets" / "datasets" / "pirate.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spm"
    shutil.copytree(resolve("starter"), folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    return folder


def test_rows_are_not_read_with_it(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"only a tokenizer\.model"):
        load_tokenizer(folder)


def test_a_run_with_it_is_refused_before_it_starts(folder: Path, workspace: Workspace) -> None:
    config = presets.load("cpu-starter").config.changed({"data.file": str(PIRATE), "model.name": str(folder)})
    with pytest.raises(ModelError, match=r"only a tokenizer\.model"):
        submit.check(workspace, config)


def test_chat_and_serve_refuse_it_before_they_start(
    folder: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(PIRATE), "--model", str(folder)]) == 1
    assert "only a tokenizer.model" in capsys.readouterr().err
    assert main(["chat", "--model", str(folder), "--prompt", "x"]) == 1
    said = capsys.readouterr().err
    assert "only a tokenizer.model" in said and "Traceback" not in said
