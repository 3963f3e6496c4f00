"""From a conversation to the tokens of a prompt, by the template that the column was trained with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.errors import TemplateError

_TEMPLATE_FILE, _TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"


class PromptError(Exception):
    """The template refused the conversation; the text is the template's own complaint."""


class PromptTooLong(PromptError):
    """The prompt is far longer than the context, so that counting its tokens would only take time."""


class Prompts:
    """Renders and tokenises conversations. A template is foreign code: call `encode` outside the server's loop."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        plain_templates: Mapping[str, str],
        limit: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`plain_templates` are the data room's, by name, for a tokenizer without a template.

        `limit` is the data room's too: within it a rendering that computes without end raises TemplateError.
        """
        self._tokenizer, self._limit = tokenizer, limit
        self._base = _default(tokenizer.chat_template) or plain_templates[_plain_name(tokenizer)]
        self._own: dict[str, str] = {}
        ends = getattr(model.generation_config, "eos_token_id", None)
        found = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self.end_tokens = frozenset(int(token) for token in found if token is not None)
        config = model.config.get_text_config(decoder=True)
        # BLOOM's positions have no end; 2048 is the length it was trained with.
        self.context = int(getattr(config, "max_position_embeddings", None) or 2048)
        longest_token = max(map(len, tokenizer.get_vocab()), default=1)
        self._most_characters = self.context * longest_token

    def learn(self, column: str, folder: Path) -> None:
        """Remember the template that lies with an adapter; it was trained with that one."""
        template = _stored_template(folder)
        if template:
            self._own[column] = template

    def forget(self, column: str) -> None:
        """Forget the template of an unloaded adapter."""
        self._own.pop(column, None)

    def encode(self, column: str, conversation: list[dict[str, str]], settings: Mapping[str, Any]) -> list[int]:
        """Return the prompt's tokens. Raises PromptError, and PromptTooLong before it counts what cannot fit."""
        allowed = {name: value for name, value in settings.items() if name.isidentifier() and name not in _TAKEN}
        try:
            with self._limit():
                text = self._tokenizer.apply_chat_template(
                    conversation,
                    chat_template=self._own.get(column, self._base),
                    tokenize=False,
                    add_generation_prompt=True,
                    **allowed,
                )
        except TemplateError as error:
            raise PromptError(error.what) from None
        except Exception as error:  # foreign code: a template can raise anything, from KeyError to MemoryError
            raise PromptError(" ".join(str(error).split())[:300] or type(error).__name__) from None
        if len(text) > self._most_characters:
            raise PromptTooLong(
                f"The prompt has {len(text):,} characters; this model's context is {self.context} tokens"
            )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token: int) -> str:
        """Return the text of one token, special ones included."""
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))


# Arguments of apply_chat_template that a request must not set.
_TAKEN = {"conversation", "chat_template", "tokenize", "add_generation_prompt", "return_dict", "return_tensors"}


def _stored_template(folder: Path) -> str:
    """Return the chat template in an adapter's folder, or nothing."""
    try:
        if (folder / _TEMPLATE_FILE).is_file():
            return (folder / _TEMPLATE_FILE).read_text(encoding="utf-8")
        return _default(json.loads((folder / _TOKENIZER_CONFIG).read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return ""


def _default(template: Any) -> str:
    """Return the template, or the default one of several."""
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()), "")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default") or next(iter(named.values()), "")
    return str(template or "")


def _plain_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the name of the plain template that the data room takes for a model without one."""
    return "chatml" if "<|im_start|>" in tokenizer.get_added_vocab() else "instruction"
