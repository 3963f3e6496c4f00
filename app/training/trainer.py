"""TRL's SFTTrainer with what this house needs on top: adapters keep their dtype, the longest batch is rehearsed first,
and nothing but checkpoints is written into the working folder.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.compute
import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback
from trl import SFTTrainer

_COLUMNS = ("input_ids", "labels", "seq_lengths")


class WorkbenchTrainer(SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer whose adapters have the dtype that was asked for, after construction and after a resume.

    TRL 1.16 casts adapters on a quantised base to bf16, where updates of a small learning rate round away; PEFT 0.21
    turns them into fp32 when a checkpoint is loaded. Either alone would make a resumed run differ from an undisturbed
    one.

    PEFT also makes every part of an adapter trainable when it loads a checkpoint; what the optimiser froze (LoRA-FA's A
    matrices) is frozen again. A checkpoint is written inside of the context `saving`, which may raise.

    The first training step is preceded by a rehearsal of the longest batch, so that a run that cannot fit fails in its
    first minute. The rehearsal leaves no trace: random numbers are put back and gradients dropped.
    """

    def __init__(
        self,
        *args: Any,
        adapter_dtype: torch.dtype | None,
        saving: Callable[[], AbstractContextManager[None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._adapter_dtype = adapter_dtype
        self._saving = saving
        self._rehearsed = False
        self._cast_adapters()

    def _cast_adapters(self) -> None:
        if self._adapter_dtype is None:
            return
        for name, parameter in self.model.named_parameters():
            # DoRA's magnitudes stay as they are: their updates are smaller than bf16 can hold.
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(self._adapter_dtype)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        super()._load_from_checkpoint(*args, **kwargs)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in trained)
        self._cast_adapters()

    def load_weights(self, checkpoint: Path) -> None:
        """Put the weights of a checkpoint into the model, and nothing else of it."""
        self._load_from_checkpoint(str(checkpoint))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self._saving():
            super()._save_checkpoint(*args, **kwargs)

    @property
    def stopped_early(self) -> bool:
        """Tell whether early stopping ended the training."""
        found = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        return any(each.early_stopping_patience_counter >= each.early_stopping_patience for each in found)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch, unless the checkpoint that is resumed is that of the last step: one more would be taken."""
        if self.state.global_step >= self.state.max_steps or self.stopped_early:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run forward and backward on one micro-batch; before the very first one, on the longest."""
        if not self._rehearsed:
            self._rehearsed = True
            self._rehearse(model, num_items_in_batch)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _rehearse(self, model: Any, num_items_in_batch: Any) -> None:
        indices = longest_rows(self.train_dataset, self.args.per_device_train_batch_size)
        rows = [self.train_dataset[index] for index in indices]
        batch = self.data_collator([{name: row[name] for name in _COLUMNS if name in row} for row in rows])
        before = torch.get_rng_state()
        before_on_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        super().training_step(model, batch, num_items_in_batch)
        model.zero_grad(set_to_none=True)
        for counted in self._metrics.values():
            counted.clear()
        self._total_train_tokens = 0
        torch.set_rng_state(before)
        if before_on_cards:
            torch.cuda.set_rng_state_all(before_on_cards)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card into the working folder: a run's card is made from the run, at its end."""


def longest_rows(dataset: Dataset, count: int) -> list[int]:
    """Return the indices of the `count` rows with the most tokens, longest first. Reads lengths, not tokens."""
    lengths = pyarrow.compute.list_value_length(dataset.data.column("input_ids")).to_pylist()
    return heapq.nlargest(count, range(len(lengths)), key=lengths.__getitem__)
