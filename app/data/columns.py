"""The names under which files keep the parts of an example, English and Chinese; the canonical name first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

INSTRUCTION = ("instruction", "instructions", "指令", "任务")
INPUT = ("input", "输入", "context", "上下文", "passage")
OUTPUT = (
    *("output", "输出", "response", "answer", "回答", "响应"),
    *("completion", "target", "targets", "solution", "答案", "回复"),
)
QUESTION = ("question", "问题", "query", "提问", "问", "q")
ANSWER = (
    *("answer", "回答", "答案", "response", "答", "a", "回复"),
    *("reply", "output", "completion", "solution", "解答"),
)
PROBLEM = ("problem", "题目")
SOLUTION = ("solution", "解答", "output", "response", "answer", "答案", "回答")
USER = ("user", "human", "用户")
ASSISTANT = ("assistant", "gpt", "bot", "助手", "助理")
PROMPT = ("prompt", "提示")
COMPLETION = ("completion", "response", "补全", "output", "target")
SOURCE = ("inputs", "input_text", "source", "src")
TARGET = ("targets", "target_text", "output_text", "target", "tgt")
MESSAGE = ("message", "request", "ask", "user_input")
REPLY = ("reply", "response", "model_output", "answer")
DOCUMENT = ("document", "article", "dialogue", "text", "文本")
SUMMARY = ("summary", "highlights", "摘要")
MESSAGES = (
    *("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "对话", "消息"),
    *("contents", "turns"),
)
TEXT = ("text", "文本", "content", "内容", "document", "body")
SYSTEM = ("system", "system_prompt", "系统", "系统提示", "systeminstruction", "system_instruction")
REASONING = (
    *("reasoning", "reasoning_content", "thinking", "think", "cot", "思考"),
    *("complex_cot", "chain_of_thought", "思考过程", "推理过程"),
)
HISTORY = ("history", "历史")
TOOLS = ("tools", "functions", "工具")
CHOSEN = ("chosen", "选中", "preferred", "chosen_messages", "chosen_response", "accepted", "preferred_output")
REJECTED = ("rejected", "拒绝", "dispreferred", "rejected_messages", "rejected_response", "non_preferred_output")
# Says whether an answer is a good one, in the sets made for KTO.
LABEL = ("label", "kto_tag")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
# Where a row is one question and one answer: the format, and what the two columns may be called. The first that fits.
PAIRS = (
    ("alpaca", INSTRUCTION, OUTPUT),
    ("prompt-completion", PROMPT, COMPLETION),
    ("question-answer", QUESTION, ANSWER),
    ("question-answer", PROBLEM, SOLUTION),
    ("prompt-completion", INPUT, OUTPUT),
    ("question-answer", PROMPT, ANSWER),
    ("question-answer", USER, ASSISTANT),
    ("prompt-completion", SOURCE, TARGET),
    ("prompt-completion", MESSAGE, REPLY),
    ("prompt-completion", DOCUMENT, SUMMARY),
    ("prompt-completion", (*INSTRUCTION, *PROMPT, *QUESTION, "input", "输入"), ("content",)),
)
_FEW_COLUMNS = 64


def find(fields: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the row's column that goes by one of these names, compared without case and outer spaces."""
    keys = tuple(fields)
    return _found(keys, names) if len(keys) <= _FEW_COLUMNS else _search(keys, names)


def _search(keys: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    exact, bare = _known(keys)
    return next((name for name in names if name in exact), None) or next(
        (bare[name] for name in names if name in bare), None
    )


# The rows of a file mostly have the same columns, and each is asked for them some forty times.
_found = lru_cache(maxsize=4096)(_search)


@lru_cache(maxsize=64)
def _known(keys: tuple[str, ...]) -> tuple[frozenset[str], dict[str, str]]:
    """Return the columns as they are called, and by their bare names."""
    return frozenset(keys), {key.strip().lower(): key for key in keys if isinstance(key, str)}


def value(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value of the first of these columns, None where there is none."""
    column = find(fields, names)
    return None if column is None else fields[column]


def pair(fields: dict[str, Any], format_name: str = "") -> tuple[str, str, str] | None:
    """Return format, asking column and answering column of a row that is one question and one answer."""
    keys = tuple(fields)
    return _paired(keys, format_name) if len(keys) <= _FEW_COLUMNS else _search_pair(keys, format_name)


def _search_pair(keys: tuple[str, ...], format_name: str) -> tuple[str, str, str] | None:
    for name, asking, answering in PAIRS:
        left, right = _search(keys, asking), _search(keys, answering)
        if left and right and left != right and format_name in ("", name):
            return name, left, right
    return None


_paired = lru_cache(maxsize=4096)(_search_pair)
