"""A trace that fails leaves a refusal in one line, whatever the model's code raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog import catalogue
from app.errors import ModelError, PlanError
from app.planner.request import PlanRequest
from app.planner.tracing import simulate, store


class OddError(Exception):
    """Of no library that is known here."""


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (ZeroDivisionError("division\n by zero"), "be simulated (ZeroDivisionError: division by zero)"),
        (OddError(), "be simulated (OddError: )"),
        (MemoryError("no room"), "be simulated (MemoryError: no room)"),
        (PlanError("It cannot be planned", "too odd", "Choose"), "too odd"),
        (ModelError("It cannot be read", "torn", "Choose"), "torn"),
    ],
)
def test_whatever_a_step_raises_is_the_reason_of_the_refusal(
    error: Exception, refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    request = PlanRequest(model=catalogue.find("qwen2.5-0.5b"))
    monkeypatch.setattr(simulate, "simulate", fail)
    simulate.attend(request, tmp_path, 0.0)
    state = store.state_of(tmp_path, request)
    assert state is not None and state.state == "refused"
    assert state.refused[1].endswith(refused) and state.refused[0] and state.refused[2].startswith("Choose")
