"""A small random model of the class of a large one, on which a question about the code is put and answered at once.

The real class is built from the model's own configuration in small widths, with every kind of its layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from app.catalog.small import small
from app.errors import foreign_code
from app.models.text_tower import empty_language_model

_LONGEST_WORDS = 200
# A small model has below 5 million weights; one with more has a width that is not known to be one.
_MOST_PARAMETERS = 50_000_000
_NOT_OF_THE_CLASS = (
    "model_type",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "quantization_config",
)


class SmallModelError(Exception):
    """A small model of a class cannot be made or run; the text is what its code says."""


@contextmanager
def on_trial() -> Iterator[None]:
    """Let the code of a class that is not known here make and run a small model, and leave no trace.

    Its warnings are not shown, torch's random state is put back, and whatever it raises is a SmallModelError.
    """
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings(), foreign_code(_failed, passing=()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)


def _failed(error: Exception) -> SmallModelError:
    words = " ".join(str(error).split())[:_LONGEST_WORDS].rstrip(". ")
    return SmallModelError(words or type(error).__name__)


def small_config(values: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the configuration of the language model in `values` (a config.json) in small widths."""
    fields = {name: value for name, value in values.items() if name not in _NOT_OF_THE_CLASS and name[:1] != "_"}
    whole = AutoConfig.for_model(str(values["model_type"]), **fields).get_text_config(decoder=True)
    made = {name: value for name, value in small(whole.to_dict()).items() if name not in _NOT_OF_THE_CLASS}
    return type(whole)(**{name: value for name, value in made.items() if name[:1] != "_"})


def small_model(config: PreTrainedConfig, attn: str) -> PreTrainedModel:
    """Build a small model with random weights, larger than the usual start so that what is seen shows."""
    attention = None if attn == "sdpa" else attn
    with torch.device("meta"):
        empty = empty_language_model(config, attention)
    count = sum(parameter.numel() for parameter in empty.parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"a small model of this class still has {count:,} weights")
    model: PreTrainedModel = empty_language_model(config, attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle = 1.0 if parameter.ndim == 1 and "norm" in name else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.08 + middle)
    return model.float().eval()
