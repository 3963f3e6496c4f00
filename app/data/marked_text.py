"""Find the turns in text that marks them.

ChatML, `### Instruction` headings in English and Chinese, dialogues of `Human:` and `Assistant:`, and text that was
rendered with the chat template of a known family (Llama, Mistral, Gemma, Phi, Vicuna, gpt-oss).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from app.data.conversation import ToolCall, Turn
from app.data.rows import BadRow

_CHATML = re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n?(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL)
_HEADING = re.compile(
    r"^#{2,3} ?(instruction|human|user|question|prompt|input|context|response|assistant|answer|output|system"
    r"|指令|问题|用户|提问|输入|回答|输出|响应|回复|答案|助手|系统)[ \t]*[:：]?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# A speaker opens a paragraph; the first one may stand at the very beginning.
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]*")
_SPEAKER_LINE = re.compile(r"^[ \t]*(Human|Assistant):[ \t]*", re.MULTILINE)
_END = re.compile(r"</s>|<\|endoftext\|>")
_SPEAKERS = {
    **dict.fromkeys(("human", "user", "inst"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "model", "/inst"), "assistant"),
    **dict.fromkeys(("function response", "ipython"), "tool"),
}
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


def ends_in_open_answer(text: str) -> bool:
    """Say whether a question is itself a dialogue whose last answer is to be given (Belle, old Claude prompts)."""
    return has_human_turns(text) and text.rstrip().endswith("Assistant:")


def turns_of_human(text: str) -> tuple[Turn, ...]:
    """Cut a dialogue of `Human:` and `Assistant:` paragraphs, or lines; an answer that is only opened is left out."""
    speaker = _SPEAKER if "\n\nAssistant:" in text else _SPEAKER_LINE
    return _closed(_cut(text, speaker, _END))


def _cut(text: str, speaker: re.Pattern[str], end: re.Pattern[str]) -> list[Turn]:
    """Return the turns between the marks of speakers, each up to what ends it."""
    marks = list(speaker.finditer(text))
    stops = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = []
    for mark, stop in zip(marks, stops, strict=True):
        name = mark.group(1).strip().lower()
        said = end.split(text[mark.end() : stop], maxsplit=1)[0]
        turns.append(Turn(_SPEAKERS.get(name, name), said.strip()))
    return turns


def _closed(turns: list[Turn]) -> tuple[Turn, ...]:
    """Leave out a last turn that is only opened."""
    return tuple(turns[:-1] if turns and not turns[-1].content else turns)


@dataclass(frozen=True)
class _Style:
    """How a family marks turns: what a text begins with, the mark with its speaker, and what ends a turn."""

    opening: re.Pattern[str]
    mark: re.Pattern[str]
    end: re.Pattern[str] = _END

    def turns(self, text: str) -> tuple[Turn, ...]:
        """Return the turns; what stands before the first of them is a system turn."""
        first = self.mark.search(text)
        before = _BEGINNING.sub("", text[: first.start()]).strip() if first else ""
        return (*((Turn("system", before),) if before else ()), *_closed(_cut(text, self.mark, self.end)))


_BEGINNING = re.compile(r"<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>")
_STYLES = (
    _Style(re.compile(r"\s*(?:<s>)?\s*\[INST\]"), re.compile(r"\[(/?INST)\]"), re.compile("</?s>")),
    _Style(
        re.compile(r"\s*(?:<\|begin_of_text\|>)?\s*<\|start_header_id\|>"),
        re.compile(r"<\|start_header_id\|>([^<]{1,40})<\|end_header_id\|>"),
        re.compile(r"<\|(?:eot_id|eom_id|end_of_text)\|>"),
    ),
    _Style(
        re.compile(r"\s*(?:<bos>)?\s*<start_of_turn>"),
        re.compile(r"<start_of_turn>(\w+)\n"),
        re.compile(r"<end_of_turn>|<eos>"),
    ),
    _Style(
        re.compile(r"\s*(?:<s>)?\s*<\|(?:system|user)\|>"),
        re.compile(r"<\|(system|user|assistant)\|>"),
        re.compile(r"<\|end\|>|</s>|<\|endoftext\|>"),
    ),
    _Style(
        re.compile(r"\s*(?:<｜begin▁of▁sentence｜>[^<]*)?<｜User｜>"),
        re.compile(r"<｜(User|Assistant)｜>"),
        re.compile(r"<｜end▁of▁sentence｜>"),
    ),
    _Style(
        re.compile(r"\s*(?:A chat between [^\n]{1,400}?\s)?USER:"),
        re.compile(r"(USER|ASSISTANT|FUNCTION RESPONSE):"),
    ),
    _Style(re.compile(r"\s*<human>:"), re.compile(r"<(human|bot)>:")),
    _Style(re.compile(r"\s*###\s?Human:"), re.compile(r"###\s?(Human|Assistant):")),
    _Style(re.compile(r"\s*The conversation between [^\n]{1,400}\s+\[\|Human\|\]"), re.compile(r"\[\|(Human|AI)\|\]")),
    _Style(
        re.compile(r"\s*(?:Human|User):"), re.compile(r"^[ \t]*(Human|User|Assistant|AI|Bot):", re.MULTILINE),
    ),
)  # fmt: skip
_LLAMA_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_HARMONY_OPENING = re.compile(r"\s*<\|start\|>\w+(?:<\|channel\|>\w+)?<\|message\|>")
_HARMONY = re.compile(
    r"<\|start\|>([^<]{1,100})(?:<\|channel\|>([^<]{1,100}))?(?:<\|constrain\|>[^<]{1,40})?<\|message\|>"
)
_HARMONY_END = re.compile(r"<\|(?:end|return|call)\|>")


def turns_of_marks(text: str) -> tuple[Turn, ...]:
    """Return the turns of text that marks them, none where it is text and nothing else."""
    if _HARMONY_OPENING.match(text):
        return turns_of_harmony(text)
    style = next((style for style in _STYLES if style.opening.match(text)), None)
    turns = style.turns(text) if style else ()
    if any(turn.role == "assistant" for turn in turns):
        return _llama_system(turns)
    return turns_of_headings(text) if has_turn_headings(text) else ()


def _llama_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Take the system text of Llama 2 out of the first question."""
    found = _LLAMA_SYSTEM.match(turns[0].content)
    if found is None:
        return turns
    asked = replace(turns[0], content=turns[0].content[found.end() :].strip())
    return Turn("system", found.group(1).strip()), asked, *turns[1:]


def turns_of_harmony(text: str) -> tuple[Turn, ...]:
    """Cut text in the form of gpt-oss: analysis is thinking, commentary to a function is a call of it."""
    turns: list[Turn] = []
    thinking = ""
    marks = list(_HARMONY.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        header, channel = mark.group(1), mark.group(2) or ""
        content = _HARMONY_END.split(text[mark.end() : end], maxsplit=1)[0].strip()
        role = header.split()[0]
        called = re.search(r"to=functions\.([\w.-]+)", f"{header} {channel}")
        if role.startswith("functions."):
            turns.append(Turn("tool", content, name=role.removeprefix("functions.")))
        elif role != "assistant":
            turns.append(Turn(role, content))
        elif channel.startswith("analysis"):
            thinking = f"{thinking}\n{content}".strip()
        else:
            calls = (ToolCall(called.group(1), content),) if called else ()
            turns.append(Turn("assistant", "" if called else content, thinking, calls))
            thinking = ""
    return tuple(turns)


def turns_of_chatml(text: str) -> tuple[Turn, ...]:
    """Cut ChatML text into its turns."""
    turns = tuple(Turn(match.group(1).lower(), match.group(2)) for match in _CHATML.finditer(text))
    if not turns:
        raise BadRow("shape", "The text opens no <|im_start|> turn", "Write <|im_start|>role, a line break, the text")
    return turns
