"""The names under which files keep the parts of an example, English and Chinese; the canonical name first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

INSTRUCTION = ("instruction", "instructions", "指令", "任务")
INPUT = ("input", "输入", "context", "上下文")
OUTPUT = ("output", "输出", "response", "answer", "回答", "响应")
QUESTION = ("question", "问题", "query", "提问", "问", "q")
ANSWER = ("answer", "回答", "答案", "response", "答", "a", "回复")
PROMPT = ("prompt", "提示")
COMPLETION = ("completion", "response", "补全", "output")
MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "对话", "消息")
TEXT = ("text", "文本", "content", "内容", "document", "body")
SYSTEM = ("system", "system_prompt", "系统", "系统提示")
REASONING = ("reasoning", "reasoning_content", "thinking", "think", "cot", "思考")
HISTORY = ("history", "历史")
TOOLS = ("tools", "functions", "工具")
CHOSEN = ("chosen", "选中", "preferred", "chosen_messages", "chosen_response")
REJECTED = ("rejected", "拒绝", "dispreferred", "rejected_messages", "rejected_response")
# Says whether an answer is a good one, in the sets made for KTO.
LABEL = ("label", "kto_tag")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
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
