"""Train the starter model from nothing on conversations of the closed world."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from assets.build import corpus, strangers, world
from assets.build.tokenizer import CONTEXT_TOKENS, END, PAD, START

ROWS, ROW_TOKENS = 12, 256  # one step
MUON_RATE, ADAM_RATE = 0.02, 3e-3  # matrices; embeddings and norms
WARMUP_STEPS = 40
BUFFER = 96  # conversations to choose from when a row is filled
IGNORED = -100  # label without a loss, as in transformers


def config() -> Qwen3Config:
    """Return the architecture. Every linear size is a multiple of 64, as 4-bit kernels on AVX512 CPUs need."""
    return Qwen3Config(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=CONTEXT_TOKENS,
        rope_theta=10_000.0,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a special token. Raises KeyError when the tokenizer lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return int(found)


class Encoder:
    """Turn conversations into token ids and labels; the loss falls on answers and their end token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._start, self._end, self.pad = (special_id(tokenizer, token) for token in (START, END, PAD))
        self._newline = self._ids("\n")

    @lru_cache(maxsize=200_000)  # noqa: B019 - one encoder lives as long as the run
    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, said: corpus.Conversation) -> tuple[list[int], list[int]]:
        """Return ids and labels of a conversation, exactly as the chat template renders it."""
        ids: list[int] = []
        labels: list[int] = []
        for message in said.messages():
            head = [self._start, *self._ids(f"{message['role']}\n")]
            body = [*self._ids(message["content"]), self._end]
            trained = message["role"] == "assistant"
            ids += [*head, *body, *self._newline]
            labels += [IGNORED] * len(head) + (body if trained else [IGNORED] * len(body))
            labels += [IGNORED] * len(self._newline)
        return ids, labels


def batches(encoder: Encoder, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield endless packed batches: ids, labels and positions, each (rows, row tokens).

    Positions restart with every conversation; transformers then keeps the conversations apart.
    """
    rng = random.Random(seed)
    buffer: list[tuple[list[int], list[int]]] = []
    while True:
        ids, labels, positions = ([] for _ in range(3))
        for _ in range(ROWS):
            row, marks, places = _fill_row(encoder, buffer, rng)
            ids.append(row)
            labels.append(marks)
            positions.append(places)
        yield torch.tensor(ids), torch.tensor(labels), torch.tensor(positions)


def _fill_row(
    encoder: Encoder, buffer: list[tuple[list[int], list[int]]], rng: random.Random
) -> tuple[list[int], list[int], list[int]]:
    """Fill one row with conversations, the longest that fits once the next in line does not."""
    row: list[int] = []
    marks: list[int] = []
    places: list[int] = []
    while True:
        while len(buffer) < BUFFER:
            pair = encoder.encode(corpus.conversation(rng))
            if len(pair[0]) <= ROW_TOKENS:
                buffer.append(pair)
        room = ROW_TOKENS - len(row)
        fitting = [index for index, pair in enumerate(buffer) if len(pair[0]) <= room]
        if not fitting:
            break
        chosen = fitting[0] if room > ROW_TOKENS // 3 else max(fitting, key=lambda index: len(buffer[index][0]))
        ids, labels = buffer.pop(chosen)
        row += ids
        marks += labels
        places += range(len(ids))
    rest = ROW_TOKENS - len(row)
    return row + [encoder.pad] * rest, marks + [IGNORED] * rest, places + list(range(rest))


def loss_of(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over trained tokens; only their logits are computed."""
    hidden = model.model(ids, position_ids=positions, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    chosen = target != IGNORED
    logits = F.linear(hidden[chosen], model.lm_head.weight)
    return F.cross_entropy(logits.float(), target[chosen])


@torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]
def exact_share(model: Qwen3ForCausalLM, encoder: Encoder, asked: list[tuple[str, str]], system: str = "") -> float:
    """Return the share of questions that greedy decoding answers word for word.

    Every answer token being the most likely one, given the ones before it, is the same as greedy decoding giving
    exactly that answer; so one forward pass is enough.
    """
    right = 0
    for first in range(0, len(asked), 64):
        pairs = [encoder.encode(corpus.Conversation(system, (pair,))) for pair in asked[first : first + 64]]
        longest = max(len(ids) for ids, _ in pairs)
        ids = torch.tensor([row + [encoder.pad] * (longest - len(row)) for row, _ in pairs])
        labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for _, row in pairs])
        best = model(ids, use_cache=False).logits[:, :-1].argmax(-1)
        target = labels[:, 1:]
        right += int(((best == target) | (target == IGNORED)).all(-1).sum())
    return right / len(asked)


def probes(seed: int, count: int) -> dict[str, list[tuple[str, str]]]:
    """Return questions of three kinds: shown, held back, and about things that do not exist."""
    rng = random.Random(seed)
    facts = [rng.choice(world.facts()) for _ in range(count)]
    back = [(q, fact.answer) for fact in world.facts() for q in fact.questions if q not in fact.shown()]
    return {
        "shown": [(rng.choice(fact.shown()), fact.answer) for fact in facts],
        "held_out": rng.sample(back, count),
        "unknown": [(strangers.unknown_question(rng), strangers.UNKNOWN_ANSWER) for _ in range(count // 4)],
    }


def optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for embeddings and norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    muon = torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.0, momentum=0.95)
    return [muon, torch.optim.AdamW(rest, lr=ADAM_RATE, weight_decay=0.0, betas=(0.9, 0.98))]


def rate_at(step: int, steps: int) -> float:
    """Return the share of the full learning rate: a short warm-up, then a straight line to zero."""
    return min((step + 1) / WARMUP_STEPS, 1 - step / steps)


def save(model: Qwen3ForCausalLM, folder: Path) -> None:
    """Write config, generation config and bfloat16 weights; the model itself stays in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = Qwen3ForCausalLM(config())
    copy.load_state_dict(model.state_dict())
    copy.generation_config = GenerationConfig(do_sample=False, max_new_tokens=96, pad_token_id=0, eos_token_id=[2, 0])
    copy.to(torch.bfloat16).save_pretrained(folder)


def train(tokenizer: Tokenizer, folder: Path, steps: int, seed: int, report_every: int = 250) -> None:
    """Train for so many steps and write the model; progress and checks go to standard output."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config())
    encoder = Encoder(tokenizer)
    asked = probes(seed, 400)
    stream = batches(encoder, seed)
    workers = optimizers(model)
    full_rates = [worker.param_groups[0]["lr"] for worker in workers]
    began = time.monotonic()
    for step in range(steps):
        for worker, full in zip(workers, full_rates, strict=True):
            worker.param_groups[0]["lr"] = full * rate_at(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, *next(stream))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for worker in workers:
            worker.step()
            worker.zero_grad()
        if step % 25 == 0:
            print(f"step {step} loss {loss.item():.4f} seconds {time.monotonic() - began:.0f}", flush=True)
        if (step + 1) % report_every == 0 or step + 1 == steps:
            shares = {name: round(exact_share(model, encoder, pairs), 3) for name, pairs in asked.items()}
            print(f"step {step + 1} exact {shares}", flush=True)
            save(model, folder)
