"""llama.cpp in a process of its own: what a file predicts at given tokens, and how fast it writes.

Run as `python -m app.export.gguf.quality.llama_cpp_child FILE`, with a question as JSON on standard input; the answer
is JSON on standard output. A file that makes llama.cpp abort ends this process and no other.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server

from app.export.gguf.quality.messages import Answer, Question

# Threads wait for each other at every step: below this size of file one is faster than several.
_ONE_THREAD_BYTES = 64 << 20
# As many tokens as a user waits for before the pace is settled.
_TIMED_TOKENS = 32


def main() -> NoReturn:
    """Answer one question about the file that the command line names."""
    question, answered = Question(**json.load(sys.stdin)), os.dup(1)
    answer: Answer
    os.dup2(2, 1)  # what the library prints is no answer
    try:
        server = _started(question)
        answer = _answer(server, question)
    except Exception as error:  # broad: whatever the file brought about is told to the parent in one line
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    with os.fdopen(answered, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    os._exit("error" in answer)  # taking the server down in order has been seen to wait for itself


def _started(question: Question) -> Server:
    parameters = CommonParams()
    parameters.model.path = sys.argv[1]
    if question.lora:
        parameters.lora_adapters = [CommonAdapterLoraInfo(question.lora, 1.0)]
    texts = [len(ids) + _TIMED_TOKENS for ids, _ in question.texts]
    prompts = [len(ids) + question.max_tokens for ids in question.prompts]
    parameters.n_ctx = max(texts + prompts, default=0) + 8
    parameters.n_parallel, parameters.warmup = 1, False
    if Path(sys.argv[1]).stat().st_size < _ONE_THREAD_BYTES:
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_gpu_layers = 0  # the card may be at work, and a processor's numbers are the same everywhere
    return Server(parameters)


def _answer(server: Server, question: Question) -> Answer:
    asked = {"n_predict": 1, "n_probs": question.most, "logit_bias": [[question.letter, 1e6]]}
    found = [
        [_likeliest(_asked(server, prompt=ids[:place], **asked)) for place in places] for ids, places in question.texts
    ]
    said = [_asked(server, prompt=ids, n_predict=question.max_tokens, ignore_eos=False) for ids in question.prompts]
    answer: Answer = {"predictions": found, "answers": [one["choices"][0]["text"] for one in said]}
    if question.texts:
        ids, places = question.texts[0]
        timed = _asked(server, prompt=ids[: places[0]], n_predict=_TIMED_TOKENS)
        answer["tokens_per_s"] = timed["timings"]["predicted_per_second"]
    return answer


def _asked(server: Server, **question: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.handle_completions(
        {"temperature": 0, "cache_prompt": True, "ignore_eos": True, **question}
    )
    if "choices" not in answer:
        raise RuntimeError(f"llama.cpp did not answer: {answer!r:.300}")
    return answer


def _likeliest(answer: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the likeliest next tokens with their log-probabilities, the likeliest first."""
    (choice,) = answer["choices"]
    return [(one["id"], one["logprob"]) for one in choice["logprobs"]["content"][0]["top_logprobs"]]


if __name__ == "__main__":
    main()
