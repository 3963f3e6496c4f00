"""Find the turns in text that marks them: ChatML, `### Instruction` headings in English and Chinese, `Human:` turns."""

from __future__ import annotations

import re

from app.data.conversation import Turn
from app.data.rows import BadRow

_CHATML = re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n?(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL)
_HEADING = re.compile(
    r"^#{2,3} ?(instruction|human|user|question|prompt|input|context|response|assistant|answer|output|system"
    r"|指令|问题|用户|提问|输入|回答|输出|响应|回复|答案|助手|系统)[ \t]*[:：]?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# A speaker opens a paragraph; the first one may stand at the very beginning.
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]*")
_USER = {"instruction", "human", "user", "question", "prompt", "指令", "问题", "用户", "提问"}
_INPUT = {"input", "context", "输入"}
_SYSTEM = {"system", "系统"}
# The sentence that the Alpaca prompt puts in front; it carries nothing once the turns are known.
_ALPACA_PREAMBLE = re.compile(r"^(Below is an instruction|下面是一[个条])")


def _role_of(heading: str) -> str:
    word = heading.lower()
    if word in _USER:
        return "user"
    if word in _INPUT:
        return "input"
    return "system" if word in _SYSTEM else "assistant"


def has_turn_headings(text: str) -> bool:
    """Say whether text marks a question and an answer with headings."""
    if "##" not in text:
        return False
    roles = [_role_of(match.group(1)) for match in _HEADING.finditer(text)]
    return "user" in roles and "assistant" in roles


def turns_of_headings(text: str) -> tuple[Turn, ...]:
    """Cut text at its headings; an input goes below the question it belongs to."""
    marks = list(_HEADING.finditer(text))
    turns: list[Turn] = []
    preamble = text[: marks[0].start()].strip() if marks else ""
    if preamble and not _ALPACA_PREAMBLE.match(preamble):
        turns.append(Turn("system", preamble))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        role, content = _role_of(mark.group(1)), text[mark.end() : end].strip()
        if role == "input" and turns and turns[-1].role == "user":
            turns[-1] = Turn("user", f"{turns[-1].content}\n\n{content}".strip())
        else:
            turns.append(Turn("user" if role == "input" else role, content))
    return tuple(turns)


def has_human_turns(text: str) -> bool:
    """Say whether text is a dialogue of `Human:` and `Assistant:` paragraphs, as the HH-RLHF sets have it."""
    return _SPEAKER.match(text) is not None


def turns_of_human(text: str) -> tuple[Turn, ...]:
    """Cut a dialogue of `Human:` and `Assistant:` paragraphs; an answer that is only opened is left out."""
    marks = list(_SPEAKER.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        Turn("user" if mark.group(1) == "Human" else "assistant", text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    return tuple(turns[:-1] if turns[-1] == Turn("assistant", "") else turns)


def turns_of_chatml(text: str) -> tuple[Turn, ...]:
    """Cut ChatML text into its turns."""
    turns = tuple(Turn(match.group(1).lower(), match.group(2)) for match in _CHATML.finditer(text))
    if not turns:
        raise BadRow("shape", "The text opens no <|im_start|> turn", "Write <|im_start|>role, a line break, the text")
    return turns
