"""Prove that PEFT takes an adapter's file whole: no tensor ignored, none missing.

PEFT skips tensors whose names its configuration does not lead to, and leaves layers that the file lacks at their
start, at most with a warning. What is then measured "with the adapter" is the base alone.
"""

from __future__ import annotations

import copy
import warnings

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from transformers import PreTrainedConfig

from app.errors import ModelError, WorkbenchError, one_line
from app.models.adapters import AdapterFolder
from app.models.tensors import read_header
from app.models.text_tower import empty_language_model

_REMEDY = "use another copy of the adapter, whose adapter_config.json and weights belong together"
# What PEFT writes of the insides of its own wrappers beside the copy that it reads back.
_COPIES = (".base_layer.", ".original_module.", ".modules_to_save.")


def refuse_ignored(
    adapter: AdapterFolder,
    config: PreTrainedConfig,
    vocabulary: int | None = None,
    *,
    refusal: type[WorkbenchError] = ModelError,
) -> None:
    """Load the adapter's names, without any value, into its base as PEFT does. Raises `refusal` with what is left.

    `config` is the base's; `vocabulary` the number of tokens that the adapter was trained with, where it is another.
    """
    try:
        missing, ignored = _left_over(adapter, config, vocabulary)
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        # PEFT says in any of these that settings and model do not go together; its own words name what.
        raise refusal(
            f"PEFT cannot load the adapter {adapter.path} onto this base",
            one_line(error),
            _REMEDY,
        ) from None
    if ignored:
        raise refusal(
            f"The adapter {adapter.path} does not belong to its adapter_config.json",
            f"PEFT would ignore {_some(ignored)}, so the model would answer without them",
            _REMEDY,
        )
    if missing:
        raise refusal(
            f"The adapter {adapter.path} is not whole",
            f"its adapter_config.json leads to {_some(missing)}, and the file lacks them",
            _REMEDY,
        )


def _left_over(adapter: AdapterFolder, config: PreTrainedConfig, vocabulary: int | None) -> tuple[list[str], list[str]]:
    """Return the tensors of the adapter that the file lacks, and those of the file that PEFT does not take."""
    config = copy.deepcopy(config)
    if vocabulary is not None:
        config.get_text_config(decoder=True).vocab_size = vocabulary
    stored = read_header(adapter.weights_file)
    state = {name: torch.empty(one.shape, dtype=one.dtype, device="meta") for name, one in stored.items()}
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # about tied embeddings and layers of Conv1D, which the plan has looked at
        settings = LoraConfig.from_pretrained(str(adapter.path))
        base = empty_language_model(config)
        model = PeftModel(base, settings, low_cpu_mem_usage=True, autocast_adapter_dtype=False)
        found = set_peft_model_state_dict(model, state, low_cpu_mem_usage=True)
    own = [name for name in found.missing_keys if ".default" in name and ("lora_" in name or "modules_to_save" in name)]
    # At tied ends the rows are written once more for the output layer, which PEFT ties again when it loads.
    copies = (*_COPIES, ".token_adapter.") if len(adapter.token_rows) > 1 else _COPIES
    return own, [name for name in found.unexpected_keys if not any(part in name for part in copies)]


def _some(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''} ({', '.join(names[:2])})"
