"""Tell cells that hold nothing from cells that say something: blanks, and what programs write for an empty cell.

pandas writes `nan`, `NaN`, `NaT` or `<NA>` for a cell without a value. As a whole answer or question nobody means it,
so such rows are left out. `None`, `null` and `N/A` come from the same exports, but are right answers elsewhere (a
class, a list without entries): they are trained, and said.
"""

from __future__ import annotations

from app.data.formats.conversation import Conversation, Turn
from app.data.reading.rows import BadRow
from app.errors import keyed

# What strip() leaves and nobody sees: zero-width spaces and joiners, the byte order mark, the soft hyphen.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_NO_VALUE = frozenset(("nan", "NaN", "NaT", "<NA>", "<na>"))
_NULL_WORDS = frozenset(
    (
        *("None", "none", "NONE", "null", "Null", "NULL", "nil", "N/A", "n/a", "NA", "#N/A"),
        *("undefined", "(null)", "<null>"),
    )
)
_LONGEST = 12
_FILL_QUESTION = keyed(
    "fill_the_question",
    "Write what is asked, or drop the row; answers alone are trained as text with the mapping text=COLUMN",
)
_FILL_ANSWER = keyed("fill_the_answer", "Fill the cell, or drop the row; write a sentence where the word is meant")


def is_silent(text: str) -> bool:
    """Say whether a text shows nothing."""
    bare = text.strip()
    return not bare or (bare[0] in _INVISIBLE and all(char in _INVISIBLE or char.isspace() for char in bare))


def is_no_value(text: str) -> bool:
    """Say whether a text is what pandas writes for a cell without a value."""
    return len(text) <= _LONGEST and text.strip() in _NO_VALUE


def is_null_word(text: str) -> bool:
    """Say whether a text is a word that programs write for nothing, and that people may mean."""
    return len(text) <= _LONGEST and text.strip() in _NULL_WORDS


def is_blank(value: object) -> bool:
    """Say whether a cell holds nothing: null, a NaN, or a text that shows or says nothing."""
    if isinstance(value, str):
        return is_silent(value) or is_no_value(value)
    return value is None or (isinstance(value, float) and value != value)


def without_null(text: str) -> str:
    """Return the text of a cell that may be left empty; what programs write for an empty one is none."""
    return "" if is_no_value(text) or is_null_word(text) else text


def refuse_no_question(question: str) -> None:
    """Raise BadRow for what a row of a table asks, where that is nothing."""
    if is_silent(question):
        message = keyed("row_asks_nothing", "The row has an answer and no question")
        raise BadRow("empty_question", message, _FILL_QUESTION)
    if is_no_value(question):
        word = question.strip()
        message = keyed("question_is_no_value", "The question is {word}, as pandas writes an empty cell", word=word)
        raise BadRow("missing_value", message, _FILL_QUESTION)


def refuse_missing(conversation: Conversation, *, is_asked: bool = True) -> None:
    """Raise BadRow for a conversation in which nothing is asked, or one of whose trained answers is no value.

    `is_asked` is False for rows that a person has chosen to train without a question.
    """
    if conversation.text is not None:
        _refuse_no_value(conversation.text)
        return
    for turn in conversation.turns:
        if turn.role == "assistant" and turn.trained and not turn.tool_calls:
            _refuse_no_value(turn.content)
    before = [turn for turn in conversation.turns if turn.role != "assistant"]
    if is_asked and any(turn.role == "user" for turn in before):
        refuse_no_question(_first_said(before))


def _refuse_no_value(answer: str) -> None:
    if is_no_value(answer):
        word = answer.strip()
        message = keyed("answer_is_no_value", "The answer is {word}, as pandas writes an empty cell", word=word)
        raise BadRow("missing_value", message, _FILL_ANSWER)


def _first_said(turns: list[Turn]) -> str:
    """Return the first of these texts that says something; a text that is no value only where there is no other."""
    said = [turn.content for turn in turns if not is_silent(turn.content)]
    return next((text for text in said if not is_no_value(text)), said[0] if said else "")


def empty_turn(conversation: Conversation) -> int:
    """Return the number, from 1, of the first turn of a user that shows nothing; 0 where each says something."""
    turns = enumerate(conversation.turns, start=1)
    return next((number for number, turn in turns if turn.role == "user" and is_silent(turn.content)), 0)


def null_word(conversation: Conversation) -> str:
    """Return the word for nothing that a whole answer, the first question or the system text is; else nothing."""
    if conversation.text is not None:
        return conversation.text.strip() if is_null_word(conversation.text) else ""
    asked = False
    for turn in conversation.turns:
        is_word = len(turn.content) <= _LONGEST and (is_null_word(turn.content) or is_no_value(turn.content))
        # Later on in a talk `None` is what people answer.
        if is_word and (turn.trained and not turn.tool_calls if turn.role == "assistant" else not asked):
            return turn.content.strip()
        asked = asked or turn.role == "user"
    return ""
