"""Code of a class that is not known here is tried without a trace, whatever it does."""

from __future__ import annotations

import warnings

import pytest
import torch

from app.errors import ModelError
from app.models.small_model import SmallModelError, on_trial


class OddError(Exception):
    """Of no library that is known here."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("hidden_act"), "'hidden_act'"),
        (RuntimeError("shapes do\n not fit."), "shapes do not fit"),
        (NotImplementedError(), "NotImplementedError"),
        (OddError("..."), "OddError"),
        (ModelError("it is too large"), "It is too large"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_whatever_it_raises_is_one_error_with_its_words(error: Exception, words: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(SmallModelError) as caught, on_trial():
        torch.rand(3)
        raise error
    assert str(caught.value) == words
    assert torch.equal(state, torch.get_rng_state())


def test_what_goes_well_leaves_no_trace_either() -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as shown, on_trial():
        warnings.warn("odd weights", stacklevel=1)
        torch.rand(3)
    assert not shown and torch.equal(state, torch.get_rng_state())
