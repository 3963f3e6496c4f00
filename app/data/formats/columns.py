"""The names under which files keep the parts of an example, in many languages; the canonical name first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from app.data.formats.missing import is_blank
from app.data.reading.rows import Fields

INSTRUCTION = (
    "instruction",
    "instructions",
    "指令",
    "任务",
    *(
        "anweisung",
        "instrucción",
        "instruccion",
        "istruzione",
        "instrução",
        "instrucao",
        "инструкция",
        "지시",
        "지시문",
        "指示",
    ),
)
# What a question is asked about; never the question itself where a column for that stands beside it.
CONTEXT = (
    *("context", "上下文", "passage"),
    *("kontext", "contexto", "contexte", "contesto", "контекст", "문맥", "文脈"),
)
INPUT = (
    *("input", "输入", *CONTEXT[:3]),
    *("eingabe", "entrada", "entrée", "입력", "入力", "ввод", *CONTEXT[3:]),
)
OUTPUT = (
    *("output", "输出", "response", "answer", "回答", "响应"),
    *("completion", "target", "targets", "solution", "答案", "回复"),
    *("ausgabe", "salida", "saída", "saida", "sortie", "출력", "出力", "вывод"),
    *("antwort", "respuesta", "réponse", "risposta", "resposta", "ответ", "답변", "応答"),
)
QUESTION = (
    "question",
    "问题",
    "query",
    "提问",
    "问",
    "q",
    *(
        "frage",
        "pregunta",
        "pergunta",
        "domanda",
        "질문",
        "質問",
        "вопрос",
        "pytanie",
        "soru",
        "vraag",
        "câu hỏi",
        "pertanyaan",
        "سؤال",
        "السؤال",
        "प्रश्न",
        "ερώτηση",
        "fråga",
        "question_text",
    ),
)
ANSWER = (
    *("answer", "回答", "答案", "response", "答", "a", "回复"),
    *("reply", "output", "completion", "solution", "解答"),
    *(
        "antwort",
        "respuesta",
        "resposta",
        "risposta",
        "réponse",
        "reponse",
        "답변",
        "답",
        "回答",
        "答え",
        "ответ",
        "odpowiedź",
        "odpowiedz",
        "cevap",
        "yanıt",
        "antwoord",
        "câu trả lời",
        "jawaban",
        "جواب",
        "الجواب",
        "إجابة",
        "उत्तर",
        "απάντηση",
        "svar",
    ),
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
SYSTEM = (
    *("system", "system_prompt", "系统", "系统提示", "systeminstruction", "system_instruction"),
    *("system_message", "systemprompt", "systemmessage", "sys_prompt", "sys", "system prompt", "system message"),
)
REASONING = (
    *("reasoning", "reasoning_content", "thinking", "think", "cot", "思考"),
    *("complex_cot", "chain_of_thought", "思考过程", "推理过程", "reasoning_text", "thought", "thoughts"),
)
HISTORY = ("history", "历史")
TOOLS = ("tools", "functions", "工具")
CHOSEN = ("chosen", "选中", "preferred", "chosen_messages", "chosen_response", "accepted", "preferred_output")
REJECTED = ("rejected", "拒绝", "dispreferred", "rejected_messages", "rejected_response", "non_preferred_output")
# Says whether an answer is a good one, in the sets made for KTO.
LABEL = ("label", "kto_tag")
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


def find(fields: Fields, names: tuple[str, ...]) -> str | None:
    """Return the row's column that goes by one of these names, compared without case and outer spaces."""
    return next(iter(_matching(fields, names)), None)


def filled(fields: Fields, names: tuple[str, ...]) -> str | None:
    """Return the first of these columns that holds something, else the first of them.

    Rows of several shapes in one table leave the columns of the others empty.
    """
    found = _matching(fields, names)
    return next((name for name in found if not is_blank(fields[name])), found[0] if found else None)


def context_that_asks(fields: Fields) -> str:
    """Return the column of what a question is about that stands in its place, as the question's own is blank; or "".

    A second column for answers that is blank too tells that the table holds rows of several shapes.
    """
    context = filled(fields, CONTEXT)
    found = pair(fields) if context is not None and not is_blank(fields[context]) else None
    if context is None or found is None:
        return ""
    questions = [name for name in _matching(fields, (*INSTRUCTION, *PROMPT, *QUESTION)) if name != context]
    answers = [name for name in _matching(fields, (*OUTPUT, *ANSWER)) if name != found[2]]
    other_shape = any(is_blank(fields[name]) for name in answers)
    return context if questions and all(is_blank(fields[name]) for name in questions) and not other_shape else ""


def _matching(fields: Fields, names: tuple[str, ...]) -> tuple[str, ...]:
    keys = tuple(fields)
    return _found(keys, names) if len(keys) <= _FEW_COLUMNS else _search(keys, names)


def _search(keys: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return all columns that go by one of the names, first those that are spelled like it."""
    exact, bare = _known(keys)
    spelled = [name for name in names if name in exact]
    return tuple(dict.fromkeys([*spelled, *(bare[name] for name in names if name in bare)]))


# The rows of a file mostly have the same columns, and each is asked for them some forty times.
_found = lru_cache(maxsize=4096)(_search)


@lru_cache(maxsize=64)
def _known(keys: tuple[str, ...]) -> tuple[frozenset[str], dict[str, str]]:
    """Return the columns as they are called, and by their bare names."""
    return frozenset(keys), {key.strip().lower(): key for key in keys if isinstance(key, str)}


def value(fields: Fields, names: tuple[str, ...]) -> Any:
    """Return the value of the first of these columns that holds something, None where there is none."""
    column = filled(fields, names)
    return None if column is None else fields[column]


def pair(fields: Fields, format_name: str = "") -> tuple[str, str, str] | None:
    """Return format, asking column and answering column of a row that is one question and one answer.

    Of several that a row has, the first counts whose two columns hold something, then one whose question does.
    """
    keys = tuple(fields)
    found = _paired(keys, format_name) if len(keys) <= _FEW_COLUMNS else _search_pairs(keys, format_name)
    if len(found) < 2:
        return found[0] if found else None
    asked = [one for one in found if not is_blank(fields[one[1]]) or _is_asked_below(fields, one[0])]
    return next((one for one in asked if not is_blank(fields[one[2]])), asked[0] if asked else found[0])


def _is_asked_below(fields: Fields, format_name: str) -> bool:
    """Say whether a row of Alpaca's has its question in the input, below an empty instruction."""
    return format_name == "alpaca" and not is_blank(value(fields, INPUT))


def _search_pairs(keys: tuple[str, ...], format_name: str) -> tuple[tuple[str, str, str], ...]:
    found: list[tuple[str, str, str]] = []
    for name, asking, answering in PAIRS:
        if format_name in ("", name):
            left, right = _search(keys, asking), _search(keys, answering)
            found += [(name, one, other) for one in left for other in right if one != other]
    return tuple(found)


_paired = lru_cache(maxsize=4096)(_search_pairs)
