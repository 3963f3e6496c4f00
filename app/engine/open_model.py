"""A model that rows can run on: the base of all columns, or a merged or fully trained one that runs beside it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.engine.kv_cache import RowCache
from app.errors import EngineError
from app.models.adapters import CONFIG_FILE
from app.models.loading import load_tokenizer

# Kinds of layers whose past is keys and values, which rows can join and leave.
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class OpenModel:
    """A loaded model and how it is called. Raises EngineError for models whose past is not keys and values."""

    def __init__(self, model: PreTrainedModel) -> None:
        _refuse_unknown_past(model)
        self.model = model
        self._takes = set(inspect.signature(model.forward).parameters)

    def logits(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: RowCache | None
    ) -> torch.Tensor:
        """Return the logits (rows, vocabulary) behind the last token.

        ids and positions are (rows, new), mask is (rows, past + new).
        """
        inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": cache is not None}
        if "position_ids" in self._takes:
            inputs["position_ids"] = positions
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = 1
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**inputs).logits[:, -1]
        return logits


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a model of its own and no adapter."""
    try:
        return (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file()
    except OSError:  # a name longer than the file system allows
        return False


def open_beside(folder: Path, tokenizer: PreTrainedTokenizerBase, load: Callable[[str], PreTrainedModel]) -> OpenModel:
    """Load a model that shall stand beside the base. Raises EngineError, or what `load` raises.

    Its tokens must be the base's, since prompts and answers go through one tokenizer.
    """
    if load_tokenizer(str(folder)).get_vocab() != tokenizer.get_vocab():
        raise EngineError(
            f"{folder.name} cannot stand beside this base", "it has another tokenizer", "load it as a base of its own"
        )
    try:
        return OpenModel(load(str(folder)))
    except RuntimeError as error:  # torch's only class of error: out of memory, weights that do not fit
        why = " ".join(str(error).split())[:300]
        raise EngineError(f"{folder.name} cannot be loaded beside the base", why, "load it alone") from None


def _refuse_unknown_past(model: PreTrainedModel) -> None:
    kinds = set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ())
    if kinds - _ATTENTION:
        raise EngineError(
            "The playground cannot run this model",
            f"it has layers of kind {', '.join(sorted(kinds - _ATTENTION))}, whose memory is not keys and values",
            "merge the adapter and use another server",
        )
