"""The data child as it is started in life: a process, pipes, limits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.data import client as client_module
from app.data import worker
from app.data.client import DataClient
from app.data.dataset.options import DataOptions
from app.errors import DataError, ModelError, TemplateError, UsageError, WorkbenchError
from app.jobs.supervisor import spawn_helper

from .conftest import save_tokenizer

PLAIN = DataOptions()
ROWS = [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(30)]


@pytest.fixture(scope="module")
def client() -> Iterator[DataClient]:
    opened = DataClient(spawn_helper)
    yield opened
    opened.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n{bad")
    return path


def hostile(folder: Path, template: str) -> Path:
    return save_tokenizer(folder / "hostile", template, "</s>", set())


def test_all_requests_are_answered(client: DataClient, chatml_folder: Path, rows: Path, tmp_path: Path) -> None:
    shown = client.show(2, chatml_folder, PLAIN, path=rows)
    assert "".join(token.text for token in shown.tokens if token.trained) == "It is 1.<|im_end|>"
    pasted = client.show(1, chatml_folder, DataOptions(train_on="all"), text="question,answer\na,b")
    assert pasted.trained_tokens == pasted.total_tokens - 1
    report = client.check(chatml_folder, DataOptions(max_length=64), path=rows)
    assert report.check.rows == 31 and report.problem_rows == (31,) and report.histogram
    told: list[tuple[int, int]] = []
    built = client.build(rows, chatml_folder, PLAIN, tmp_path / "out", lambda *done: told.append(done))
    assert built.manifest["rows"] == 30 and Path(built.path).is_dir() and told
    assert client.convert(tmp_path / "out.jsonl", PLAIN, path=rows).rows == 30
    assert client.check(None, PLAIN, path=rows).check.tokens.total is None
    assert client.rejected(tmp_path / "left.jsonl", None, PLAIN, path=rows).rows == 1


def test_what_is_left_out_on_purpose_is_told(client: DataClient, chatml_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"train": ROWS, "test": ROWS[:3]}))
    shown = client.show(len(ROWS), chatml_folder, PLAIN, path=path)
    found = client.check(None, PLAIN, path=path)
    written = client.convert(tmp_path / "out.jsonl", PLAIN, path=path)
    assert found.check.rows == written.rows == len(ROWS) and "warnings" not in written.as_dict()
    for warnings in (found.warnings, written.warnings):
        assert len(warnings) == 1 and "3 rows of 'test'" in warnings[0]
    assert shown.row == len(ROWS)


def test_options_cross_as_they_are(client: DataClient, chatml_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"ask": "a@b.io", "reply": "b", "x": 1}\n' * 3)
    options = DataOptions.checked(mapping={"user": "ask", "assistant": "reply"}, drop=["duplicate"], repair=["email"])
    found = client.check(chatml_folder, options, path=path)
    assert (found.check.format, found.check.usable, found.left_out) == ("mapped", 1, {"duplicate": 2})
    shown = client.show(1, chatml_folder, options, path=path)
    assert "[redacted]" in "".join(token.text for token in shown.tokens)


def test_what_is_no_request_is_answered(chatml_folder: Path) -> None:
    asked = [
        {"id": 1, "verb": "sing", "request": {}},
        {"id": 2, "verb": "show", "request": {"row": "x"}},
        {"id": 3},
        {"id": 4, "verb": "open", "request": {"tokenizer": str(chatml_folder), "chat_template": ""}},
    ]
    told = io.StringIO()
    worker.serve(map(json.dumps, asked), told)
    answers = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [one["id"] for one in answers] == [1, 2, 3, 4]
    assert [one.get("error", {}).get("type") for one in answers] == ["UsageError"] * 3 + [None]


def test_errors_keep_their_class_and_line(client: DataClient, chatml_folder: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Line 31: Not valid JSON") as caught:
        client.show(31, chatml_folder, PLAIN, path=rows)
    assert caught.value.line_number == 31
    with pytest.raises(UsageError, match="no format"):
        client.show(1, chatml_folder, DataOptions.checked(format="xml"), path=rows)
    with pytest.raises(ModelError, match="no model folder"):
        client.show(1, tmp_path / "gone", PLAIN, path=rows)
    with pytest.raises(DataError, match="no data file"):
        client.check(chatml_folder, PLAIN, path=tmp_path / "gone.jsonl")
    assert client.show(1, chatml_folder, PLAIN, path=rows).row == 1


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
BOMB = "{% set x = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 4000000000 %}{{ x }}"
FILTER = "{{ (range(99999) | list | string * 999) | replace('1', '22') | length }}"


@pytest.mark.parametrize("template", [LOOPS, BOMB, FILTER, "{{ self.__init__.__globals__ }}"], ids=["loop", "memory", "filter", "reach"])  # fmt: skip # noqa: E501
def test_hostile_templates_end_in_an_error_within_five_seconds(
    client: DataClient, template: str, rows: Path, tmp_path: Path, chatml_folder: Path
) -> None:
    folder = hostile(tmp_path, template)
    client.show(1, chatml_folder, PLAIN, path=rows)  # the child is warm
    started = time.monotonic()
    with pytest.raises(WorkbenchError):
        client.show(1, folder, PLAIN, path=rows)
    assert time.monotonic() - started < 8  # 5 s, and room for other work on this machine
    assert client.show(1, chatml_folder, PLAIN, path=rows).row == 1


def test_a_child_that_hangs_is_ended_and_replaced(
    client: DataClient, chatml_folder: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no timer the client alone has to notice."""
    started: list[subprocess.Popen[bytes]] = []

    def spawn_deaf(module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        code = "import time; time.sleep(600)"
        started.append(subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(client_module, "OPEN_LIMIT_S", 0.5)
    deaf = DataClient(spawn_deaf)
    for _ in range(2):
        with pytest.raises(TemplateError, match="gave no answer"):
            deaf.show(1, chatml_folder, PLAIN, path=rows)
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_a_killed_child_is_replaced(chatml_folder: Path, rows: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def spawn(module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        running.append(spawn_helper(module, arguments))
        return running[-1]

    own = DataClient(spawn)
    assert own.show(1, chatml_folder, PLAIN, path=rows).row == 1
    running[0].kill()
    running[0].wait()
    assert own.show(1, chatml_folder, PLAIN, path=rows).row == 1
    own.close()
    assert len(running) == 2 and running[1].poll() is not None


def run_python(code: str) -> Any:
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=os.environ)
    return json.loads(out.stdout)


def test_the_child_needs_no_torch_and_the_client_nothing_heavy(chatml_folder: Path) -> None:
    heavy = ("torch", "transformers", "pyarrow", "numpy", "datasets", "gradio", "tokenizers", "jinja2")
    loaded = run_python(
        "import sys, json; import app.data, app.data.client, app.data.reading.readers;"
        "import app.data.formats.detection, app.data.dataset.options;"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    assert loaded == []
    loaded = run_python(
        "import sys, json; from pathlib import Path; import app.data.worker;"
        "from app.data.chat_template.render import Renderer;"
        "from app.data.chat_template.tokenizer import load_tokenizer;"
        "from app.data.formats.conversation import Conversation, Turn;"
        f"r = Renderer(load_tokenizer(Path({str(chatml_folder)!r})));"
        "r.example(Conversation((Turn('user', 'a'), Turn('assistant', 'b'))));"
        "print(json.dumps([name for name in ('torch', 'gradio', 'datasets', 'trl') if name in sys.modules]))"
    )
    assert loaded == []


def test_a_model_without_tokenizer_files_says_so(client: DataClient, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        client.show(1, tmp_path / "model", PLAIN, text="question,answer\na,b")


def test_a_defect_in_the_child_is_told_as_one_and_the_child_lives(
    client: DataClient, chatml_folder: Path, rows: Path
) -> None:
    with pytest.raises(WorkbenchError) as caught:  # a length that `checked` refuses, and no integer of numpy holds
        client.check(chatml_folder, DataOptions(max_length=10**20), path=rows)
    assert "OverflowError" in caught.value.line() and "memory" not in caught.value.line()
    process = client._process
    assert process is not None and process.poll() is None
    assert client.check(chatml_folder, PLAIN, path=rows).check.rows and client._process is process
    with pytest.raises(UsageError, match="max_length"):
        DataOptions.checked(max_length=10**20)
