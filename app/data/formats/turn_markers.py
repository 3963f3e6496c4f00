"""Find the turns in text that marks them.

ChatML, `### Instruction` headings in English and Chinese, dialogues of `Human:` and `Assistant:`, and text that was
rendered with the chat template of a known family (Llama, Mistral, Gemma, Phi, Granite, GLM, Cohere, gpt-oss, ...).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.data.formats.conversation import ToolCall, Turn
from app.data.reading.rows import BadRow

_CHATML = re.compile(
    r"<\|im_start\|>[ \t]*(\w+)(?:<\|im_sep\|>|[ \t]*)\n?(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL
)
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
    **dict.fromkeys(("human", "user", "inst", "用户"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "model", "/inst", "chatbot"), "assistant"),
    **dict.fromkeys(("function response", "ipython", "observation"), "tool"),
    "system_prompt": "system",
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


def _pieces(text: str, marks: list[re.Match[str]]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield each mark with the text between it and the next."""
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        yield mark, text[mark.end() : end]


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
    for mark, piece in _pieces(text, marks):
        role, content = _role_of(mark.group(1)), piece.strip()
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
    turns = []
    for mark, piece in _pieces(text, list(speaker.finditer(text))):
        name = mark.group(1).strip().lower()
        said = end.split(piece, maxsplit=1)[0]
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


_BEGINNING = re.compile(
    r"<s>|<bos>|<\|begin_of_text\|>|<｜(?:hy_)?begin▁of▁sentence｜>|\[gMASK\]\s*<sop>|<BOS_TOKEN>|\[BOS\]|<\|endoftext\|>"
)
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
        re.compile(r"\s*(?:<s>|<\|endoftext\|>|\[gMASK\]\s*<sop>)?\s*<\|(?:system|user)\|>"),
        re.compile(r"<\|(system|user|assistant|observation)\|>"),
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
    # Gemma 4, Llama 4, Granite, Cohere, Mistral with a system text, Kimi, Seed, Apertus, Hunyuan.
    _Style(
        re.compile(r"\s*(?:<bos>)?\s*<\|turn>\w+\n"), re.compile(r"<\|turn>(\w+)\n"), re.compile(r"<turn\|>|<eos>")
    ),
    _Style(
        re.compile(r"\s*(?:<\|begin_of_text\|>)?\s*<\|header_start\|>"),
        re.compile(r"<\|header_start\|>([^<]{1,40})<\|header_end\|>"),
        re.compile(r"<\|(?:eot|eom|end_of_text)\|>"),
    ),
    _Style(
        re.compile(r"\s*<\|start_of_role\|>"),
        re.compile(r"<\|start_of_role\|>(\w+)<\|end_of_role\|>"),
        re.compile(r"<\|end_of_text\|>"),
    ),
    _Style(
        re.compile(r"\s*(?:<BOS_TOKEN>)?\s*<\|START_OF_TURN_TOKEN\|>"),
        re.compile(r"<\|START_OF_TURN_TOKEN\|><\|(SYSTEM|USER|CHATBOT)_TOKEN\|>"),
        re.compile(r"<\|END_OF_TURN_TOKEN\|>"),
    ),
    _Style(
        re.compile(r"\s*(?:<s>)?\s*\[SYSTEM_PROMPT\]"),
        re.compile(r"\[(/?INST|SYSTEM_PROMPT)\]"),
        re.compile(r"</?s>|\[/SYSTEM_PROMPT\]"),
    ),
    _Style(
        re.compile(r"\s*<\|im_(?:system|user)\|>"),
        re.compile(r"<\|im_(system|user|assistant)\|>\w*<\|im_middle\|>"),
        re.compile(r"<\|im_end\|>"),
    ),
    _Style(re.compile(r"\s*<seed:bos>\w+\n"), re.compile(r"<seed:bos>(\w+)\n"), re.compile(r"<seed:eos>")),
    _Style(
        re.compile(r"\s*(?:<s>)?\s*<\|(?:system|user)_start\|>"),
        re.compile(r"<\|(system|user|assistant)_start\|>"),
        re.compile(r"<\|\w+_end\|>|</s>"),
    ),
    _Style(
        re.compile(r"\s*(?:<｜hy_begin▁of▁sentence｜>[^<]*)?<｜hy_User｜>"),
        re.compile(r"<｜hy_(User|Assistant)｜>"),
        re.compile(r"<｜hy_[^｜]{1,60}｜>"),
    ),
    # EXAONE, Nemotron, OpenChat, MiniCPM.
    _Style(
        re.compile(r"\s*(?:\[BOS\])?\s*\[\|(?:system|user)\|\]"),
        re.compile(r"\[\|(system|user|assistant)\|\]"),
        re.compile(r"\[\|endofturn\|\]"),
    ),
    _Style(
        re.compile(r"\s*<extra_id_[01]>(?:System|User)\n"),
        re.compile(r"<extra_id_[01]>(System|User|Assistant|Tool)\n"),
    ),
    _Style(
        re.compile(r"\s*(?:<s>)?\s*(?:GPT4 Correct|Math Correct) User:"),
        re.compile(r"(?:GPT4 Correct|Math Correct) (User|Assistant):"),
        re.compile(r"<\|end_of_turn\|>|</s>"),
    ),
    _Style(re.compile(r"\s*(?:<s>)?\s*<用户>"), re.compile(r"<(用户|AI)>"), re.compile(r"</s>")),
    _Style(re.compile(r"\s*<human>:"), re.compile(r"<(human|bot)>:")),
    _Style(re.compile(r"\s*###\s?Human:"), re.compile(r"###\s?(Human|Assistant):")),
    _Style(re.compile(r"\s*The conversation between [^\n]{1,400}\s+\[\|Human\|\]"), re.compile(r"\[\|(Human|AI)\|\]")),
    _Style(
        re.compile(r"\s*(?:Human|User):"), re.compile(r"^[ \t]*(Human|User|Assistant|AI|Bot):", re.MULTILINE),
    ),
)  # fmt: skip
_CHANNEL = re.compile(r"<\|channel>thought\n(.*?)<channel\|>", re.DOTALL)
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
    turns = tuple(map(_without_channel, style.turns(text))) if style else ()
    if any(turn.role == "assistant" for turn in turns):
        return _llama_system(turns)
    return turns_of_headings(text) if has_turn_headings(text) else ()


def _without_channel(turn: Turn) -> Turn:
    """Take the thinking of Gemma 4 out of an answer."""
    found = _CHANNEL.match(turn.content) if turn.role == "assistant" else None
    if found is None:
        return turn
    return replace(turn, content=turn.content[found.end() :].strip(), reasoning=found.group(1).strip())


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
    for mark, piece in _pieces(text, list(_HARMONY.finditer(text))):
        header, channel = mark.group(1), mark.group(2) or ""
        content = _HARMONY_END.split(piece, maxsplit=1)[0].strip()
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
