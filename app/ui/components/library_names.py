"""The name beside each setting's label: as transformers, PEFT, TRL and bitsandbytes call it, and as YAML and --set do.

The style sheet draws it, muted, after the label. A screen reader is told the label alone.
"""

from __future__ import annotations

from app.config.sections import settings
from app.ui.components import messages

# How an answer is generated, by the controls of the playground: names of transformers' GenerationConfig.
_GENERATION = {
    "wb-most-tokens": "max_new_tokens",
    "wb-temperature": "temperature",
    "wb-top-p": "top_p",
    "wb-top-k": "top_k",
    "wb-repetition-penalty": "repetition_penalty",
    "wb-seed": "seed",
}


def by_control() -> dict[str, str]:
    """Return the library's name of each setting by the id of its control."""
    named = {messages.element_id(name): name.rpartition(".")[2] for name, _ in settings()}
    return {id_: name for id_, name in named.items() if id_.startswith("set-")} | _GENERATION


def style() -> str:
    """Return the rules that give each control its name; page.css draws it, and may break it after a "_"."""
    rules = ((id_, name.replace("_", "_\u200b")) for id_, name in by_control().items())
    return "".join(f'#{id_}{{--library-name:"{name}"}}' for id_, name in rules)
