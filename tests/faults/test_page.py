"""The launched page under faults: no socket at its start, two tabs at once, hostile words, a short soak."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.config import presets
from app.config.schema import parse
from app.errors import WorkbenchError
from app.jobs import directory, requests
from app.jobs.directory import Status
from app.runs.current import Filter
from app.workspace import Workspace, open_workspace
from benchmarks import soak, storm
from benchmarks.page_client import PageClient
from tests.pace import at_most
from tests.ui.running_page import RunningPage

LOOPBACK = {"127.0.0.1", "::1", "localhost", "None"}


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningPage, Path]]:
    """A page, and the file in which every address is noted that it asks for."""
    folder = tmp_path_factory.mktemp("noted")
    file = folder / "sockets.txt"
    file.touch()
    environment = {
        "PYTHONPATH": str(Path(__file__).with_name("sockets_noted")),
        "SOCKETS_NOTED_IN": str(file),
        "HF_HUB_OFFLINE": "1",
    }
    with RunningPage(folder / "workspace", environment=environment) as page:
        yield page, file


@pytest.mark.fault("F24")
@pytest.mark.fault("A23")
def test_the_page_starts_and_answers_without_a_network(noted: tuple[RunningPage, Path]) -> None:
    page, file = noted
    assert page.get("/config").status == 200
    assert set(file.read_text(encoding="utf-8").split()) <= LOOPBACK


@pytest.mark.fault("F18")
def test_what_one_tab_starts_the_other_sees_at_its_next_look(noted: tuple[RunningPage, Path]) -> None:
    page, _ = noted
    workspace = open_workspace(page.workspace)
    with PageClient(page.url) as one, PageClient(page.url) as other:
        for tab in (one, other):
            tab.ask("wb-charts")
        config = presets.load("cpu-starter").config.as_dict()
        job = directory.create(workspace, "train", config, name="started in one tab")
        job.write_status(Status(state="stopped", step=3, of=9))
        try:
            for tab in (one, other):
                assert "started in one tab" in str(tab.ask("wb-charts").data)
        finally:
            job.path.rename(workspace.root / "away")


HOSTILE = ["; touch {mark}", "$(touch {mark})", "`touch {mark}`", "--help", "a\ntouch {mark}", "| touch {mark}"]


@pytest.mark.fault("A12")
def test_no_word_of_a_person_reaches_a_command_line(workspace: Workspace, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    words = [text.format(mark=mark) for text in HOSTILE]
    config = {"steps": 500, "step_s": 0.02, **{f"field {number}": word for number, word in enumerate(words)}}
    job = requests.submit(workspace, "selftest", config, name="".join(words))
    requests.relabel(job, words[0], words[1])
    status = requests.wait(job, lambda now: now.state == "running", timeout_s=60)
    command = psutil.Process(status.pid).cmdline()
    assert command[1:4] == ["-m", "app.jobs.worker", str(job.path)] and len(command) <= 5
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=30)
    for word in words:
        for field in ("model.name", "data.file", "adapter.target_modules"):
            settings = presets.load("cpu-starter").config.as_dict()
            section, name = field.split(".")
            settings[section][name] = word
            try:
                parse(settings, "test")
            except WorkbenchError:
                continue
    assert not mark.exists()


@pytest.mark.fault("A19")
@pytest.mark.parametrize("words", ["(a+)+$" * 1000, "a" * 1_000_000, "\\", "[" * 500, "\x00 \ud800"])
def test_a_filter_of_any_length_answers_in_time(workspace: Workspace, words: str) -> None:
    job = directory.create(workspace, "train", presets.load("cpu-starter").config.as_dict(), name="a" * 80)
    job.write_status(Status(state="stopped"))
    with at_most(2):
        Filter.of(words, "all").takes(job)


@pytest.mark.slow
@pytest.mark.fault("F19")
def test_a_short_soak_stays_small() -> None:
    found = soak.soak(hours=0.02, pages=2, rows=20_000)
    assert found["answers"] >= 100
    # What is given here is the machine's word on memory and weight; its pace is measured by the command alone.
    wrong = [one for one in soak.failures(found) if not one.startswith(("answer_p95_ms", "cpu_per_answer_ms"))]
    assert not wrong, found


@pytest.mark.slow
@pytest.mark.fault("F2")
@pytest.mark.fault("F4")
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_short_storm_changes_no_bit() -> None:
    found = storm.storm(kills=3, steps=40, seed=1)
    assert not storm.failures(found, kills=3), found
