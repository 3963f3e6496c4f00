"""Read JSON Lines, JSON arrays and single JSON objects, row by row, in bounded memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from app.data import limits
from app.data.encodings import read_chunks, read_lines, refuse_bad_text, too_long
from app.data.rows import BadRow
from app.errors import DataError

Record = tuple[int, "dict[str, Any] | BadRow"]

_SPACE_OR_COMMA = re.compile(r"[\s,]*")
_WRAPPED_ARRAY = re.compile(r'\s*\{\s*"(?:data|rows|train|examples|items|instances|dataset)"\s*:\s*\[')
_OUTSIDE = re.compile(r'["{}\[\]]')
_RAW_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|\\u0000")


def _refuse_constant(name: str) -> None:
    raise BadRow("number", f"{name} is not a number that JSON knows", "Write null or a real number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRow("number", f"{text[:40]} is too large for a number", "Write it as text")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, strict=False)


def read_json_lines(stream: BinaryIO) -> Iterator[Record]:
    """Read one value a line; blank lines are passed over."""
    for number, line in read_lines(stream):
        if line is None:
            yield number, too_long()
        elif line.strip():
            yield number, _guarded(line)


def _guarded(line: str) -> dict[str, Any] | BadRow:
    try:
        return parse_row(line)
    except BadRow as problem:
        return problem.about(line)


def parse_row(text: str) -> dict[str, Any]:
    """Parse the text of one row into its fields, or raise BadRow."""
    refuse_bad_text(text)
    try:
        value, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
    except (ValueError, RecursionError) as error:
        raise bad_json(error) from error
    if text[end:].strip():
        raise BadRow("json", "There is more text after the row's end", "Put every row on a line of its own")
    return as_fields(value, text)


def bad_json(error: Exception) -> BadRow:
    """Say what is wrong with JSON that does not parse."""
    if isinstance(error, RecursionError):
        return _too_deep()
    if isinstance(error, json.JSONDecodeError):
        return BadRow("json", f"Not valid JSON: {error.msg} at column {error.colno}", "Repair the row or remove it")
    return BadRow("number", "A number has thousands of digits", "Write it as text")


def _too_deep() -> BadRow:
    return BadRow("depth", f"The row nests more than {limits.MAX_DEPTH} levels deep", "Flatten it")


def as_fields(value: Any, text: str) -> dict[str, Any]:
    """Return a parsed value as named fields: a list of messages and a bare string are rows too."""
    if text.count("{") + text.count("[") > limits.MAX_DEPTH and _depth(value) > limits.MAX_DEPTH:
        raise _too_deep()
    if _RAW_SURROGATE.search(text):
        refuse_bad_text(json.dumps(value, ensure_ascii=False).replace("\\u0000", "\0"))
    if isinstance(value, dict):
        if len(value) > limits.MAX_COLUMNS:
            raise BadRow("columns", f"The row has {len(value):,} fields", f"Keep below {limits.MAX_COLUMNS:,}")
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {"messages": value}
    if isinstance(value, str):
        return {"text": value}
    raise BadRow("shape", f"The row is {_json_name(value)}, not an object", 'Write rows as {"name": value, ...}')


def _json_name(value: Any) -> str:
    names = {list: "a list", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), "a value")


def _depth(value: Any) -> int:
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
            match = _SPACE_OR_COMMA.match(self.text, self.at)
            assert match is not None  # the pattern matches the empty string
            self.advance(match.end())
            if self.at < len(self.text):
                return True
            if not self.fill():
                return False


def read_json_values(stream: BinaryIO) -> Iterator[Record]:
    """Read an array of rows, one object, objects after one another, or an object that wraps an array of rows."""
    window = _Window(stream)
    while not window.text.strip() and window.fill():
        pass
    in_array, broken = _enter_array(window), 0
    while window.skip_blank():
        if window.text[window.at] == "]" and in_array:
            return
        line, record = _next_record(window)
        yield line, record
        broken = broken + 1 if isinstance(record, BadRow) else 0
        if broken >= limits.MAX_BROKEN_VALUES:
            message = f"{broken:,} values after one another cannot be parsed"
            raise DataError(message, "This is not JSON", "Check the file from this line on", line)
    if in_array:
        yield window.line, BadRow("json", "The list is never closed", "The file may have been cut; check its end")


def _enter_array(window: _Window) -> bool:
    match = _WRAPPED_ARRAY.match(window.text) or re.match(r"\s*\[", window.text)
    if match:
        window.advance(match.end())
    return match is not None


def _next_record(window: _Window) -> Record:
    """Parse the value at the window's position, reading on while it is cut off by the window's end."""
    line, text = window.line, ""
    while True:
        try:
            value, end = _DECODER.raw_decode(window.text, window.at)
            text = window.text[window.at : end]
            window.advance(end)
            refuse_bad_text(text)
            return line, as_fields(value, text)
        except BadRow as problem:
            return line, problem.about(_skip_value(window) if problem.kind == "number" else text)
        except (ValueError, RecursionError) as error:
            if _may_be_cut(error, window) and window.fill():
                continue
            too_big = len(window.text) - window.at > limits.MAX_ROW_CHARS
            skipped = _skip_value(window)
            return line, too_long() if too_big else bad_json(error).about(skipped)


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
    first, _, rest = head.lstrip().partition("\n")
    try:
        _, end = _DECODER.raw_decode(first)
    except (ValueError, RecursionError, BadRow):
        return not first.rstrip().endswith(("{", "[", ",")) and rest.lstrip()[:1] == "{" and first[:1] == "{"
    return not first[end:].strip() and bool(rest.strip())
