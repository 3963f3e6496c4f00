"""What a run learns from (its objective), and what each objective settles about rows and batches."""

from __future__ import annotations

from typing import Literal

from app.config.sections import Objective, Sections

RowKind = Literal["turns", "pairs", "thumbs"]
_ROWS: dict[Objective, RowKind] = {"sft": "turns", "dpo": "pairs", "orpo": "pairs", "kto": "thumbs"}
# Objectives that compare the model with what it was before the run.
WITH_REFERENCE = ("dpo", "kto")
# KTO estimates how far the model has moved from answers to other rows of the same micro-batch.
LEAST_KTO_ROWS = 2


def row_kind(objective: Objective) -> RowKind:
    """Name what an objective reads: conversations, pairs of answers, or answers with a thumb."""
    return _ROWS[objective]


def settled_by_objective(config: Sections) -> dict[str, object]:
    """Return the settings, by dotted names, that an objective leaves no choice about and that differ from the config.

    Pairs and thumbs are not packed. KTO needs two rows in a micro-batch; accumulation is lowered for it.
    """
    training, changes = config.training, dict[str, object]()
    if training.objective == "sft":
        return changes
    if config.data.packing:
        changes["data.packing"] = False
    if training.objective == "kto" and training.per_device_train_batch_size < LEAST_KTO_ROWS:
        changes["training.per_device_train_batch_size"] = LEAST_KTO_ROWS
        changes["training.gradient_accumulation_steps"] = max(1, training.gradient_accumulation_steps // LEAST_KTO_ROWS)
    # A whole model that is trained is not there any more as its own reference.
    whole = config.adapter.method == "full" and training.objective in WITH_REFERENCE
    if whole and not training.precompute_ref_log_probs:
        changes["training.precompute_ref_log_probs"] = True
    return changes
