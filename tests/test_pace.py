"""The limits of time themselves: what takes longer fails, also where something else was raised."""

from __future__ import annotations

import time

import pytest

from tests.pace import at_most, slowness


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_takes_longer_fails() -> None:
    with pytest.raises(AssertionError, match="of processor time, at most"), at_most(0.02):
        busy(0.03 * slowness())


def test_what_takes_longer_and_raises_fails_for_its_time() -> None:
    with pytest.raises(AssertionError, match="of processor time"), at_most(0.02):
        busy(0.03 * slowness())
        raise ValueError


def test_what_is_in_time_passes_and_its_error_comes_through() -> None:
    with at_most(1):
        busy(0.01)
    with pytest.raises(ValueError, match="its own"), at_most(1):
        raise ValueError("its own")
