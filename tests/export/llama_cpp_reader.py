"""What llama.cpp makes of a GGUF file. Run by a Python that has llama_cpp, as a process of its own.

A request on standard input: {"model", "lora", "texts", "rows", "prompts", "max_tokens"}. The answer on standard output:
the tokens of each text, the logits of each row of tokens, and each prompt's greedy continuation with why it ended.
"""

import json
import sys

import llama_cpp
import numpy as np


def main() -> None:
    request = json.load(sys.stdin)
    llama = llama_cpp.Llama(
        request["model"],
        lora_path=request.get("lora"),
        n_ctx=1024,
        n_threads=1,
        logits_all=True,
        verbose=request.get("verbose", False),
    )
    answer = {"texts": [], "rows": [], "prompts": []}
    for text in request.get("texts", []):
        answer["texts"].append(llama.tokenize(text.encode(), add_bos=True, special=True))
    for row in request.get("rows", []):
        llama.reset()
        llama.eval(row)
        answer["rows"].append(np.array(llama.scores[: len(row)], dtype=float).round(5).tolist())
    for prompt in request.get("prompts", []):
        answer["prompts"].append(continuation(llama, prompt, request.get("max_tokens", 48)))
    json.dump(answer, sys.stdout)


def continuation(llama: "llama_cpp.Llama", prompt: list[int], most: int) -> dict[str, object]:
    """Continue greedily until llama.cpp itself takes a token for the end of generation."""
    vocabulary = llama_cpp.llama_model_get_vocab(llama._model.model)
    found: list[int] = []
    llama.reset()
    llama.eval(prompt)
    while len(found) < most:
        token = int(np.argmax(llama.scores[llama.n_tokens - 1]))
        if llama_cpp.llama_vocab_is_eog(vocabulary, token):
            return {"tokens": found, "stopped": True, "end": token, "text": llama.detokenize(found).decode()}
        found.append(token)
        llama.eval([token])
    return {"tokens": found, "stopped": False, "end": None, "text": llama.detokenize(found).decode()}


main()
