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

# Threads wait for each other at every step: below this size of file one is faster than several.
_ONE_THREAD_BYTES = 64 << 20
# As many tokens as a user waits for before the pace is settled.
_TIMED_TOKENS = 32


# Token ids, and the places of those to predict.
Text = tuple[list[int], list[int]]


def main() -> NoReturn:
    """Answer one question: `texts`, lists of token ids with the places to predict, `most`, and `letter`.

    `prompts`, lists of token ids, are answered greedily with at most `max_tokens`. `lora` names an adapter to add.

    `letter` is the token of a plain letter. It is what is written at every place, whatever is likeliest: of a token
    that is half a character, or the end of a turn, llama.cpp tells no probabilities. They come before that choice.
    """
    question, answered = json.load(sys.stdin), os.dup(1)
    os.dup2(2, 1)  # what the library prints is no answer
    try:
        server = _started(question)
        answer = _answer(server, question)
    except Exception as error:  # broad: whatever the file brought about is told to the parent in one line
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    with os.fdopen(answered, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    os._exit("error" in answer)  # taking the server down in order has been seen to wait for itself


def _started(question: dict[str, Any]) -> Server:
    texts, prompts, most = _parts(question)
    parameters = CommonParams()
    parameters.model.path = sys.argv[1]
    if question.get("lora"):
        parameters.lora_adapters = [CommonAdapterLoraInfo(question["lora"], 1.0)]
    parameters.n_ctx = _context(texts, prompts, most)
    parameters.n_parallel, parameters.warmup = 1, False
    if Path(sys.argv[1]).stat().st_size < _ONE_THREAD_BYTES:
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_gpu_layers = 0  # the card may be at work, and a processor's numbers are the same everywhere
    return Server(parameters)


def _answer(server: Server, question: dict[str, Any]) -> dict[str, Any]:
    texts, prompts, most = _parts(question)
    asked = {"n_predict": 1, "n_probs": question.get("most", 1), "logit_bias": [[question.get("letter", 0), 1e6]]}
    found = [[_likeliest(_asked(server, prompt=ids[:place], **asked)) for place in places] for ids, places in texts]
    said = [_asked(server, prompt=ids, n_predict=most, ignore_eos=False) for ids in prompts]
    answer: dict[str, Any] = {"predictions": found, "answers": [one["choices"][0]["text"] for one in said]}
    if texts:
        ids, places = texts[0]
        timed = _asked(server, prompt=ids[: places[0]], n_predict=_TIMED_TOKENS)
        answer["tokens_per_s"] = timed["timings"]["predicted_per_second"]
    return answer


def _parts(question: dict[str, Any]) -> tuple[list[Text], list[list[int]], int]:
    return question.get("texts") or [], question.get("prompts") or [], int(question.get("max_tokens") or 0)


def _context(texts: list[Text], prompts: list[list[int]], most: int) -> int:
    longest = max([len(ids) + _TIMED_TOKENS for ids, _ in texts] + [len(ids) + most for ids in prompts], default=0)
    return longest + 8


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
