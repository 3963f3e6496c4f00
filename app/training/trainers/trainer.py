"""TRL's trainers with what every run needs on top: adapters keep their dtype, the longest batch is rehearsed first,
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
from transformers import EarlyStoppingCallback, Trainer
from trl import SFTTrainer

from app import devices
from app.models.encoder_decoder import IGNORED, loss_of

# The lists of tokens that come one after another in a row, and those of which the longest counts.
_IN_TURN = ("input_ids", "prompt_ids", "completion_ids")
_SIDES = ("chosen_ids", "rejected_ids")


class WorkbenchTrainer(Trainer):  # type: ignore[misc]
    """What the trainer of every objective has on top of TRL's: a class that is put in front of it.

    Its adapters have the dtype that was asked for, after construction and after a resume. TRL 1.16 casts adapters on a
    quantised base to bf16, where updates of a small learning rate round away; PEFT 0.21 turns them into fp32 when a
    checkpoint is loaded. Either alone would make a resumed run differ from an undisturbed one. With `keep_weights` the
    trained weights are put back as they were before TRL rounded them: a run that goes on from an adapter begins with
    that adapter.

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
        keep_weights: bool = False,
        **kwargs: Any,
    ) -> None:
        before = _trained(kwargs["model"]) if keep_weights else {}
        super().__init__(*args, **kwargs)
        for name, parameter in self.model.named_parameters():
            if name in before:
                parameter.data = before[name].to(parameter.device)
        self._adapter_dtype = adapter_dtype
        self._saving = saving
        self._rehearsed = False
        self.began_with: list[tuple[float, float]] = []
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
        # As the dataloader drops what no batch holds.
        dataset = self._remove_unused_columns(self.train_dataset) if self.args.remove_unused_columns else None
        batch = self.data_collator([(dataset or self.train_dataset)[index] for index in indices])
        with devices.random_numbers_kept():
            super().training_step(model, batch, num_items_in_batch)
            model.zero_grad(set_to_none=True)
            self._forget_metrics()

    def _forget_metrics(self) -> None:
        """Drop what TRL has counted of a rehearsal."""
        for counted in self._metrics.values():
            counted.clear()
        self._total_train_tokens = 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card into the working folder: a run's card is made from the run, at its end."""


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the trained parameters, by name."""
    named = model.named_parameters()
    return {name: parameter.detach().clone() for name, parameter in named if parameter.requires_grad}


class SftTrainer(WorkbenchTrainer, SFTTrainer):  # type: ignore[misc]
    """Learns the answers of rows that are tokens and labels already."""


class PairTrainer(SftTrainer):
    """The trainer of an encoder with a decoder, whose rows a PairCollator parts into prompts and answers.

    TRL's head, which scores without holding all logits, knows decoders alone: the loss is of whole logits here.
    """

    loss_is_scaled_for_ga = True

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the mean loss of the answers' tokens, over all micro-batches of a step."""
        if return_outputs:
            raise NotImplementedError("nobody asks for logits here")
        labels = inputs["labels"]
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False).logits
        if self.model.training:
            self._total_train_tokens += int(inputs["attention_mask"].sum()) + int((labels != IGNORED).sum())
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return loss_of(logits, labels, num_items_in_batch)


def longest_rows(dataset: Dataset, count: int) -> list[int]:
    """Return the indices of the `count` rows with the most tokens, longest first."""
    totals = row_lengths(dataset)
    return heapq.nlargest(count, range(len(totals)), key=totals.__getitem__)


def row_lengths(dataset: Dataset) -> list[int]:
    """Return the tokens of each row, of a pair those of its longer side. Reads lengths, not tokens."""
    names = dataset.column_names
    table = dataset.with_format("arrow")[:] if dataset._indices is not None else dataset.data

    def lengths(name: str) -> list[int]:
        found: list[int] = pyarrow.compute.list_value_length(table.column(name)).to_pylist()
        return found

    parts = [lengths(name) for name in _IN_TURN if name in names]
    sides = [lengths(name) for name in _SIDES if name in names]
    if sides:
        parts.append([max(both) for both in zip(*sides, strict=True)])
    return [sum(one) for one in zip(*parts, strict=True)]
