"""Mend what can be mended in a conversation without guessing what it should say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from app.data.dataset.auditing.sensitive import redact_emails, redact_secrets
from app.data.formats.conversation import Conversation, Turn


def role_order_problem(conversation: Conversation) -> str | None:
    """Say what is wrong with the order of turns, None when nothing is."""
    roles = [turn.role for turn in conversation.turns if turn.role not in ("system", "developer")]
    if conversation.text is not None:
        return None
    if not roles or "assistant" not in roles:
        return "The row has no answer"
    if roles[0] != "user":
        return f"The conversation begins with {roles[0]}"
    if roles[-1] != "assistant":
        return f"The conversation ends with {roles[-1]}, which has no answer"
    for left, right in itertools.pairwise(roles):
        if left == right and left in ("user", "assistant"):
            return f"Two {left} turns follow one another"
        if (left, right) == ("user", "tool"):
            return "A tool answers where nothing was called"
    first = next(i for i, turn in enumerate(conversation.turns) if turn.role == "user")
    if any(turn.role in ("system", "developer") for turn in conversation.turns[first:]):
        return "A system turn stands in the middle"
    return None


def repair(conversation: Conversation, kinds: tuple[str, ...], control_tokens: frozenset[str]) -> Conversation:
    """Return the conversation with these kinds of problem mended."""
    if "role_order" in kinds:
        conversation = _in_order(conversation)
    if "empty_answer" in kinds:
        conversation = _without_empty_answers(conversation)
    if "secret" in kinds:
        conversation = _each_text(conversation, redact_secrets)
    if "email" in kinds:
        conversation = _each_text(conversation, redact_emails)
    if "control_token" in kinds:
        conversation = _each_text(conversation, lambda text: without_tokens(text, control_tokens))
    return conversation


def without_tokens(text: str, tokens: frozenset[str]) -> str:
    """Return text without the given control tokens."""
    for token in tokens:
        if token in text:
            text = text.replace(token, "")
    return text


def _in_order(conversation: Conversation) -> Conversation:
    """Cut turns before the first question and after the last answer, and join turns of one role."""
    turns = list(conversation.turns)
    head = [turn for turn in turns if turn.role in ("system", "developer")][:1]
    turns = [turn for turn in turns if turn.role not in ("system", "developer")]
    while turns and turns[0].role != "user":
        turns.pop(0)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role and turn.role in ("user", "assistant") and not turn.tool_calls:
            joined[-1] = replace(joined[-1], content=f"{joined[-1].content}\n\n{turn.content}".strip())
        else:
            joined.append(turn)
    return replace(conversation, turns=(*head, *joined))


def _without_empty_answers(conversation: Conversation) -> Conversation:
    """Drop answers that say nothing, with the question before them."""
    turns: list[Turn] = []
    for turn in conversation.turns:
        if turn.role == "assistant" and is_empty_answer(turn):
            while turns and turns[-1].role == "user":
                turns.pop()
        else:
            turns.append(turn)
    return replace(conversation, turns=tuple(turns))


def is_empty_answer(turn: Turn) -> bool:
    """Say whether an assistant turn says nothing."""
    return not (turn.content.strip() or turn.reasoning.strip() or turn.tool_calls)


def _each_text(conversation: Conversation, change: Callable[[str], str]) -> Conversation:
    if conversation.text is not None:
        return replace(conversation, text=change(conversation.text))
    turns = tuple(
        replace(turn, content=change(turn.content), reasoning=change(turn.reasoning)) for turn in conversation.turns
    )
    return replace(conversation, turns=turns)
