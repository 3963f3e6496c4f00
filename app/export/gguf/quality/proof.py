"""What a file costs: the same texts read by the merged model in 16 bits and by llama.cpp with the file.

The merged model's own greedy answers to fixed prompts are read token by token, and so are the answers in the person's
held-out rows. llama.cpp tells its likeliest tokens at each place, not all of them, so the divergence is that of these
and of all others together: never more than the true one, and equal to it where the others matter to neither. A suite's
prompts are answered by both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedConfig

from app.errors import ExportError
from app.evaluation.suites import Item
from app.export.gguf.quality.messages import Answer, Question
from app.export.gguf.quality.probes import MOST_PLACES, Text, share_passed
from app.export.merge import check
from app.jobs.supervisor import spawn_helper
from app.models.loading import load_config, load_tokenizer
from app.reading import parsed_json

# Of each prediction so many of the likeliest tokens are compared one by one.
MOST_TOKENS = 256
# A file that chooses another token than the 16-bit model at more places than this is said to differ.
LEAST_AGREEMENT = 0.9
# Answers to a suite's prompts end after so many tokens.
_SUITE_TOKENS = 96
# The contexts whose memory is told, in tokens.
CONTEXTS = {"4k": 4096, "32k": 32768}
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
Prediction = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Agreement:
    """At how many places of some texts a file's likeliest token is the 16-bit model's, and the mean KL in nats."""

    tokens: int
    agreement: float
    mean_kl: float


@dataclass(frozen=True)
class SuiteScore:
    """Of how many prompts the answer holds what is expected: by the file, and by the 16-bit model."""

    prompts: int
    passed: float
    passed_16bit: float


@dataclass(frozen=True)
class Proof:
    """How a file answers beside the 16-bit model, and its pace in tokens a second on this processor. KL in nats.

    tokens, agreement and mean_kl are of prompts and rows together. memory: bytes of weights and cache by context.
    """

    tokens: int
    agreement: float
    mean_kl: float
    tokens_per_s: float
    prompts: Agreement | None = None
    rows: Agreement | None = None
    suite: SuiteScore | None = None
    memory: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """The 16-bit model's texts and its log-probabilities at their places: its own answers first, then rows.

    log_probs: (places, vocabulary) for each text. letter: the token of some plain letter. answers: to the suite's
    prompts, whose tokens are `asked`.
    """

    texts: list[Text]
    log_probs: list[torch.Tensor]
    letter: int
    rows: int = 0
    suite: tuple[Item, ...] = ()
    asked: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)


def most_places(folder: Path, max_ram_bytes: int) -> int:
    """Return at how many places of rows predictions are kept: a sixteenth of the memory goes into them at most."""
    vocabulary = int(load_config(str(folder)).get_text_config(decoder=True).vocab_size)
    return max(32, min(MOST_PLACES, max_ram_bytes // 16 // (4 * vocabulary)))


def reference_of(
    folder: Path, parameters: int, max_ram_bytes: int, rows: Sequence[Text] = (), suite: tuple[Item, ...] = ()
) -> Reference | None:
    """Return what the merged model says to the fixed prompts, in held-out rows and to a suite.

    None where the model does not fit into the memory.
    """
    vocabulary = load_config(str(folder)).get_text_config(decoder=True).vocab_size
    dtype = check.fitting_dtype(parameters, vocabulary, max_ram_bytes)
    if dtype is None:
        return None
    tokenizer = load_tokenizer(str(folder))
    with check.loaded(folder, None, "none", dtype) as model:
        own = [Text(ids[0].tolist(), list(range(begin, ids.shape[1]))) for ids, begin in check.answers(model, folder)]
        texts = [*own, *rows]
        log_probs = [_log_probs(model, one) for one in texts]
        prompts = tuple(dict.fromkeys(item.prompt for item in suite))
        said = check.answers(model, folder, prompts, _SUITE_TOKENS) if prompts else []
    letter = next(token for token in range(vocabulary) if tokenizer.decode([token]) in _LETTERS)
    asked = {prompt: ids[0, :begin].tolist() for prompt, (ids, begin) in zip(prompts, said, strict=True)}
    answers = {
        prompt: str(tokenizer.decode(ids[0, begin:], skip_special_tokens=True))
        for prompt, (ids, begin) in zip(prompts, said, strict=True)
    }
    return Reference(texts, log_probs, letter, len(rows), suite, asked, answers)


def _log_probs(model: check.Model, text: Text) -> torch.Tensor:
    """Return the log-probabilities that predict each of a text's places, (places, vocabulary) in float32."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([text.ids]), use_cache=False).logits[0]
        return logits[torch.tensor(text.places) - 1].float().log_softmax(-1)


def prove(file: Path, reference: Reference, config: PreTrainedConfig | None = None) -> Proof:
    """Let llama.cpp read the reference's texts with a file. Raises ExportError when it cannot.

    With the model's `config` the memory at some contexts is told.
    """
    answer = ask_llama_cpp(
        file,
        Question(
            texts=[(one.ids, one.places) for one in reference.texts],
            most=min(MOST_TOKENS, reference.log_probs[0].shape[-1]),
            letter=reference.letter,
            prompts=list(reference.asked.values()),
            max_tokens=_SUITE_TOKENS,
        ),
    )
    predictions = [[[(int(token), float(at)) for token, at in one] for one in text] for text in answer["predictions"]]
    answers = dict(zip(reference.asked, map(str, answer["answers"]), strict=True))
    memory = {}
    if config is not None:
        memory = {name: file.stat().st_size + cache_bytes(config, tokens) for name, tokens in CONTEXTS.items()}
    return compare(reference, predictions, float(answer["tokens_per_s"]), answers, memory)


def ask_llama_cpp(file: Path, question: Question) -> Answer:
    """Ask llama.cpp's child about a file. Raises ExportError when it does not answer."""
    child = spawn_helper("app.export.gguf.quality.llama_cpp_child", [str(file)])
    said, _ = child.communicate(json.dumps(asdict(question)).encode())
    try:
        answer = parsed_json(said.decode())
    except ValueError:  # llama.cpp ends the whole process where it finds its own state impossible
        answer = {"error": f"it ended with {child.returncode}"}
    if not isinstance(answer, dict) or "error" in answer:
        why = str(answer.get("error")) if isinstance(answer, dict) else "it answered something else"
        raise ExportError(f"llama.cpp cannot run {file.name}", why[:300], "use another format")
    return cast("Answer", answer)


def compare(
    reference: Reference,
    predictions: Sequence[Sequence[Prediction]],
    tokens_per_s: float,
    answers: dict[str, str] | None = None,
    memory: dict[str, int] | None = None,
) -> Proof:
    """Compare the predictions of a file, for each text and place, with the reference's, and its answers."""
    own = len(reference.texts) - reference.rows
    prompts = _agreement(reference.log_probs[:own], predictions[:own])
    rows = _agreement(reference.log_probs[own:], predictions[own:]) if reference.rows else None
    both = _agreement(reference.log_probs, predictions)
    score = _score(reference, answers or {})
    return Proof(both.tokens, both.agreement, both.mean_kl, tokens_per_s, prompts, rows, score, memory or {})


def _agreement(expected: Sequence[torch.Tensor], found: Sequence[Sequence[Prediction]]) -> Agreement:
    same = total = 0
    kl = 0.0
    for log_probs, text in zip(expected, found, strict=True):
        for ours, theirs in zip(log_probs, text, strict=True):
            same += int(ours.argmax()) == theirs[0][0]
            kl += divergence(ours, theirs)
            total += 1
    return Agreement(total, same / total, kl / total)


def _score(reference: Reference, answers: dict[str, str]) -> SuiteScore | None:
    if not reference.suite:
        return None
    theirs, ours = (share_passed(reference.suite, said) for said in (answers, reference.answers))
    return None if theirs is None or ours is None else SuiteScore(len(reference.asked), theirs, ours)


def cache_bytes(config: PreTrainedConfig, tokens: int) -> int:
    """Return llama.cpp's cache of keys and values in 16 bits; a layer with a window of attention keeps that window.

    Layers without attention (convolutions, linear attention) keep a state that does not grow; it is not counted.
    """
    text = config.get_text_config(decoder=True)
    heads = int(text.num_attention_heads)
    width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    keys = int(getattr(text, "num_key_value_heads", None) or heads)
    window = int(getattr(text, "sliding_window", None) or tokens)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * int(text.num_hidden_layers)
    kept = {"full_attention": tokens, "attention": tokens, "sliding_attention": min(window, tokens)}
    return sum(2 * 2 * keys * width * kept.get(kind, 0) for kind in kinds)


def divergence(expected: torch.Tensor, said: Prediction) -> float:
    """Return the KL divergence of what was said from `expected`, (vocabulary), all unsaid tokens taken as one."""
    ids = torch.tensor([token for token, _ in said])
    theirs = torch.tensor([at for _, at in said], dtype=torch.float64)
    ours = expected.double()[ids]
    kl = float((ours.exp() * (ours - theirs)).sum())
    ours_rest = max(0.0, 1.0 - float(ours.exp().sum()))
    theirs_rest = max(1e-12, 1.0 - float(theirs.exp().sum()))
    if ours_rest > 0:
        kl += ours_rest * (math.log(ours_rest) - math.log(theirs_rest))
    return max(0.0, kl)
