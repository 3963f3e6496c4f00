"""How the rows of a class may be decoded, shown on a small model and never taken for granted.

A token is answered from what the model remembers of those before it. Not every class does that rightly: one ignores the
memory that it is given, another has one of its own, a third loses a step between prompt and answer, and a fourth lets
the padding of a batch into its state. So a small model of the class reads rows whole, and is then decoded token by
token in three ways, the quickest first; the first whose logits are those of the whole rows is the way of the class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch.nn.functional import pad
from transformers import PreTrainedConfig, PreTrainedModel

from app.catalog.small import VOCABULARY
from app.engine.batching.kv_cache import Caches
from app.models.small_model import SmallModelError, on_trial, small_config, small_model

# Rows in one padded batch; each with a memory of its own; read whole again for every token.
Memory = Literal["together", "one by one", "read again"]
# Float32 rounds to about 1e-6 in these few layers; a memory that is wrong was off by 3e-3 and more.
TOLERANCE = 1e-4
# Longer than the windows of a small model, of different lengths, and not of the length that a state is worked in.
_ROWS = (13, 21)
_ANSWERED = 6
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Caches], torch.Tensor]


def shown_by(
    config: PreTrainedConfig, ways: Sequence[Memory], step_of: Callable[[PreTrainedModel, Memory], tuple[Step, Caches]]
) -> Memory | None:
    """Return the first of `ways` by which a small model of a configuration answers as over whole rows.

    step_of(model, way) gives the function that takes a step, (ids, mask, positions, cache) -> logits (rows, new,
    vocabulary), and a cache for two rows. None when no small model can be made, so that nothing is shown.
    """
    try:
        with on_trial():
            model = small_model(small_config(config.to_dict()), "sdpa")
            step, cache = step_of(model, "read again")
            generator = torch.Generator().manual_seed(1)
            rows = [torch.randint(5, VOCABULARY - 20, (length + _ANSWERED,), generator=generator) for length in _ROWS]
            whole = _answered(step, cache, rows)
    except SmallModelError:
        return None
    for way in ways:
        try:
            with on_trial():
                found = _answered(*step_of(model, way), rows)
        except SmallModelError:  # this way is none
            continue
        if float((found - whole).abs().max()) < TOLERANCE * float(whole.abs().max()):
            return way
    return "read again"


def _answered(step: Step, cache: Caches, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits (rows, answered, vocabulary) behind prompts, padded on the left, and behind each token more."""
    prompts = [row[:-_ANSWERED] for row in rows]
    longest = max(map(len, prompts))
    ids = torch.stack([pad(prompt, (longest - len(prompt), 0)) for prompt in prompts])
    mask = torch.stack([pad(torch.ones_like(prompt), (longest - len(prompt), 0)) for prompt in prompts])
    positions = (mask.cumsum(1) - 1).clamp_(min=0)
    found = [step(ids, mask, positions, cache)]
    for place in range(-_ANSWERED, 0):
        mask = pad(mask, (0, 1), value=1)
        lengths = torch.tensor([[len(row) + place] for row in rows])
        found.append(step(torch.stack([row[place : place + 1 or None] for row in rows]), mask, lengths, cache))
    return torch.stack(found, 1)
