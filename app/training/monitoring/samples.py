"""Fixed prompts, answered in the middle of training: greedy, short, and without a trace in the run.

Greedy decoding draws no random number, and the generators are put back all the same: a run with fixed prompts ends in
the very adapter of the run without them (tested). The cache is on here and only here; packed rows need it off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app import devices
from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.models.encoder_decoder import has_encoder
from app.models.prompts import Prompts

Answer = dict[str, object]


class Sampler:
    """Answers the prompts of a run by the template that it is trained with. Raises PromptError for one it refuses."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], most_tokens: int
    ) -> None:
        self._model = model
        self._writer = Prompts(model, tokenizer, PLAIN_TEMPLATES, render_limit)
        self._pad, self._ends = tokenizer.pad_token_id, sorted(self._writer.end_tokens("run"))
        self._most_tokens = most_tokens
        self._prompts = [
            (prompt, self._writer.encode("run", [{"role": "user", "content": prompt}], {})) for prompt in prompts
        ]

    def answers(self, should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """Yield one answer a prompt; stops between two of them when asked to."""
        for prompt, ids in self._prompts:
            if should_stop():
                return
            begun = time.monotonic()
            with _untouched(self._model):
                tokens = self._generate(ids)
            answer = self._writer.decode(tokens)
            yield {"prompt": prompt, "answer": answer, "tokens": len(tokens), "seconds": time.monotonic() - begun}

    def _generate(self, ids: list[int]) -> list[int]:
        batch = torch.tensor([ids], device=self._model.device)
        with torch.no_grad():
            answered = self._model.generate(
                input_ids=batch,
                attention_mask=torch.ones_like(batch),
                do_sample=False,
                num_beams=1,
                # Settings of sampling that a model brings along would only be warned about.
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=self._most_tokens,
                use_cache=True,
                pad_token_id=self._pad,
                eos_token_id=self._ends or None,
            )
        begin = 1 if has_encoder(self._model) else len(ids)
        return [int(token) for token in answered[0, begin:]]


@contextmanager
def _untouched(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into eval mode, and afterwards mode and random numbers back as they were."""
    training = model.training
    with devices.random_numbers_kept():
        model.eval()
        try:
            yield
        finally:
            model.train(training)
