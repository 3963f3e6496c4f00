"""Mark in one answer the words that another does not have at that place."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from app.ui.components.markup import Html, element, joined

# Words and the blanks between them, so that the marked text is the text.
_WORDS = re.compile(r"\s+|[^\s]+")
# The comparison takes time of the square of the length; answers beyond this are shown without marks.
_MOST_WORDS = 4000


def marked(text: str, against: str) -> Html:
    """Return a text with the words marked that `against` has not."""
    words, others = _WORDS.findall(text), _WORDS.findall(against)
    if text == against or len(words) + len(others) > _MOST_WORDS:
        return joined([text])
    parts: list[object] = []
    for kind, _, _, start, end in SequenceMatcher(None, others, words, autojunk=False).get_opcodes():
        piece = "".join(words[start:end])
        if piece:
            parts.append(piece if kind == "equal" or not piece.strip() else element("mark", piece))
    return joined(parts)
