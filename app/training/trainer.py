"""TRL's SFTTrainer with the three things this house needs: adapters keep their dtype, no model card is written beside
checkpoints, and logging goes to the job directory alone.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer


class WorkbenchTrainer(SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer whose adapters have the dtype that was asked for, after construction and after a resume.

    TRL 1.16 casts adapters on a quantised base to bf16, where updates of a small learning rate round away; PEFT 0.21
    turns them into fp32 when a checkpoint is loaded. Either alone would make a resumed run differ from an undisturbed
    one.
    """

    def __init__(self, *args: Any, adapter_dtype: torch.dtype | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adapter_dtype = adapter_dtype
        self._cast_adapters()

    def _cast_adapters(self) -> None:
        if self._adapter_dtype is None:
            return
        for name, parameter in self.model.named_parameters():
            # DoRA's magnitudes stay as they are: their updates are smaller than bf16 can hold.
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(self._adapter_dtype)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(*args, **kwargs)
        self._cast_adapters()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card into the working folder: a run's card is made from the run, at its end."""
