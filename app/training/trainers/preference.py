"""TRL's trainers of preferences on rows that are tokens already: DPO, KTO and ORPO.

The reference is what the model was before the run, and no second base is held for it: a fresh adapter is switched off
for the reference's pass; an adapter that the run goes on from stands beside itself as a frozen copy named `ref`. Where
the reference reads beforehand, what it says of each row is kept beside the rows, under a hash of both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from trl import DPOTrainer, KTOTrainer
from trl.experimental.orpo import ORPOTrainer

from app.files import replacing
from app.training.trainers.trainer import WorkbenchTrainer

REFERENCE = "ref"
_TRAINED = "default"
_MEASURED = {"dpo": ("ref_chosen_logps", "ref_rejected_logps"), "kto": ("ref_logps", "ref_KL_logps")}


class StoppedBeforehandError(Exception):
    """A stop was asked for while the reference read the rows."""


@dataclass(frozen=True)
class Reference:
    """What the trainer needs to know of the reference.

    `identity` tells one reference from another: base, adapter and number formats. `folder` is where its
    log-probabilities are kept. `is_adapter` says that it is an adapter and not the bare base. `progress` is told of
    micro-batches read and all, and returns False to stop.
    """

    identity: str
    folder: Path
    is_adapter: bool
    progress: Callable[[int, int], bool]


class _WithReference(WorkbenchTrainer):
    """What DPO and KTO share."""

    def __init__(self, *, model: PreTrainedModel, reference: Reference, **settings: Any) -> None:
        self._reference = reference
        super().__init__(model=model, keep_weights=reference.is_adapter, **settings)
        if not isinstance(self.model, PeftModel):
            return
        if not reference.is_adapter:
            # TRL copies any adapter that it is given; of a fresh one the bare base says the same.
            self.model.delete_adapter(REFERENCE)
        self.model.save_pretrained = partial(self.model.save_pretrained, selected_adapters=[_TRAINED])

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Return rows as they are: they come tokenised, masked and fitted to the length."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Add what the reference says of each row, from the file of an earlier run on the same rows if there is one."""
        file = self._reference.folder / f"reference-{self._reference_hash(dataset, batch_size)}.arrow"
        if not file.is_file():
            measured = pa.table(self._measured(dataset, batch_size))
            with replacing(file) as part, pa.ipc.new_stream(str(part), measured.schema) as writer:
                writer.write_table(measured)
        return concatenate_datasets([dataset, Dataset.from_file(str(file))], axis=1)

    def _measured(self, dataset: Dataset, batch_size: int) -> dict[str, list[float]]:
        loader = DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        columns: dict[str, list[float]] = {}
        for number, batch in enumerate(loader):
            if not self._reference.progress(number, len(loader)):
                raise StoppedBeforehandError
            found = self.compute_ref_log_probs(self.model, self._prepare_inputs(batch))
            for column, values in zip(_MEASURED[self._name.lower()], found, strict=True):
                columns.setdefault(column, []).extend(values.float().cpu().tolist())
        return columns

    def _reference_hash(self, dataset: Dataset, batch_size: int) -> str:
        """Hash the reference and the tokens that it reads, in their order."""
        digest = hashlib.sha256(f"{self._name} {batch_size} {self._reference.identity}".encode())
        table = dataset.with_format("arrow")[:].combine_chunks().replace_schema_metadata(None)
        written = pa.BufferOutputStream()
        with pa.ipc.new_stream(written, table.schema) as writer:
            writer.write_table(table)
        digest.update(written.getvalue())
        return digest.hexdigest()[:32]


class DpoTrainer(_WithReference, DPOTrainer):  # type: ignore[misc]
    """Learns to prefer one answer to another."""


class KtoTrainer(_WithReference, KTOTrainer):  # type: ignore[misc]
    """Learns from thumbs up and down. TRL logs no accuracy for it; here a row is right whose loss is below 1/2."""

    def __init__(self, *, args: Any, **settings: Any) -> None:
        self._weights = (args.desirable_weight, args.undesirable_weight)
        super().__init__(args=args, **settings)

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, name: str) -> Dataset:
        """Add to each row the answer of the row before it in its micro-batch, as TRL's own preparation does.

        The training rows are put into an order by chance first: TRL takes them in turn, and files tend to hold all
        thumbs up together.
        """
        if name == "train":
            dataset = dataset.shuffle(seed=args.seed, keep_in_memory=True).flatten_indices(keep_in_memory=True)
        return dataset.map(
            _with_answers_of_others,
            batched=True,
            batch_size=args.per_device_train_batch_size,
            keep_in_memory=True,
        )

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        """Compute TRL's loss, and count the rows that are on the right side of the reference."""
        losses: list[torch.Tensor] = []
        self.desirable_weight, self.undesirable_weight = (_Noting(weight, losses) for weight in self._weights)
        found = super()._compute_loss(model, inputs, return_outputs)
        right = torch.cat([loss.detach().reshape(-1) for loss in losses]) < 0.5
        self._metrics["train" if self.model.training else "eval"]["rewards/accuracies"].append(
            right.float().mean().item()
        )
        return found


class _Noting(float):
    """A weight that notes the losses, one a row, that it is multiplied with: TRL keeps nothing but their mean.

    The loss of a row is 1 - sigmoid(how far its answer is from the reference, in the direction of its thumb), so below
    1/2 the row is on the right side.
    """

    _losses: list[torch.Tensor]

    def __new__(cls, weight: float, losses: list[torch.Tensor]) -> _Noting:
        """Make a weight that notes into `losses`."""
        made = super().__new__(cls, weight)
        made._losses = losses
        return made

    def __mul__(self, losses: Any) -> Any:
        """Note the losses and weigh them."""
        self._losses.append(losses)
        return float(self) * losses


def _with_answers_of_others(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    answers = rows["completion_ids"]
    return {**rows, "KL_completion_ids": [answers[-1], *answers[:-1]]}


class OrpoTrainer(WorkbenchTrainer, ORPOTrainer):  # type: ignore[misc]
    """Learns the chosen answer and to prefer it at once, without a reference."""

    def __init__(self, **settings: Any) -> None:
        self._total_train_tokens = 0
        super().__init__(**settings)

    def tokenize_row(self, feature: dict[str, list[int]], model: Any = None) -> dict[str, list[int]]:
        """Return a row of token ids by the names that TRL's own tokenising gives."""
        prompt = list(feature["prompt_ids"])
        row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            answer = list(feature[f"{side}_ids"])
            row[f"{side}_input_ids"] = prompt + answer
            row[f"{side}_attention_mask"] = [1] * len(row[f"{side}_input_ids"])
            row[f"{side}_labels"] = [-100] * len(prompt) + answer
        return row

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **settings: Any) -> Any:
        """Compute TRL's loss, and count the tokens, which TRL does for its other trainers."""
        if self.model.training:
            masks = (inputs[f"{side}_attention_mask"] for side in ("chosen", "rejected"))
            self._total_train_tokens += sum(int(mask.sum()) for mask in masks)
        return super().compute_loss(model, inputs, *args, **settings)

    def log(self, logs: dict[str, float], *args: Any, **settings: Any) -> None:
        """Log what TRL does, and the tokens so far."""
        if "loss" in logs:
            logs["num_tokens"] = float(self._total_train_tokens)
        super().log(logs, *args, **settings)

    def _forget_metrics(self) -> None:
        self._stored_metrics.clear()
        self._total_train_tokens = 0
