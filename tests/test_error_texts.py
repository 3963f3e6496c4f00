"""Every keyed text of an error is the one that the page knows by its key, in every language."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors
from app.data.reading import readers
from app.data.reading.documents import web_pages, zip_documents
from app.errors import DataError, UsageError, keyed
from app.jobs.kinds import KINDS
from app.ui.shell.language import NAMES, Translator, texts

APP = Path(__file__).resolve().parents[1] / "app"
SOURCES = sorted(APP.rglob("*.py"))
# What is said at the command line alone.
_COMMAND_LINE = (
    "cli/",
    "ui/shell/serving/server.py",
    "outputs.py",
    "support.py",
    "workspace.py",
    "export/requests.py",
    "runs/submission/profiling.py",
)
# Texts with fewer letters around their places, such as `{id} is {state}`, are known by no form.
_LEAST_TELLING = 12
# What is done at the command line: its options and verbs stay as they are.
_OPTION = re.compile(r"(^|[ (])--[a-z]|`|pip install|command line")


def keyed_texts() -> list[tuple[str, str, set[str]]]:
    """Return key, English text and the names of the values of every text in the code."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "keyed":
                key, english = (ast.literal_eval(argument) for argument in node.args)
                found.append((key, english, {str(keyword.arg) for keyword in node.keywords}))
    return found


@pytest.mark.parametrize("language", NAMES)
def test_the_page_knows_every_text_by_its_key(language: str) -> None:
    found = keyed_texts()
    assert len(found) > 150
    for key, english, values in found:
        own = texts(language).get(f"said.{key}")
        assert own, (key, "is missing")
        assert set(re.findall(r"\{([a-z_]+)\}", english)) == values == set(re.findall(r"\{([a-z_]+)\}", own)), key
        assert language != "en" or own == english, key
        assert language == "en" or own != english, key


def test_an_error_is_said_in_the_language_of_the_page() -> None:
    error = UsageError(keyed("no_row", "No row of {name} can be trained", name="a.json"), "", "see the log of 5")
    assert error.line() == "No row of a.json can be trained. See the log of 5."
    zh = Translator("zh")
    assert "a.json" in zh.heard(error.what)
    assert zh.heard(error.what) != error.what
    assert Translator("en").heard(error.what) == error.what


def test_a_copy_keeps_its_key() -> None:
    text = copy.deepcopy(keyed("no_row", "No row of {name} can be trained", name="a.json"))
    assert text == "No row of a.json can be trained" and text.key == "no_row" and text.values == {"name": "a.json"}


def test_a_line_s_number_goes_around_what_is_wrong_with_it() -> None:
    error = DataError(keyed("this_is_not_json", "This is not JSON"), line=7)
    assert error.what == "Line 7: This is not JSON" and error.line_number == 7
    assert Translator("zh").heard(error.what) == "第 7 行：这不是 JSON"


def test_what_has_lost_its_key_is_known_by_its_form_and_nothing_is_taken_for_another() -> None:
    zh = Translator("zh")
    assert zh.heard("There is no job 5 in the trash") == "回收站里没有任务 5"
    for own in ("The sky is blue", "Out of memory. RuntimeError", "it is warm"):
        assert zh.heard(own) == own


def test_the_reason_of_a_failed_job_is_said_sentence_by_sentence() -> None:
    line = "Out of memory. CUDA error 2. Choose a smaller micro-batch or sequence length."
    said = Translator("zh").heard_line(line)
    assert said == "内存不足。CUDA error 2. 请选择更小的微批次或序列长度。"
    assert Translator("en").heard_line(line) == line and Translator("zh").heard_line("Odd thing.") == "Odd thing."
    # A text that begins small where it is raised stands with a capital in the line.
    assert Translator("zh").heard_line("Stopped before it began.") == "开始之前已被停止。"


def plain_texts() -> Iterator[tuple[str, str]]:
    """Yield place and English text, with letters for its values, of every text of an error that has no key."""
    classes = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, Exception)}
    for path in SOURCES:
        place = path.relative_to(APP).as_posix()
        if place.startswith(_COMMAND_LINE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in classes - {"ConfigError"}
            ):
                named = {str(keyword.arg): keyword.value for keyword in node.keywords}
                parts = [*node.args[: 2 if "on_page" in named else 3], *named.values()]
                yield from ((f"{place}:{node.lineno}", text) for text in map(_form, parts) if text)


def problem_texts() -> Iterator[tuple[str, str]]:
    """Yield place and English text, with letters for its values, of what is wrong with rows and of notes on files."""
    firsts = {"BadRow": 1, "RowProblem": 2, "note": 0}
    for path in sorted((APP / "data").rglob("*.py")):
        place = path.relative_to(APP).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if called in firsts:
                assert isinstance(node, ast.Call)
                yield from (
                    (f"{place}:{node.lineno}", text) for text in map(_form, node.args[firsts[called] :]) if text
                )
            # Texts that are made a line before: `message = f"..."`, `warnings.append("...")`.
            if called == "append" and isinstance(node, ast.Call) and ast.unparse(node.func).startswith("warnings."):
                yield from ((f"{place}:{node.lineno}", text) for text in [_form(node.args[0])] if text)
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) in ("message", "fix")
                and _form(node.value)
            ):
                yield f"{place}:{node.lineno}", _form(node.value)


def _form(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [
            str(one.value) if isinstance(one, ast.Constant) else f"Q{place}" for place, one in enumerate(node.values)
        ]
        return "".join(parts)
    return ""


def test_an_error_that_the_page_can_show_is_said_in_chinese() -> None:
    zh, found = Translator("zh"), list(plain_texts())
    assert len(found) > 400
    unknown = []
    for place, text in found:
        around = re.sub(r"Q\d+", "", text)
        short = "Q" in text and len(around) < _LEAST_TELLING
        if not short and not _OPTION.search(text) and zh.heard(text) == text:
            unknown.append(f"{place}: {text}")
    assert not unknown, "\n".join(unknown)


# Texts whose only words are a value: the reason is a text of its own.
_MADE_OF_OTHERS = {
    "The row has Q1": ("The row has no known set of columns among: a, b",),
    "The row is equal to Q1 Q3": ("The row is equal to line 3", "The row is equal to row 3"),
    "The row is in Q1, line Q3 in Q5 says nearly the same": (
        *("The row is in validation, line 3 in training says nearly the same",),
        *("The row is in training, line 3 in validation says nearly the same",),
    ),
    "In Q1 of Q3 pairs the chosen answer is the Q5 one: length alone may be learned": (
        *("In 2 of 3 pairs the chosen answer is the longer one: length alone may be learned",),
        *("In 2 of 3 pairs the chosen answer is the shorter one: length alone may be learned",),
    ),
    "The list Q1 is not read. Q3": ("The list 'b' is not read. Its 2 rows stand beside the list 'a'",),
    "Q0. Q2": (),  # an error's own parts
}


def test_what_is_wrong_with_a_row_is_said_in_chinese() -> None:
    zh, found = Translator("zh"), list(problem_texts())
    assert len(found) > 180
    made = [("", text) for texts_ in _MADE_OF_OTHERS.values() for text in texts_]
    plain = [(place, text) for place, text in found if text not in _MADE_OF_OTHERS] + made
    unknown = [f"{place}: {text}" for place, text in plain if zh.heard(text) == text]
    assert not unknown, "\n".join(unknown)


def test_what_a_run_says_on_its_curve_is_said_in_chinese() -> None:
    zh = Translator("zh")
    bought = "Spends 0.5 of 20.7 GB free memory on speed: no layer is recomputed"
    assert zh.heard(bought) == "用 20.7 GB 空闲内存中的 0.5 GB 换速度：不重算任何层"
    refused = "checkpoint at step 20 is not used: model.safetensors has changed since it was saved"
    assert zh.heard(refused) == "没有使用第 20 步的检查点：model.safetensors 在保存之后被改动"
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("event", "add_event")
            ):
                message = node.args[1] if len(node.args) > 1 else None
                assert not isinstance(message, (ast.Constant, ast.JoinedStr)), f"{path}:{node.lineno} has no key"


def test_every_phase_and_kind_of_a_job_has_a_name() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "progress":
                said = [*node.args[2:3], *(one.value for one in node.keywords if one.arg == "phase")]
                for phase in (one.value for one in said if isinstance(one, ast.Constant)):
                    assert f"phase.{phase}" in texts("zh"), f"{path}:{node.lineno}: {phase}"
    assert {f"kind.{kind}" for kind in KINDS} <= set(texts("zh"))


def test_every_kind_of_file_that_is_not_read_is_said_in_chinese() -> None:
    zh = Translator("zh")
    kinds = {*readers._FOREIGN.values(), *(kind for _, kind in web_pages._FOREIGN), zip_documents._OPEN_DOCUMENT}
    kinds |= {called for _, called, kind in zip_documents._MARKS if kind is None}
    kinds |= {"a tar archive", "an e-mail or mailbox", "a file of markup (XML or HTML)", "a zip of NumPy arrays"}
    assert len(kinds) > 30
    english = {kind: zh.heard(kind) for kind in kinds if zh.heard(kind) == kind or re.search(r"\ban? ", zh.heard(kind))}
    assert not english
    assert zh.heard("The file cannot be read: it is a picture") == "无法读取该文件：它是图片"
    assert zh.heard(readers._SAVE_ROWS).startswith("请将其中的行存为下列格式之一：.json")
