"""Read a cell as the text it stands for: answers come wrapped in objects and lists, and JSON of these is no answer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from app.data.formats.message_lists import as_list
from app.data.reading.rows import BadRow, Fields

# Where an object keeps its text, and what else it may hold that is no text of its own.
_TEXT_KEYS = (
    *("text", "value", "content", "answer", "body", "answer_text", "response", "output", "completion"),
    *("message", "parts", "generated_text", "文本", "内容", "答案", "回答"),
)
_NO_TEXT = frozenset(
    (
        *("author", "user", "username", "owner", "role", "type", "content_type", "lang", "language", "source", "url"),
        *(
            "link",
            "license",
            "date",
            "created",
            "created_at",
            "creation_date",
            "time",
            "timestamp",
            "model",
            "provider",
        ),
        *("label", "title", "name", "format", "annotator", "finish_reason", "status", "question", "prompt", "query"),
    )
)
_CHOSEN = ("selected", "accepted", "is_accepted", "is_selected", "is_best", "best", "chosen", "is_answer", "correct")
_HIGHEST = ("score", "pm_score", "votes", "upvotes", "ups", "rating", "likes", "quality", "reward")
_LOWEST = ("rank", "ranking", "position", "order")


def text_of(value: object) -> str:
    """Return a cell as text; objects and lists that stand for no one text keep their JSON form."""
    if value is None or (isinstance(value, float) and value != value):  # a NaN is how pandas keeps nothing
        return ""
    if isinstance(value, str):
        return value
    found = _wrapped_text(value)
    if found is None and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        found = "\n".join(value)
    return json.dumps(value, ensure_ascii=False, default=str) if found is None else found


def answer_text(value: object) -> str:
    """Return what a cell says as an answer; raise BadRow where that is not clear."""
    if value is None or isinstance(value, (str, int, float)):
        return text_of(value)
    if not value:
        return ""
    found = _wrapped_text(value)
    if found is not None:
        return found
    if isinstance(value, list):
        message = f"The answer is a list of {len(value):,}, and which of them is the answer is not said"
    else:
        keys = ", ".join(str(key) for key in list(value)[:6]) if isinstance(value, dict) else type(value).__name__
        message = f"The answer is an object of {keys}, not a text"
    raise BadRow("shape", message, "Write the answer as one text; JSON that is to be learned belongs between quotes")


def best(answers: list[object]) -> object:
    """Return the answer of a list that is marked as the best, else the first one."""
    records = [one for one in answers if isinstance(one, dict)]
    if 1 < len(answers) == len(records):
        return _ranked(records) or answers[0]
    return answers[0]


def _ranked(answers: list[Fields]) -> Fields | None:
    """Return the record that is marked as chosen, else the highest score or lowest rank; None where nothing tells."""
    for name in _CHOSEN:
        marked = [one for one in answers if one.get(name) in (True, 1, "true", "True")]
        if len(marked) == 1:
            return marked[0]
    for names, sign in ((_HIGHEST, 1), (_LOWEST, -1)):
        for name in names:
            if all(isinstance(one.get(name), (int, float)) for one in answers):
                return max(answers, key=lambda one: sign * one[name])
    return None


def _wrapped_text(value: object, levels: int = 6) -> str | None:
    """Return the one text that an object or a list wraps, None where there is none or more than one."""
    if isinstance(value, str):
        return value
    if not levels or not value:
        return None
    if isinstance(value, list):
        return _listed_text(value, levels)
    if not isinstance(value, dict):
        return None
    key = next((name for name in _TEXT_KEYS if value.get(name)), None)
    if key is None or any(_says_more(name, rest) for name, rest in value.items() if name != key):
        return None
    inner = value[key]
    if isinstance(inner, list) and all(isinstance(one, str) for one in inner):
        return "".join(inner) if key == "parts" else str(inner[0])  # several right answers (SQuAD)
    return str(inner) if isinstance(inner, (int, float)) else _wrapped_text(inner, levels - 1)


def _listed_text(value: list[object], levels: int) -> str | None:
    if len(value) == 1:
        return _wrapped_text(value[0], levels - 1)
    records = [one for one in value if isinstance(one, dict)]
    if len(records) < len(value):
        return None
    if all(one.get("type") in ("text", "input_text", "output_text") for one in records):
        texts = [_wrapped_text(one, levels - 1) for one in records]
        return None if None in texts else "".join(text for text in texts if text)
    ranked = _ranked(records)
    return None if ranked is None else _wrapped_text(ranked, levels - 1)


def _says_more(name: object, value: object) -> bool:
    """Say whether another member of an object may be part of what it says."""
    bare = str(name).lower()
    if not value or isinstance(value, (bool, int, float)) or bare in _NO_TEXT or bare in _TEXT_KEYS:
        return bare in _TEXT_KEYS and isinstance(value, str) and bool(value)
    return not (bare.endswith(("id", "_at", "_url", "aliases", "_start", "_end")) or bare.startswith("normalized"))


# How sets call the text of a passage, one passage a record or one list for each part of all.
_PASSAGE_TEXTS = ("passage_text", "text", "sentences", "contents", "content", "contexts", "paragraph", "passage")


def passages_text(value: object) -> str:
    """Return the passages that a question is asked about as text, one below the other; empty for another shape.

    Known are lists of texts, of records of title and text, of pairs of a title and its sentences (HotpotQA), and one
    list for each part of all (MS MARCO, PubMedQA); also as JSON text.
    """
    if isinstance(value, dict):
        texts = next((value[name] for name in _PASSAGE_TEXTS if isinstance(value.get(name), list)), None)
        titles = value.get("title")
        if texts is None:
            return ""
        named = titles if isinstance(titles, list) and len(titles) == len(texts) else [""] * len(texts)
        return _below(zip(named, texts, strict=True))
    listed = as_list(value)
    if not listed:
        return ""
    if all(isinstance(one, dict) for one in listed):
        records = [next((one[name] for name in _PASSAGE_TEXTS if one.get(name)), None) for one in listed]
        return _below(zip([one.get("title") or "" for one in listed], records, strict=True))
    if all(isinstance(one, (list, tuple)) and len(one) == 2 and isinstance(one[1], list) for one in listed):
        return _below((one[0], one[1]) for one in listed)
    return _below(("", one) for one in listed)


def _below(passages: Iterable[tuple[object, object]]) -> str:
    """Return passages as text; empty where one of them is none."""
    said: list[str] = []
    for title, text in passages:
        sentences = text if isinstance(text, list) else [text]
        words = [one for one in sentences if isinstance(one, str)]
        if not isinstance(title, str) or len(words) < len(sentences):
            return ""
        said.append("\n".join(part for part in (title.strip(), "".join(words).strip()) if part))
    return "\n\n".join(one for one in said if one)
