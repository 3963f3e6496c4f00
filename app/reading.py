"""Files that others may have written: parsed so that nothing in them can break whoever looks at a job."""

from __future__ import annotations

import codecs
import json
import math
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import yaml

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kind = TypeVar("Kind")

# No file of ours holds more values; what stands for more (aliases of YAML that multiply) is not opened out.
MOST_VALUES = 200_000
_DEEPEST = 100
# The parser in C, where it is installed: a hundred times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parsed_json(text: str | bytes) -> Any:
    """Return what a JSON text holds, lone surrogates replaced. Raises ValueError for whatever is none.

    The decoder raises RecursionError for brackets without end, and takes `\\ud800` for text, which then breaks the page
    that shows it.
    """
    try:
        held = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
    return _without_surrogates(held) if escape in text.lower() else held  # type: ignore[operator]


def file_size(path: Path) -> int:
    """Return the bytes of a plain file. Raises OSError for a missing one, and for a pipe, a socket or a device.

    Opening a pipe waits until somebody writes into it, and a device may have no end: whoever reads either is stuck.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # reading a folder fails by itself
        raise OSError("it is a pipe, a socket or a device, not a plain file")
    return found.st_size


def file_bytes(path: Path) -> bytes:
    """Return what a plain file holds. Raises OSError as `file_size` does."""
    file_size(path)
    return path.read_bytes()


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds. Raises OSError, and ValueError where it holds anything else."""
    held = parsed_json(file_bytes(path).removeprefix(codecs.BOM_UTF8))
    if not isinstance(held, dict):
        raise ValueError("it holds no JSON object")
    return held


def parsed_yaml(text: str) -> object:
    """Return what a YAML text holds. Raises ValueError or YAMLError for whatever is none.

    The depth is looked at before anything is built: the parser takes minutes over brackets without end.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise ValueError("nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    held = yaml.load(text, Loader=_LOADER)  # a safe loader: it builds plain data alone
    check_size(held)
    return held


def parsed_as(kind: type[Kind], held: object) -> Kind:
    """Return plain data, such as parsed JSON, as a dataclass. Raises ValueError where a field is missing or no such.

    What the dataclass has no field for is left out, so that a file of a newer version can still be read.
    """
    made: Kind = _adapter(kind).validate_python(held)  # type: ignore[arg-type]  # classes are hashable
    return made


@lru_cache(maxsize=64)
def _adapter(kind: type[Kind]) -> TypeAdapter[Kind]:
    from pydantic import TypeAdapter  # the supervisor reads jobs without it

    return TypeAdapter(kind)


def whole_text(text: str) -> str:
    """Return a text without lone surrogates, which no file and no page can take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_surrogates(held: object) -> object:
    if isinstance(held, str):
        return whole_text(held)
    if isinstance(held, list):
        return [_without_surrogates(one) for one in held]
    if isinstance(held, dict):
        return {whole_text(name): _without_surrogates(one) for name, one in held.items()}
    return held


def check_size(held: object) -> None:
    """Raise ValueError when a value stands for more than any file of ours, by aliases that repeat or contain it."""
    waiting, seen = [(held, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > _DEEPEST:
            raise ValueError("more values than a job has")
        if isinstance(value, dict):
            waiting.extend((one, depth + 1) for one in value.values())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend((one, depth + 1) for one in value)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number that arithmetic can take: no truth value, not too large for a float."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return isinstance(value, float)


def is_finite(value: object) -> TypeGuard[float]:
    """Tell whether a value is a finite number."""
    return is_number(value) and math.isfinite(value)


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number from 0 that a counter can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
