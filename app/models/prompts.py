"""From a conversation to the tokens of a prompt, by the template that the column was trained with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.data.chat_template.encoder_decoder import input_text
from app.data.chat_template.turn_end import turn_ends
from app.data.formats.conversation import Message
from app.errors import TemplateError, foreign_code, one_line
from app.models.encoder_decoder import has_encoder
from app.reading import file_bytes, parsed_json

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
        self._encodes = has_encoder(model)
        plain = "" if self._encodes else plain_templates[_plain_name(tokenizer)]
        self._base = _default(tokenizer.chat_template) or plain
        self._own: dict[str, str] = {}
        ends = getattr(model.generation_config, "eos_token_id", None)
        found = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self._named_ends = frozenset(int(token) for token in found if token is not None)
        self._ends: dict[str, frozenset[int]] = {}
        config = model.config.get_text_config(decoder=True)
        # BLOOM's positions have no end; 2048 is the length it was trained with.
        self.context = int(getattr(config, "max_position_embeddings", None) or 2048)
        longest_token = max(map(len, tokenizer.get_vocab()), default=1)
        self._most_characters = self.context * longest_token

    def learn(self, column: str, folder: Path) -> None:
        """Remember the template that lies with an adapter; it was trained with that one."""
        template = stored_template(folder)
        if template:
            self._own[column] = template

    def forget(self, column: str) -> None:
        """Forget the template of an unloaded adapter."""
        self._own.pop(column, None)

    def end_tokens(self, column: str) -> frozenset[int]:
        """Return the tokens at which an answer is over: those that model and tokenizer name, and the template's own."""
        template = self._own.get(column, self._base)
        if template not in self._ends:
            special = {name: str(token) for name, token in self._tokenizer.special_tokens_map.items()}
            ends = turn_ends(template, special, self._tokenizer.get_added_vocab())
            self._ends[template] = self._named_ends | {self._tokenizer.convert_tokens_to_ids(end) for end in ends}
        return self._ends[template]

    def encode(
        self,
        column: str,
        conversation: list[Message],
        settings: Mapping[str, Any],
        tools: Sequence[Message] = (),
    ) -> list[int]:
        """Return the prompt's tokens. Raises PromptError, and PromptTooLong before it counts what cannot fit.

        What a template never names (calls of tools, thinking) would be gone without a word: that is a PromptError too.
        """
        template = self._own.get(column, self._base)
        if self._encodes and not template:
            return self._question(conversation)
        conversation = _as_named(conversation, template)
        for name in settings:
            if name in _TAKEN or not name.isidentifier():
                raise PromptError(f"{name!r:.60} is no setting of a template")
        try:
            with foreign_code(lambda error: PromptError(one_line(error))), self._limit():
                text = self._tokenizer.apply_chat_template(
                    conversation,
                    tools=list(tools) or None,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=True,
                    **settings,
                )
        except TemplateError as error:
            raise PromptError(error.what) from None
        if len(text) > self._most_characters:
            raise PromptTooLong(
                f"The prompt has {len(text):,} characters; this model's context is {self.context} tokens"
            )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _question(self, conversation: list[dict[str, Any]]) -> list[int]:
        """Return what an encoder without a template reads: the question's tokens and those that end it."""
        try:
            text = input_text([(str(turn.get("role")), str(turn.get("content") or "")) for turn in conversation])
        except TemplateError as error:
            raise PromptError(f"{error.what}: {error.why}") from None
        if len(text) > self._most_characters:
            raise PromptTooLong(f"The prompt has {len(text):,} characters; this model reads {self.context} tokens")
        return list(self._tokenizer(text)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token: int) -> str:
        """Return the text of one token, special ones included."""
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))


# Arguments of apply_chat_template that a request must not set.
_TAKEN = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) | {"messages"}
# Parts of a message that carry what was said, and how templates name them.
_SAID = {"tool_calls": ("tool_calls",), "reasoning_content": ("reasoning_content", "reasoning", "thinking")}


def _as_named(conversation: list[Message], template: str) -> list[Message]:
    """Return messages with their parts under the names that a template reads. Raises PromptError where it has none."""
    found = []
    for place, message in enumerate(conversation):
        named = dict(message)
        for part, names in _SAID.items():
            read = [name for name in names if re.search(rf"\b{name}\b", template)]
            if message.get(part) and not read:
                raise PromptError(f"it has no place for {part} (messages.{place})")
            if message.get(part):
                named.update(dict.fromkeys(read, message[part]))
        found.append(named)
    return found


def stored_template(folder: Path) -> str:
    """Return the chat template in an adapter's folder, or nothing."""
    try:
        if (folder / _TEMPLATE_FILE).is_file():
            return (folder / _TEMPLATE_FILE).read_text(encoding="utf-8")
        return _default(parsed_json(file_bytes(folder / _TOKENIZER_CONFIG)).get("chat_template"))
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
