"""The cards of the Export tab: what can be made, what is under way, what came of it, and why it failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory, Status
from app.models.names import STARTER, resolve
from app.runs.on_disk import exports
from app.runs.on_disk.exports import Source
from app.ui.shell.language import Translator
from app.ui.tabs.export import view
from app.workspace import Workspace

T = Translator("en")


@pytest.fixture
def model() -> Source:
    """A whole model, of which nothing is left to merge."""
    return Source("model:one", "one", "one", Path(resolve(STARTER)), "")


def exported(workspace: Workspace, status: Status) -> JobDirectory:
    job = jobs.create(workspace, "export", {"to": "gguf", "out": "/made/<b>here</b>"})
    job.write_status(status)
    return job


def card_of(workspace: Workspace, model: Source, status: Status) -> view.Card:
    return view.cards(workspace, model, {"gguf": exported(workspace, status)}, "q8_0", T)["gguf"]


def test_a_whole_model_offers_what_needs_no_adapter(workspace: Workspace, model: Source) -> None:
    cards = view.cards(workspace, model, {}, "q8_0", T)
    assert tuple(cards) == exports.TARGETS
    assert {name for name, card in cards.items() if not card.can_make} == {"adapter", "model", "vllm"}
    assert T("take.needs_adapter") in cards["vllm"].html and not any(card.can_stop for card in cards.values())
    assert str(workspace.output_dir("one-gguf")) in cards["gguf"].html


def test_the_smallest_file_is_told_as_a_range(workspace: Workspace, model: Source) -> None:
    plain = view.cards(workspace, model, {}, "q8_0", T)["gguf"].html
    smallest = view.cards(workspace, model, {}, exports.SMALLEST, T)["gguf"].html
    assert "about" in plain and "at most" in smallest and "between" in smallest and "between" not in plain


def test_a_waiting_export_can_be_stopped_once_and_made_no_second_time(workspace: Workspace, model: Source) -> None:
    job = exported(workspace, Status(state="queued", step=1, of=4))
    card = view.cards(workspace, model, {"gguf": job}, "q8_0", T)["gguf"]
    assert card.can_stop and not card.can_make and "<b>here" not in card.html
    job.stop_file.write_text("")
    asked = view.cards(workspace, model, {"gguf": job}, "q8_0", T)["gguf"]
    assert not asked.can_stop and not asked.can_make


def test_a_failed_export_says_why_and_can_be_made_again(workspace: Workspace, model: Source) -> None:
    card = card_of(workspace, model, Status(state="failed", reason="the disk is <full>"))
    assert card.can_make and not card.is_done and "the disk is &lt;full&gt;" in card.html


def test_a_receipt_that_warns_says_the_reasons_that_lie_beside_it(
    workspace: Workspace, model: Source, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps({"reasons": ["it answers <otherwise>"]}))
    result = {
        "verdict": "warn",
        "receipt": str(receipt),
        "agreement": 0.875,
        "out": "/made",
        "seconds": 1.5,
        "bytes": 9,
    }
    card = card_of(workspace, model, Status(state="finished", result=result))
    assert card.is_done and card.can_make and "87.5 %" in card.html and "it answers &lt;otherwise&gt;" in card.html
    receipt.unlink()
    again = card_of(workspace, model, Status(state="finished", result=result))
    assert "otherwise" not in again.html and 'class="wb-warn"' in again.html
    receipt.write_text(json.dumps({"reasons": ["left from before"]}))
    good = card_of(workspace, model, Status(state="finished", result={**result, "verdict": "pass"}))
    assert 'class="wb-good"' in good.html and 'class="wb-warn"' not in good.html


@pytest.mark.parametrize(
    ("seconds", "said"), [(12, "12 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h")]
)
def test_a_guessed_time_has_no_more_digits_than_it_is_worth(seconds: float, said: str) -> None:
    assert view._rough(seconds) == said
