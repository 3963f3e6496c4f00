"""A folder for Ollama: a Modelfile whose template is proven against the model's own before it is written.

What a Modelfile says: https://github.com/ollama/ollama/blob/main/docs/modelfile.md
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ExportError, TemplateError
from app.export import go_template
from app.export.turns import Messages, Turns

# Ollama takes 4096 by default; more costs memory, so a longer context is left to the person.
_MOST_CONTEXT = 4096
_TALKS: tuple[Messages, ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    ({"role": "user", "content": 'Say "hello"\nin two lines: été, 你好, <b>&amp;</b>'},),
    (
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two.\n\nThree."},
        {"role": "user", "content": "Four?"},
    ),
    (
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "Five?"},
    ),
)
_SYSTEM = {"role": "system", "content": "Answer in one word."}


@dataclass(frozen=True)
class Modelfile:
    """A Modelfile, what it was compared on, and notes for people."""

    text: str
    compared: int
    notes: list[str]


def write_modelfile(weights: str, turns: Turns, context: int, generation: dict[str, Any]) -> Modelfile:
    """Return the Modelfile for `weights` (a file, or . for this folder).

    Raises ExportError when no template of Ollama's writes the same prompts as the model's own.
    """
    if turns.frame is None:
        raise _unwritable("it does more than put fixed text around the turns")
    template, notes = go_template.write_template(turns.frame), []
    # Ollama puts the beginning of text in front of a prompt where the tokenizer does.
    begin = str(turns.tokenizer.bos_token) if turns.begins_itself else ""
    template = template.replace(begin, "")
    talks = list(_TALKS)
    if turns.frame.before_system is None:
        notes.append("The model's template takes no system message; Ollama leaves SYSTEM out.")
    else:
        talks += [[_SYSTEM, *talk] for talk in _TALKS]
    wrong = go_template.differences(template, lambda talk: _own(turns, talk), talks, begin)
    if wrong:
        raise _unwritable(wrong[0])
    lines = [f"FROM {weights}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in turns.end_texts]
    lines += [f"PARAMETER num_ctx {min(context, _MOST_CONTEXT)}"]
    lines += [f"PARAMETER {name} {value}" for name, value in _sampling(generation).items()]
    return Modelfile("\n".join(lines) + "\n", len(talks), notes)


def command(folder: Path, name: str) -> str:
    """Return the line that makes and starts the model."""
    return f"cd {shlex.quote(str(folder))} && ollama create {name} -f Modelfile && ollama run {name}"


def _own(turns: Turns, talk: Messages) -> str:
    try:
        return turns.template.render(list(talk), None, generation_prompt=True)
    except TemplateError as error:
        raise _unwritable(error.why) from None


def _sampling(generation: dict[str, Any]) -> dict[str, Any]:
    """Return Ollama's sampling settings from generation_config.json; a model made for greedy answers gets them."""
    if not generation.get("do_sample"):
        return {"temperature": 0 if "do_sample" in generation else generation.get("temperature", 0.7)}
    names = ("temperature", "top_p", "top_k")
    return {name: generation[name] for name in names if isinstance(generation.get(name), (int, float))}


def _unwritable(why: str) -> ExportError:
    return ExportError(
        "The chat template cannot be written for Ollama", why, "export to gguf; llama.cpp reads the template itself"
    )
