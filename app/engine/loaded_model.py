"""A model that rows can run on: the base of all columns, or a merged or fully trained one that runs beside it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from app.engine.batching.kv_cache import Caches, ReadAgain, RowCache, SeparateCaches
from app.engine.memory import Memory, Step, shown_by
from app.errors import EngineError, keyed, one_line
from app.models.encoder_decoder import has_encoder, read, start_token
from app.models.identity import fingerprint
from app.models.loading import load_tokenizer


class LoadedModel:
    """A loaded model and how it is called: its rows in one batch, one by one, or read again for every token."""

    def __init__(self, model: PreTrainedModel, identity: str = "", memory: Memory | None = None) -> None:
        """`identity` is the fingerprint of the files that it was loaded from, where it matters.

        `memory` is how its rows are decoded, where it is known; else a small model of the class shows it.
        """
        self.encodes = has_encoder(model)
        self.model, self.identity = model, identity
        self.memory: Memory = memory or _memory_of(model, self.encodes)
        self.prefix_stays = not self.keeps_state and _prefix_stays(model)
        self._takes = set(inspect.signature(model.forward).parameters)

    @property
    def keeps_state(self) -> bool:
        """Tell whether rows are computed one by one: padding would go into a state, or is not known to be blind."""
        return self.memory != "together"

    def fresh_cache(self, rows: int) -> Caches:
        """Return a cache without a past."""
        if self.memory == "together":
            return RowCache()
        if self.memory == "read again":
            return SeparateCaches(ReadAgain, rows)
        return SeparateCaches(ReadPrompt if self.encodes else lambda: DynamicCache(config=self.model.config), rows)

    def logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache | ReadAgain | None,
        last: int = 1,
    ) -> torch.Tensor:
        """Return the logits (rows, last, vocabulary) behind each of the last tokens.

        ids and positions are (rows, new), mask is (rows, past + new). Raises EngineError for more than the last token
        of an encoder with a decoder, whose prompt and answer are no one sequence.
        """
        if isinstance(cache, ReadAgain) and not self.encodes:
            ids, cache = torch.cat(cache.extended(ids), 1), None
            mask, positions = torch.ones_like(ids), torch.arange(ids.shape[1], device=ids.device)[None]
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

    def _written(self, ids: torch.Tensor, cache: Cache | ReadAgain | None) -> torch.Tensor:
        """Return the logits of the next token of answers, whose prompt is read by the encoder when it comes first."""
        if isinstance(cache, ReadAgain):
            prompt, *answer = cache.extended(ids)
            begun = torch.full((len(ids), 1), start_token(self.model), device=ids.device)
            with torch.inference_mode():
                whole: torch.Tensor = self.model(
                    input_ids=prompt, decoder_input_ids=torch.cat([begun, *answer], 1), use_cache=False
                ).logits[:, -1:]
            return whole
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


def one_by_one(
    ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield each row of a batch without its padding: ids, mask and positions, as `LoadedModel.logits` takes them."""
    for row in range(len(ids)):
        real = mask[row, -ids.shape[1] :].bool()
        yield ids[row, real][None], mask[row, mask[row].bool()][None], positions[row, real][None]


def _memory_of(model: PreTrainedModel, encodes: bool) -> Memory:
    """Return how the rows of a model are decoded, as a small model of its class shows it."""
    ways: list[Memory] = ["one by one"] if encodes or _keeps_state(model) else ["together", "one by one"]
    return shown_by(model.config, ways, _step_of) or ways[0]


def _step_of(model: PreTrainedModel, memory: Memory) -> tuple[Step, Caches]:
    """Return how two rows of a small model take a step, prompts in two parts where they share a batch."""
    loaded = LoadedModel(model, memory=memory)

    def step(ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Caches) -> torch.Tensor:
        if isinstance(cache, SeparateCaches):
            rows = zip(one_by_one(ids, mask, positions), cache.rows, strict=True)
            return torch.cat([loaded.logits(*row, past)[:, -1] for row, past in rows])
        before = mask.shape[1] - ids.shape[1]
        half = ids.shape[1] // 2
        if half:
            loaded.logits(ids[:, :half], mask[:, : before + half], positions[:, :half], cache)
        return loaded.logits(ids[:, half:], mask, positions[:, half:], cache)[:, -1]

    return step, loaded.fresh_cache(2)


def _keeps_state(model: PreTrainedModel) -> bool:
    """Tell whether layers carry a state from token to token, where others keep the keys and values of each."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (KeyError, TypeError, ValueError, AttributeError):
        return True  # a memory of another kind, of which a small model shows whether it can be used
    return any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
