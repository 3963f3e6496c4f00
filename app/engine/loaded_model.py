"""A model that rows can run on: the base of all columns, or a merged or fully trained one that runs beside it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from app.engine.batching.kv_cache import Caches, RowCache, SeparateCaches
from app.errors import EngineError, keyed, one_line
from app.models.adapters import CONFIG_FILE
from app.models.encoder_decoder import has_encoder, read, start_token
from app.models.identity import fingerprint
from app.models.loading import load_tokenizer


class LoadedModel:
    """A loaded model and how it is called. Raises EngineError for models whose past is of no known kind."""

    def __init__(self, model: PreTrainedModel, identity: str = "") -> None:
        """`identity` is the fingerprint of the files that it was loaded from, where it matters."""
        self.encodes = has_encoder(model)
        self.keeps_state = self.encodes or keeps_state(model)
        self.model, self.identity = model, identity
        self.prefix_stays = not self.keeps_state and _prefix_stays(model)
        self._takes = set(inspect.signature(model.forward).parameters)

    def fresh_cache(self, rows: int) -> Caches:
        """Return a cache without a past."""
        if self.encodes:
            return SeparateCaches(ReadPrompt, rows)
        if self.keeps_state:
            return SeparateCaches(lambda: DynamicCache(config=self.model.config), rows)
        return RowCache()

    def logits(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache | None, last: int = 1
    ) -> torch.Tensor:
        """Return the logits (rows, last, vocabulary) behind each of the last tokens.

        ids and positions are (rows, new), mask is (rows, past + new). Raises EngineError for more than the last token
        of an encoder with a decoder, whose prompt and answer are no one sequence.
        """
        if self.encodes and last > 1:
            raise EngineError(
                keyed("no_loss_of_encoders", "The loss of an encoder with a decoder is not measured here"),
                keyed("two_sequences", "its prompt and its answer are no one sequence"),
                keyed("metrics_of_answers", "choose metrics of answers, such as exact_match or chrf"),
            )
        if self.encodes:
            return self._written(ids, cache)
        inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": cache is not None}
        if "position_ids" in self._takes:
            inputs["position_ids"] = positions
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = last
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**inputs).logits[:, -last:]
        return logits

    def _written(self, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """Return the logits of the next token of answers, whose prompt is read by the encoder when it comes first."""
        past = cache if isinstance(cache, ReadPrompt) else ReadPrompt()
        with torch.inference_mode():
            if past.encoded is None:
                past.encoded = read(self.model, ids)
                ids = torch.full((len(ids), 1), start_token(self.model), device=ids.device)
            logits: torch.Tensor = self.model(
                encoder_outputs=past.encoded, decoder_input_ids=ids, past_key_values=past, use_cache=True
            ).logits[:, -1:]
        return logits


class ReadPrompt(EncoderDecoderCache):  # type: ignore[misc]
    """The past of one answer: what the encoder made of its prompt, and the decoder's keys and values."""

    def __init__(self) -> None:
        super().__init__(DynamicCache(), DynamicCache())
        self.encoded: Any = None


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a model of its own and no adapter."""
    try:
        return (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file()
    except OSError:  # a name longer than the file system allows
        return False


def open_beside(
    folder: Path, tokenizer: PreTrainedTokenizerBase, load: Callable[[str], PreTrainedModel]
) -> LoadedModel:
    """Load a model that shall stand beside the base. Raises EngineError, or what `load` raises.

    Its tokens must be the base's, since prompts and answers go through one tokenizer.
    """
    if load_tokenizer(str(folder)).get_vocab() != tokenizer.get_vocab():
        raise EngineError(
            f"{folder.name} cannot stand beside this base", "it has another tokenizer", "load it as a base of its own"
        )
    identity = fingerprint(str(folder))
    try:
        opened = LoadedModel(load(str(folder)), identity)
    except RuntimeError as error:  # torch's only class of error: out of memory, weights that do not fit
        raise EngineError(f"{folder.name} cannot be loaded beside the base", one_line(error), "load it alone") from None
    if fingerprint(str(folder)) != identity:
        raise EngineError(f"{folder} was changed while it was loaded", "", "load it again")
    return opened


def _prefix_stays(model: PreTrainedModel) -> bool:
    """Tell whether keys of a text's beginning stay what they are when the text grows.

    RoPE of the kinds `dynamic` and `longrope` turns all of them otherwise once a text is longer than in training.
    """
    found = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = [found, *(part for part in found.values() if isinstance(part, dict))]
    return not any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)


def keeps_state(model: PreTrainedModel) -> bool:
    """Tell whether layers carry a state from token to token, where others keep the keys and values of each.

    Raises EngineError for a memory of another kind.
    """
    try:
        layers = DynamicCache(config=model.config).layers
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            "The playground cannot run this model",
            f"it has layers whose memory is not known here ({one_line(error)})",
            "merge the adapter and use another server",
        ) from None
    return any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
