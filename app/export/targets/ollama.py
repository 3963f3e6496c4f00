"""A folder for Ollama: a Modelfile whose template is proven against the model's own before it is written.

What a Modelfile says: https://github.com/ollama/ollama/blob/main/docs/modelfile.md
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import ExportError, TemplateError
from app.export.targets import go_template
from app.export.targets.turn_format import Messages, Turns, lost_in_a_frame

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
    """What Ollama is told of a model, what it was compared on, notes for people, and what of the template is lost."""

    weights: str
    template: str
    parameters: dict[str, object]
    compared: int
    notes: list[str]
    lost: list[str]

    @property
    def text(self) -> str:
        """Return the file."""
        lines = [f"FROM {self.weights}", f'TEMPLATE """{self.template}"""']
        for name, value in self.parameters.items():
            if isinstance(value, list):
                lines += [f"PARAMETER {name} {json.dumps(one, ensure_ascii=False)}" for one in value]
            else:
                lines.append(f"PARAMETER {name} {value}")
        return "\n".join(lines) + "\n"

    @property
    def settings(self) -> dict[str, object]:
        """Return the same for a request to create the model."""
        return {"template": self.template, "parameters": self.parameters}


def write_modelfile(weights: str, turns: Turns, context: int, generation: Mapping[str, object]) -> Modelfile:
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
    parameters: dict[str, object] = {"stop": turns.end_texts} if turns.end_texts else {}
    parameters |= {"num_ctx": min(context, _MOST_CONTEXT), **_sampling(generation)}
    return Modelfile(weights, template, parameters, len(talks), notes, lost_in_a_frame(turns.template))


def command(folder: Path, name: str) -> str:
    """Return the line that makes and starts the model."""
    return f"cd {shlex.quote(str(folder))} && ollama create {name} -f Modelfile && ollama run {name}"


def _own(turns: Turns, talk: Messages) -> str:
    try:
        return turns.template.render(list(talk), None, generation_prompt=True)
    except TemplateError as error:
        raise _unwritable(error.why) from None


def _sampling(generation: Mapping[str, object]) -> dict[str, object]:
    """Return Ollama's sampling settings from generation_config.json; a model made for greedy answers gets them."""
    if not generation.get("do_sample"):
        return {"temperature": 0 if "do_sample" in generation else generation.get("temperature", 0.7)}
    names = ("temperature", "top_p", "top_k")
    return {name: generation[name] for name in names if isinstance(generation.get(name), (int, float))}


def _unwritable(why: str) -> ExportError:
    return ExportError(
        "The chat template cannot be written for Ollama", why, "export to gguf; llama.cpp reads the template itself"
    )
