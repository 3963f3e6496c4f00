"""Read JSON Lines, JSON arrays and single JSON objects, row by row, in bounded memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, BinaryIO

from app.data.reading import limits
from app.data.reading.encodings import read_chunks, read_lines, refuse_bad_text, too_long
from app.data.reading.records.chat_exports import SeveralChats, exported_chat
from app.data.reading.records.repeated_names import refuse_repeated_names
from app.data.reading.rows import BadRow, Fields
from app.errors import DataError

Record = tuple[int, "Fields | BadRow"]
Note = Callable[[str], None]
# Enough to see how an object around lists begins.
_PEEK_CHARS = 64 * 1024

# What may stand between values: also the mark of a file that was appended to another, and comments.
_SPACE = re.compile(r"[\s,]*")
_BLANK = re.compile(r"(?:[\s,\ufeff]|//[^\n]*\n|/\*(?s:.*?)\*/)*")
_OPEN_COMMENT = re.compile(r"//[^\n]*\Z|/\*(?:[^*]|\*(?!/)){0,10000}\Z")
_TRAIN_LISTS = ("data", "rows", "train", "training", "examples", "items", "instances", "dataset")
_GROK_LIST = "conversations"
_OTHER_SPLITS = ("test", "tests", "valid", "validation", "val", "dev", "eval", "evaluation")
# What describes a set may stand in front of its rows.
_ABOUT_SET = "version|name|title|description|license|licence|date|created|source|language|url|author|count|total"
_WRAPPED_ARRAY = re.compile(
    rf'\s*\{{\s*(?:"(?:{_ABOUT_SET})"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*){{0,20}}'
    rf'"({"|".join(_TRAIN_LISTS + _OTHER_SPLITS)}|{_GROK_LIST}(?=[^\[]*\[\s*\{{\s*"conversation"))"\s*:\s*\['
    r'(?!\s*\{\s*"(?:role|from|author|speaker)")'
)
_NEXT_NAME = re.compile(r'\s*"((?:[^"\\]|\\.){0,1000})"\s*:\s*')
# Turns name their speaker; a list of them is one row, a list of anything else holds rows.
_SPEAKER_KEYS = ("role", "from", "author", "speaker", "角色")
_TURN_KEYS = (*_SPEAKER_KEYS, "human", "user", "assistant", "gpt", "bot", "Human", "Assistant", "用户", "助手")
_OUTSIDE = re.compile(r'["{}\[\]]')
_RAW_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|\\u0000")


def _refuse_constant(name: str) -> None:
    raise BadRow(
        "number", f"{name} is not a number that JSON knows", "Write null or a real number; pandas' to_json does"
    )


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRow("number", f"{text[:40]} is too large for a number", "Write it as text")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, strict=False)


def read_json_lines(stream: BinaryIO) -> Iterator[Record]:
    """Read one value a line, or several; blank lines are passed over."""
    for number, line in read_lines(stream):
        if line is None:
            yield number, too_long()
        elif line.strip():
            try:
                yield number, parse_row(line)
            except _SeveralRows as several:
                for fields in several.rows:
                    yield number, fields
            except BadRow as problem:
                yield number, problem.about(line)


class _SeveralRows(Exception):
    """Hand over the rows of a text that holds more than one."""

    def __init__(self, rows: Iterable[Fields | BadRow]) -> None:
        self.rows = list(rows)
        super().__init__()


def parse_row(text: str) -> Fields:
    """Parse the text of one row into its fields, or raise BadRow."""
    refuse_bad_text(text)
    try:
        value, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
    except (ValueError, RecursionError) as error:
        raise bad_json(error) from error
    if text[end:].strip(" \t\r\n,"):
        raise _SeveralRows(_values_of_line(text))
    return as_fields(value, text)


def _values_of_line(text: str) -> Iterator[Fields | BadRow]:
    """Return the rows of a line that holds several values; text between them that is no value costs them all."""
    values, at = [], 0
    while (at := _blank_end(text, at)) < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            fix = "Put every row on a line of its own"
            raise BadRow("json", "There is more text after the row's end", fix) from error
        values.append((value, text[at:end]))
        at = end
    if not all(isinstance(value, (dict, list)) for value, _ in values):
        raise BadRow("json", "There is more text after the row's end", "Put every row on a line of its own")
    for value, part in values:
        yield from _rows_of(value, part)


def _rows_of(value: object, text: str) -> Iterator[Fields | BadRow]:
    """Return the rows that a value holds: itself, or the items of a list of rows."""
    try:
        yield as_fields(value, text)
    except _SeveralRows as several:
        yield from several.rows
    except BadRow as problem:
        yield problem.about(text)


def _blank_end(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    at = space.end() if space else at
    if text[at : at + 1] not in ("/", "\ufeff"):
        return at
    match = _BLANK.match(text, at)
    return match.end() if match else at


def bad_json(error: Exception) -> BadRow:
    """Say what is wrong with JSON that does not parse."""
    if isinstance(error, RecursionError):
        return _too_deep()
    if isinstance(error, json.JSONDecodeError):
        reason = error.msg.removesuffix(" at")  # some say where themselves
        return BadRow("json", f"Not valid JSON: {reason} at column {error.colno}", "Repair the row or remove it")
    return BadRow("number", "A number has thousands of digits", "Write it as text")


def _too_deep() -> BadRow:
    return BadRow("depth", f"The row nests more than {limits.MAX_DEPTH} levels deep", "Flatten it")


def as_fields(value: object, text: str) -> Fields:
    """Return a parsed value as named fields: a list of messages and a bare string are rows too.

    A list of other objects, or of lists, raises _SeveralRows.
    """
    if text.count("{") + text.count("[") > limits.MAX_DEPTH and _depth(value) > limits.MAX_DEPTH:
        raise _too_deep()
    refuse_repeated_names(value, text)
    if _RAW_SURROGATE.search(text):
        refuse_bad_text(json.dumps(value, ensure_ascii=False).replace("\\u0000", "\0"))
    if isinstance(value, dict):
        if len(value) > limits.MAX_COLUMNS:
            raise BadRow("columns", f"The row has {len(value):,} fields", f"Keep below {limits.MAX_COLUMNS:,}")
        try:
            return exported_chat(value)
        except SeveralChats as several:
            raise _SeveralRows(row for chat in several.chats for row in _rows_of(chat, "")) from None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if not any(key in item for item in value for key in _TURN_KEYS):
            raise _SeveralRows(row for item in value for row in _rows_of(item, ""))
        return {"messages": value}
    if isinstance(value, list) and value and all(isinstance(item, list) and item for item in value):
        raise _SeveralRows(row for item in value for row in _rows_of(item, ""))
    if isinstance(value, str):
        held = _written_twice(value)
        return {"text": value} if held is None else as_fields(held, value)
    raise BadRow("shape", f"The row is {_json_name(value)}, not an object", 'Write rows as {"name": value, ...}')


def _written_twice(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or list that a text holds as JSON, as where rows were dumped twice; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        held = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    is_row = isinstance(held, dict) or (isinstance(held, list) and bool(held) and isinstance(held[0], dict))
    return held if is_row else None


def _json_name(value: object) -> str:
    names = {list: "a list", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), "a value")


def _depth(value: object) -> int:
    """Return how deep a value nests, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children.extend(item.values())
            elif isinstance(item, list):
                children.extend(item)
        level = [item for item in children if isinstance(item, (dict, list))]
    return depth


class _Window:
    """A sliding window over decoded text that knows the line of its position."""

    def __init__(self, stream: BinaryIO) -> None:
        self._chunks = read_chunks(stream)
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False

    def fill(self) -> bool:
        """Drop what was consumed and read on; say whether anything came."""
        chunk = next(self._chunks, None)
        if chunk is None:
            self.ended = True
            return False
        self.text = self.text[self.at :] + chunk
        self.at = 0
        return True

    def advance(self, to: int) -> None:
        """Move the position, counting lines."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def skip_blank(self) -> bool:
        """Move to the next value; False at the end."""
        while True:
            self.advance(_blank_end(self.text, self.at))
            if self.at < len(self.text) and not (self.text[self.at] == "/" and self._in_comment()):
                return True
            if not self.fill():
                return self.at < len(self.text)

    def _in_comment(self) -> bool:
        """Say whether the window ends inside a comment."""
        return not self.ended and _OPEN_COMMENT.match(self.text, self.at) is not None


def read_json_values(stream: BinaryIO, note: Note = lambda text: None) -> Iterator[Record]:
    """Read lists of rows, objects, and objects that wrap a list of rows, as many as stand after one another.

    `note` is told which lists of a wrapping object are not read.
    """
    window = _Window(stream)
    broken = 0
    for line, record in _values(window, note):
        yield line, record
        broken = broken + 1 if isinstance(record, BadRow) else 0
        if broken >= limits.MAX_BROKEN_VALUES:
            message = f"{broken:,} values after one another cannot be parsed"
            raise DataError(message, "This is not JSON", "Check the file from this line on", line)


def _values(window: _Window, note: Note) -> Iterator[Record]:
    while window.skip_blank():
        while len(window.text) - window.at < _PEEK_CHARS and window.fill():
            pass
        if window.text[window.at] == "[":
            window.advance(window.at + 1)
            yield from _items(window)
        elif match := _WRAPPED_ARRAY.match(window.text, window.at):
            yield from _wrapped(window, match, note)
        else:
            yield from _next_records(window)


def _items(window: _Window) -> Iterator[Record]:
    """Read the items of a list up to its end."""
    while window.skip_blank():
        if window.text[window.at] == "]":
            window.advance(window.at + 1)
            return
        yield from _next_records(window)
    yield window.line, BadRow("json", "The list is never closed", "The file may have been cut; check its end")


def _wrapped(window: _Window, opening: re.Match[str], note: Note) -> Iterator[Record]:
    """Read an object around lists of rows: its training rows, and none of its other splits."""
    name, line = opening.group(1), window.line
    window.advance(opening.end())
    passed: dict[str, int] = {}
    read = ""
    while True:
        if name in (*_TRAIN_LISTS, _GROK_LIST) and not read:
            read = name
            yield from _items(window)
        else:
            count = sum(1 for _ in _items(window))
            if name in _OTHER_SPLITS:
                passed[name] = count
            elif count:
                yield window.line, _unread(name, f"Its {count:,} rows stand beside the list {read!r}")
        following = yield from _to_next_list(window)
        if not following:
            break
        name = following
    if passed and not read:
        names = ", ".join(map(repr, passed))
        message = f"The object holds the split {names} and no training rows"
        yield line, BadRow("json", message, "Save the rows to be trained as a list")
    elif passed:
        note(f"The list {read!r} is trained; {_counted(passed)} of the same file are not")


def _counted(passed: dict[str, int]) -> str:
    return " and ".join(f"the {count:,} rows of {name!r}" for name, count in passed.items())


def _unread(name: str, why: str) -> BadRow:
    return BadRow("json", f"The list {name[:80]!r} is not read. {why}", "Put all rows into one list")


def _to_next_list(window: _Window) -> Generator[Record, None, str]:
    """Pass over what follows a list in an object; return the name of the next list, empty at the object's end."""
    while window.skip_blank():
        if window.text[window.at] == "}":
            window.advance(window.at + 1)
            return ""
        while len(window.text) - window.at < _PEEK_CHARS and window.fill():
            pass
        match = _NEXT_NAME.match(window.text, window.at)
        if match is None or match.end() >= len(window.text):
            line = window.line
            skipped = _skip_value(window)
            yield line, BadRow("json", "The object goes on with what is no JSON", "Check this line").about(skipped)
            continue
        window.advance(match.end())
        if window.text[window.at] == "[":
            window.advance(window.at + 1)
            return match.group(1)
        value, _ = _next_value(window)
        if isinstance(value, BadRow):
            yield window.line, value
    return ""


def _next_records(window: _Window) -> Iterable[Record]:
    """Read the value at the window's position, which is a row or a list of rows."""
    line, (value, text) = window.line, _next_value(window)
    if isinstance(value, BadRow):
        return [(line, value)]
    if refused := _lists_refused(value):
        return [(line, problem) for problem in refused]
    try:
        return ((line, as_fields(value, text)),)
    except _SeveralRows as several:
        return [(line, fields) for fields in several.rows]
    except BadRow as problem:
        return [(line, problem.about(text))]


def _lists_refused(value: object) -> list[BadRow]:
    """Complain about an object of nothing but lists of rows: which of them to train cannot be known."""
    if not isinstance(value, dict) or len(value) < 2 or not all(map(_is_row_list, value.values())):
        return []
    names = ", ".join(repr(name[:40]) for name in list(value)[:5])
    return [BadRow("json", f"The object holds the lists {names}", 'Keep one of them, or call it "train"')]


def _is_row_list(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and not any(key in item for key in _SPEAKER_KEYS) for item in value)
    )


def _next_value(window: _Window) -> tuple[Any, str]:
    """Parse the value at the window's position, reading on while it is cut off by the window's end."""
    text = ""
    while True:
        try:
            value, end = _DECODER.raw_decode(window.text, window.at)
            if end == len(window.text) and window.text[-1] not in '}]"' and window.fill():  # a number may go on
                continue
            text = window.text[window.at : end]
            window.advance(end)
            refuse_bad_text(text)
            return value, text
        except BadRow as problem:
            return problem.about(_skip_value(window) if problem.kind == "number" else text), text
        except (ValueError, RecursionError) as error:
            if _may_be_cut(error, window) and window.fill():
                continue
            too_big = len(window.text) - window.at > limits.MAX_ROW_CHARS
            skipped = _skip_value(window)
            return (too_long() if too_big else bad_json(error).about(skipped)), skipped


def _may_be_cut(error: Exception, window: _Window) -> bool:
    """Say whether the parse failed only because the window ends too early."""
    left = len(window.text) - window.at
    if window.ended or left > limits.MAX_ROW_CHARS or not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(window.text) - 64


def _skip_value(window: _Window) -> str:
    """Move behind a value that cannot be parsed, by counting brackets outside strings; return what was passed over."""
    depth, quoted, line, start, before = 0, False, window.line, window.at, ""
    for _ in range(limits.MAX_SKIPPED_MARKS):
        at = _next_mark(window.text, window.at, quoted)
        if at < 0:
            before = (before + window.text[start:])[: limits.MAX_ROW_CHARS]
            window.advance(len(window.text))
            start = 0
            if not window.fill():
                return before
            continue
        char = window.text[at]
        window.advance(at + (2 if char == "\\" else 1))
        if char == '"':
            quoted = not quoted
        elif not quoted:
            depth += 1 if char in "{[" else -1
            if depth <= 0:
                return before + window.text[start : window.at]
    raise DataError("The end of this row cannot be found", "It is broken and very long", "Remove it", line)


def _next_mark(text: str, at: int, quoted: bool) -> int:
    """Return the position of the next quote, backslash (inside strings) or bracket (outside), -1 if none."""
    if not quoted:
        match = _OUTSIDE.search(text, at)
        return match.start() if match else -1
    quote = text.find('"', at)
    escape = text.find("\\", at, quote if quote >= 0 else len(text))
    return escape if escape >= 0 else quote


def looks_like_lines(head: str) -> bool:
    """Say whether text holds one JSON value a line rather than one value over many lines."""
    first, _, rest = head[_blank_end(head, 0) :].partition("\n")
    try:
        value, end = _DECODER.raw_decode(first)
    except (ValueError, RecursionError, BadRow):
        return not first.rstrip().endswith(("{", "[", ",")) and rest.lstrip()[:1] == "{" and first[:1] == "{"
    return not first[end:].strip(" \t\r,") and bool(rest.strip()) and not _holds_rows(value)


def _holds_rows(value: object) -> bool:
    """Say whether a value is a list of rows, or an object around nothing else."""
    if isinstance(value, dict) and value and set(value) <= {*_TRAIN_LISTS, *_OTHER_SPLITS}:
        return all(map(_is_row_list, value.values()))
    return _is_row_list(value)


def is_one_value(head: str) -> bool:
    """Say whether text begins with a list of rows, or with a value that goes on over the next lines."""
    text = head[_blank_end(head, 0) :]
    first, _, rest = text.partition("\n")
    following = rest.lstrip()[:1]
    try:
        value, _ = _DECODER.raw_decode(first)
    except (ValueError, RecursionError, BadRow):
        spread = first.rstrip() == "[" or (first[:1] == "[" and (not following or first.rstrip(" \t\r,")[-1:] == "}"))
        return spread or _opens_wrapped(text) or (following in ('"', "}") and _parses(text))
    return (not following and _is_row_list(value)) or _opens_wrapped(text)


def _opens_wrapped(text: str) -> bool:
    return _WRAPPED_ARRAY.match(text) is not None


def _parses(text: str) -> bool:
    try:
        _DECODER.raw_decode(text)
    except (ValueError, RecursionError, BadRow):
        return False
    return True
