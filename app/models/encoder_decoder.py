"""Encoders with a decoder (T5, BART, T5Gemma): which models are such, and how one is asked and answers.

The encoder reads a prompt once; the decoder writes the answer from a start token of its own on, and looks at what was
read at every token. So a row is (prompt, answer) here and never one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

from app.errors import ModelError

IGNORED = -100
# Classes of the registry whose encoder does not read text alone, or that are made of two other models.
_OTHERS = ("seamless_m4t", "seamless_m4t_v2", "encoder-decoder")


def is_encoder_decoder(config: PreTrainedConfig) -> bool:
    """Tell whether a configuration is that of an encoder with a decoder that reads and writes text."""
    return bool(
        config.is_encoder_decoder
        and config.model_type not in _OTHERS
        and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    )


def has_encoder(model: nn.Module) -> bool:
    """Tell whether a loaded model, adapted or not, is an encoder with a decoder."""
    config = getattr(model, "config", None)
    return isinstance(config, PreTrainedConfig) and is_encoder_decoder(config)


def start_token(model: PreTrainedModel) -> int:
    """Return the token that every answer begins with and that is no part of it. Raises ModelError without one."""
    generation = getattr(model, "generation_config", None)
    named = (getattr(generation, "decoder_start_token_id", None), getattr(model.config, "decoder_start_token_id", None))
    others = (getattr(generation, "bos_token_id", None), model.config.get_text_config(decoder=True).pad_token_id)
    for token in (*named, *others):
        if isinstance(token, int):
            return token
    raise ModelError("The model names no token that answers begin with", "decoder_start_token_id is missing", "")


def read(model: PreTrainedModel, prompts: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
    """Return what the encoder makes of prompts (rows, length)."""
    return model.get_encoder()(input_ids=prompts, attention_mask=mask, return_dict=True)


def empty_model(config: PreTrainedConfig, attention: str | None = None) -> PreTrainedModel:
    """Build a model with random weights, or with none under `torch.device("meta")`."""
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config, attn_implementation=attention)
    return model


class PairCollator:
    """Make batches of rows of a tokenised file: the untrained beginning is read, the trained rest is written."""

    def __init__(self, pad: int, start: int) -> None:
        self._pad, self._start = pad, start

    def __call__(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return a batch: input_ids and attention_mask are (rows, longest prompt), the others (rows, longest answer).

        The decoder sees the answer one place later, behind its start token.
        """
        prompts, answers = zip(*(_parted(row) for row in rows), strict=True)
        labels = _filled(answers, IGNORED)
        before = torch.full((len(rows), 1), self._start)
        return {
            "input_ids": _filled(prompts, self._pad),
            "attention_mask": _filled([[1] * len(prompt) for prompt in prompts], 0),
            "decoder_input_ids": torch.cat(
                [before, labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, self._pad)], 1
            ),
            "labels": labels,
        }


def _parted(row: Mapping[str, list[int]]) -> tuple[list[int], list[int]]:
    begin = next(place for place, label in enumerate(row["labels"]) if label != IGNORED)
    return list(row["input_ids"][:begin]), list(row["labels"][begin:])


def _filled(rows: Sequence[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def loss_of(logits: torch.Tensor, labels: torch.Tensor, items: torch.Tensor | int | None) -> torch.Tensor:
    """Return the cross-entropy of answers, summed and divided by `items` labels (by those of the batch when None)."""
    flat = labels.reshape(-1)
    total = nn.functional.cross_entropy(
        logits.reshape(len(flat), -1).float(), flat, ignore_index=IGNORED, reduction="sum"
    )
    return total / ((flat != IGNORED).sum() if items is None else torch.as_tensor(items)).clamp(min=1)
