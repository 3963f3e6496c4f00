"""Load the fast tokenizer of a model folder without torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from app.data.chat_template.encoder_decoder import EncoderDecoder, encoder_decoder_of
from app.data.chat_template.templates import PLAIN_TEMPLATES, ChatTemplate, plain_template
from app.data.chat_template.tokens import Encoder
from app.errors import ModelError, TemplateError, foreign_code, one_line
from app.reading import file_bytes, parsed_json

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ModelTokenizer:
    """A model's tokenizer as rows need it: the backend, the template, and which tokens end a turn.

    `backend` is a `tokenizers.Tokenizer` with padding and truncation off. `end_tokens` are the tokens at which the
    model stops, from the tokenizer and from `generation_config.json`. `digest` identifies vocabulary and template.
    `encoder_decoder` is given for a model whose encoder reads the question apart from the answer.
    """

    backend: Any
    template: ChatTemplate
    eos_token: str
    end_tokens: tuple[str, ...]
    added_tokens: frozenset[str]
    digest: str
    warnings: tuple[str, ...] = field(default=())
    encoder_decoder: EncoderDecoder | None = None

    @cached_property
    def longest_token_chars(self) -> int:
        """Return the most characters that one token can stand for (bytes where the vocabulary is of bytes)."""
        return max(map(len, self.backend.get_vocab(with_added_tokens=True)), default=1)

    @cached_property
    def encoder(self) -> Encoder:
        """Return what tokenises texts and knows where their tokens lie."""
        return Encoder(self.backend)

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, special ones included."""
        return str(self.backend.decode(ids, skip_special_tokens=False))


def refuse_sentencepiece(folder: Path) -> None:
    """Raise ModelError for a folder whose only tokenizer is a SentencePiece model.

    Turning one into a fast tokenizer takes libraries that are not installed, and guesses of its special tokens.
    """
    fast = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
    if (folder / "tokenizer.model").is_file() and not any((folder / name).is_file() for name in fast):
        raise ModelError(
            f"The tokenizer in {folder.name} cannot be used",
            "it is only a tokenizer.model (SentencePiece), and rows need the tokenizer.json of a fast tokenizer",
            "take tokenizer.json from the model's page on the hub, or save one with transformers' save_pretrained",
        )


def load_tokenizer(folder: Path, chat_template: str = "") -> ModelTokenizer:
    """Load a folder's tokenizer; `chat_template` names a plain template to use instead of the model's own."""
    tokenizer = _load(folder)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    added = frozenset(str(token) for token in tokenizer.added_tokens_encoder)
    eos = str(tokenizer.eos_token or "")
    pairs = encoder_decoder_of(folder, bool(chat_template or tokenizer.chat_template))
    if pairs is not None and not pairs.has_template:
        template = ChatTemplate("", "none: the question is read by the encoder", special)
        warnings: tuple[str, ...] = ()
    else:
        template, warnings = _choose_template(tokenizer, special, added, chat_template)
    ends, digest = _end_tokens(folder, tokenizer, eos), _digest(backend, template, eos, pairs)
    return ModelTokenizer(backend, template, eos, ends, added, digest, warnings, pairs)


def _load(folder: Path) -> Any:
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder.name}", "", "Download the model first, or name its folder")
    refuse_sentencepiece(folder)

    def refusal(error: Exception) -> ModelError:  # the libraries raise anything from KeyError to their own Rust errors
        remedy = "The folder needs tokenizer.json and tokenizer_config.json"
        return ModelError(f"The tokenizer in {folder.name} cannot be loaded", one_line(error), remedy)

    with foreign_code(refusal):
        if (folder / "tokenizer.json").is_file():
            from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        from transformers import AutoTokenizer  # slow: converts the vocabulary and brings torch along

        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _choose_template(
    tokenizer: Any, special: dict[str, str], added: frozenset[str], wanted: str
) -> tuple[ChatTemplate, tuple[str, ...]]:
    """Return the wanted plain template, else the model's own, else the plain one that suits the vocabulary."""
    if wanted:
        return plain_template(wanted, special), ()
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()), None)
    if own:
        return ChatTemplate(str(own), "the model's own chat template", special), ()
    name = "chatml" if "<|im_start|>" in added else "instruction"
    if name == "instruction" and "eos_token" not in special:
        raise TemplateError(
            "The tokenizer has neither a chat template nor an end-of-text token",
            "Without one the model would never learn to stop",
            "Set eos_token in tokenizer_config.json",
        )
    known = ", ".join(PLAIN_TEMPLATES)
    return plain_template(name, special), (f"The model has no chat template; the plain one {name} is used ({known})",)


def _end_tokens(folder: Path, tokenizer: Any, eos: str) -> tuple[str, ...]:
    """Return the tokens at which generation stops."""
    ids: Any = None
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the file is optional
        ids = parsed_json(file_bytes(folder / "generation_config.json")).get("eos_token_id")
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in (ids if isinstance(ids, list) else [ids]) if _is_id(i)]
    named = [str(token) for token in tokens if token]
    return tuple(dict.fromkeys(([eos] if eos else []) + named))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _digest(backend: Any, template: ChatTemplate, eos: str, pairs: EncoderDecoder | None) -> str:
    parts = [backend.to_str(), template.source, json.dumps(template.special_tokens, sort_keys=True), eos]
    parts += [repr(pairs)] if pairs is not None else []
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
