"""The tokenizer in GGUF: every piece with its kind, the merges or scores, the special tokens and the chat template.

llama.cpp has two tokenizers for these families. `gpt2` is a byte-level BPE with merges; its splitting expressions are
compiled in and chosen by name, so a tokenizer that splits in any other way is refused. `llama` is SentencePiece's BPE:
neighbours join as long as the result is a piece, the piece with the highest score first; here a score is the rank of
the piece's first merge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf import GGUFWriter, TokenType

from app.errors import ExportError
from app.export.targets.turn_format import Turns

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}*{_LOWER}+%s|" + r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}+{_LOWER}*%s|"
_CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + _WORDS + r"\p{N}" + _REST
_LLAMA3 = _CONTRACTIONS + _WORDS + r"\p{N}{1,3}" + _REST
_GPT4O = _CASED.replace("%s", f"{_CONTRACTIONS}?") + r"\p{N}{1,3}" + _CASED_REST
_TEKKEN = _CASED.replace("%s", "") + r"\p{N}" + _CASED_REST
# llama.cpp's names of splitting expressions (src/llama-vocab.cpp), by expression and by whether whole words that are
# pieces skip the merges. GPT-2's own expression is built into the byte level and stands as "gpt2".
_SPLITS = {
    (_QWEN2, False): "qwen2",
    (_LLAMA3, True): "llama-bpe",
    (_LLAMA3, False): "dbrx",
    (_GPT4O, False): "gpt-4o",
    (_TEKKEN, True): "tekken",
    ("gpt2", False): "gpt-2",
    ("digits gpt2", False): "smollm",
}
_SPACE = "\u2581"


@dataclass
class Vocabulary:
    """What the file says of a tokenizer. Ids are places in `pieces`."""

    model: str
    pre: str
    pieces: list[str]
    kinds: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    space_prefix: bool | None = None
    notes: list[str] = field(default_factory=list)

    def write(self, writer: GGUFWriter, chat_template: str) -> None:
        """Write everything."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.pieces)
        writer.add_token_types(self.kinds)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, token in self.special.items():
            getattr(writer, f"add_{name}_token_id")(token)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        if self.space_prefix is not None:
            writer.add_add_space_prefix(self.space_prefix)
        if chat_template:
            writer.add_chat_template(chat_template)


def read_vocabulary(turns: Turns, rows: int) -> Vocabulary:
    """Read a tokenizer for a model with `rows` embeddings. Raises ExportError."""
    stored: dict[str, Any] = json.loads(turns.backend.to_str())
    model = stored["model"]
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _foreign(f"it is {model.get('type')}, not a plain BPE")
    pieces, kinds = _pieces(stored, rows)
    merges = [(pair if isinstance(pair, str) else " ".join(pair)) for pair in model["merges"]]
    if model.get("byte_fallback"):
        found = _sentencepiece(stored, pieces, kinds, merges)
    else:
        found = Vocabulary("gpt2", _split_name(stored), pieces, kinds, merges)
        if stored.get("normalizer"):
            found.notes.append(
                "The tokenizer normalises text (NFC) first, llama.cpp does not: decomposed accents differ."
            )
    _note_specials(found, turns)
    return found


def _pieces(stored: Mapping[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Return text and kind of every id; places without a token are filled, as the embeddings are."""
    pieces, kinds = [f"[PAD{number}]" for number in range(rows)], [TokenType.UNUSED] * rows
    by_text: dict[str, int] = stored["model"]["vocab"]
    added: list[dict[str, Any]] = stored.get("added_tokens") or []
    if not by_text.keys() - {str(token["content"]) for token in added}:
        # What transformers makes up for a folder without the files of its tokenizer.
        raise _foreign("it has no words, as where a model's folder has lost its tokenizer")
    highest = max([*by_text.values(), *(int(token["id"]) for token in added)])
    if highest >= rows:
        raise _foreign(f"it has the token {highest}, the model has {rows} embeddings")
    fallback = bool(stored["model"].get("byte_fallback"))
    unknown = stored["model"].get("unk_token")
    for text, number in by_text.items():
        is_byte = fallback and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        pieces[number], kinds[number] = text, TokenType.BYTE if is_byte else TokenType.NORMAL
    for token in added:
        text, number = str(token["content"]), int(token["id"])
        if fallback and not token["special"]:
            text = text.replace(_SPACE, " ")  # llama.cpp looks for these in the text before spaces are replaced
        pieces[number] = text
        kinds[number] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    if unknown in by_text:
        kinds[by_text[unknown]] = TokenType.UNKNOWN
    return pieces, kinds


def _split_name(stored: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for the way in which a byte-level BPE splits text. Raises ExportError."""
    normalizer = (stored.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        raise _foreign(f"it changes text by {normalizer} first")
    steps = stored.get("pre_tokenizer") or {}
    split = [_step_name(step) for step in steps.get("pretokenizers", [steps])]
    expression = " ".join(word for word in split if word)
    name = _SPLITS.get((expression, bool(stored["model"].get("ignore_merges"))))
    if name is None:
        raise _foreign("it splits text in a way that llama.cpp does not have")
    return name


def _step_name(step: Mapping[str, Any]) -> str:
    """Return one step's expression, or a word for a step that is built in; "?" for any other."""
    kind = step.get("type")
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return "gpt2" if step.get("use_regex", True) else ""
    if kind == "Digits" and step.get("individual_digits"):
        return "digits"
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return str((step.get("pattern") or {}).get("Regex", "?"))
    return "?"


def _sentencepiece(
    stored: Mapping[str, object], pieces: list[str], kinds: list[TokenType], merges: list[str]
) -> Vocabulary:
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", ""), rank)
    # Pieces that no merge makes must never win over one that a merge makes.
    lowest = -float(len(merges) + 1)
    scores = [-float(ranks[piece]) if piece in ranks else lowest for piece in pieces]
    found = Vocabulary("llama", "default", pieces, kinds, scores=scores)
    found.space_prefix = _space_prefix(stored, found)
    missing = _missing_merges(pieces, kinds, set(merges))
    if missing:
        found.notes.append(
            f"{missing} joins that llama.cpp makes are no merges of this tokenizer; rare texts may be cut differently."
        )
    return found


def _missing_merges(pieces: list[str], kinds: list[TokenType], merges: set[str]) -> int:
    """Count the pairs of pieces that make a piece and are no merge: SentencePiece joins them, the original does not."""
    known = {piece for piece, kind in zip(pieces, kinds, strict=True) if kind == TokenType.NORMAL}
    return sum(
        piece[:cut] in known and piece[cut:] in known and f"{piece[:cut]} {piece[cut:]}" not in merges
        for piece in known
        for cut in range(1, len(piece))
    )


def _space_prefix(stored: Mapping[str, Any], found: Vocabulary) -> bool:
    """Tell whether text gets a space in front, as most SentencePiece models have it. Raises ExportError."""
    normalizer = stored.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    kinds = [step.get("type") for step in steps]
    if set(kinds) - {"Prepend", "Replace"}:
        raise _foreign(f"it changes text by {', '.join(sorted(set(map(str, kinds)) - {'Prepend', 'Replace'}))} first")
    before = stored.get("pre_tokenizer") or {}
    if before.get("type") != "Metaspace":
        return "Prepend" in kinds
    scheme = before.get("prepend_scheme", "always")
    if scheme == "first":
        found.notes.append("Text at the very beginning, before any special token, gets no space in front in llama.cpp.")
    return bool(scheme == "always")


def _note_specials(found: Vocabulary, turns: Turns) -> None:
    """Note the special tokens, and whether the tokenizer puts them around a text by itself."""
    ids = {name: getattr(turns.tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "unk", "pad")}
    found.special = {name: int(token) for name, token in ids.items() if token is not None}
    if turns.end_token is not None and turns.end_token != ids["eos"]:
        found.special["eot"] = turns.end_token
    found.add_bos, found.add_eos = turns.begins_itself, turns.ends_itself


def _foreign(why: str) -> ExportError:
    return ExportError("The tokenizer cannot be written as GGUF", why, "use the merged model with transformers or vLLM")
