"""Show on a small model whether packed rows see each other. Runs in a child: a request on standard input, JSON out.

A small model of the run's own configuration (app/models/small_model.py) runs over the very batch that TRL's collator
makes of packed rows. Its logits must be those of each row alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import transformers
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from app.catalog.small import VOCABULARY
from app.models.small_model import SmallModelError, on_trial, small_config, small_model

# Float32 rounds to about 1e-7; what one row sees of another was 8e-4 and more where it was measured (LFM2 the least).
TOLERANCE = 1e-5
# Longer than the windows of a small model, and of different lengths.
_DOCUMENTS = (23, 31, 17)


class Shown(NamedTuple):
    """What a small model has shown, in the fields of app.planner.packing.Packing."""

    outcome: Literal["apart", "leak", "refused", "untested"]
    difference: float = 0.0
    words: str = ""


def packed_difference(model: PreTrainedModel) -> float:
    """Return the largest difference between packed and separate rows, relative to the largest logit."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(5, VOCABULARY - 20, (length,), generator=generator).tolist() for length in _DOCUMENTS]
    joined = [token for row in rows for token in row]
    packed = {"input_ids": joined, "labels": joined, "seq_lengths": list(map(len, rows))}
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([packed])
    del batch["labels"]
    with torch.no_grad():
        apart = torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows])
        together = model(**batch, use_cache=False).logits[0]
    return float((together - apart).abs().max() / apart.abs().max())


def shown_by(values: Mapping[str, Any], attn: str) -> Shown:
    """Return what a small model of a configuration shows. Never raises: what cannot be shown is untested."""
    transformers.utils.logging.set_verbosity_error()
    if attn not in ("sdpa", "eager"):
        return Shown("untested", words=f"{attn} does not run on a processor")
    try:
        with on_trial():
            model = small_model(small_config(values), attn)
            model(input_ids=torch.arange(5, 12)[None], use_cache=False)
    except SmallModelError as error:
        return Shown("untested", words=str(error))
    try:
        with on_trial():
            difference = packed_difference(model)
    except SmallModelError as error:  # the same model has just taken a plain row
        return Shown("refused", words=str(error))
    # Written so that a difference that is no number counts as one.
    return Shown("apart" if difference < TOLERANCE else "leak", difference)


def main() -> int:
    """Read the request, test, answer."""
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.read())
    print(json.dumps(shown_by(asked["config"], str(asked["attn"]))._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
