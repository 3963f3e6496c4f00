"""Answers that a program would read: JSON under a schema, and calls of tools, in the ways that models write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from app.data.formats.conversation import ToolCall
from app.errors import UsageError, keyed
from app.reading import parsed_json

_FENCED = re.compile(r"^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
# Qwen3-Coder and GLM write calls as tags.
_FUNCTION = re.compile(r"<function=([^>\s]{1,200})>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]{1,200})>(.*?)</parameter>", re.DOTALL)
_ARGUMENTS = ("arguments", "parameters", "args", "input")


def is_valid(answer: str, schema: Any) -> bool:
    """Tell whether an answer is JSON that is valid under a schema. Raises UsageError for a schema that is none."""
    block = _FENCED.match(answer)
    try:
        held = parsed_json(block[1] if block else answer)
    except ValueError:
        return False
    from jsonschema.exceptions import ValidationError

    try:
        _validator(json.dumps(schema, sort_keys=True)).validate(held)
    except (ValidationError, RecursionError):
        return False
    return True


@lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    """Return what validates against a schema, of the draft that it names, else 2020-12. It follows no address."""
    import jsonschema
    from referencing import Registry

    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return kind(schema, registry=Registry())


def check_schema(schema: Any) -> None:
    """Raise UsageError for what is no JSON Schema, and for one that points to what is not in it."""
    import jsonschema
    from referencing.exceptions import Unresolvable

    try:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        _resolve_all(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise _no_schema(str(error.message)) from None
    except Unresolvable as error:
        raise _no_schema(f"it points to {error.ref!r:.100}, which is not in it") from None


def _resolve_all(schema: Any) -> None:
    """Follow every pointer of a schema once, so that none fails over an answer. Raises Unresolvable.

    Where parts of it have names of their own (`$id`), pointers are left to the validator, which knows what they are
    relative to.
    """
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012, specification_with

    parts = list(_parts_of(schema))
    if any("$id" in part for part in parts[1:]):
        return
    dialect = str(parts[0].get("$schema") or "") if parts else ""
    specification = specification_with(dialect, default=DRAFT202012) if dialect else DRAFT202012
    resolver = Registry().resolver_with_root(specification.create_resource(schema))
    for part in parts:
        if isinstance(part.get("$ref"), str):
            resolver.lookup(part["$ref"])


def _parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a schema, the outermost first; what stands there as an example or a value is none."""
    if isinstance(schema, dict):
        yield schema
        for name, part in schema.items():
            if name not in ("const", "enum", "default", "examples"):
                yield from _parts_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts_of(part)


def _no_schema(why: str) -> UsageError:
    return UsageError(
        keyed("the_schema_is_none", "The JSON schema cannot be used"),
        why[:200],
        keyed("write_a_json_schema", "write a JSON Schema, for example {example}", example='{"type": "object"}'),
    )


def same_calls(answer: str, expected: Sequence[ToolCall]) -> bool:
    """Tell whether an answer makes the expected calls and no other, in any order."""
    said = sorted(_canonical(name, arguments) for name, arguments in calls_in(answer))
    return said == sorted(_canonical(call.name, call.arguments) for call in expected)


def _canonical(name: str, arguments: Any) -> str:
    """Return a call as text that is the same for equal calls; arguments written as JSON text are read first."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = arguments.strip()
    return json.dumps([name, _whole(arguments)], sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    """Return a value with 2.0 as 2: JSON has one kind of number."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def calls_in(answer: str) -> list[tuple[str, Any]]:
    """Return the calls that an answer makes: name and arguments.

    Read are objects of JSON with a name and arguments wherever they stand (Hermes, Qwen, Llama, Mistral, also inside of
    `function`), and tags `<function=NAME><parameter=KEY>`.
    """
    tagged = [(name, dict(_parameters(body))) for name, body in _FUNCTION.findall(answer)]
    return tagged or [call for held in _values_in(answer) for call in _calls_of(held)]


def _parameters(body: str) -> Iterator[tuple[str, Any]]:
    for name, value in _PARAMETER.findall(body):
        try:
            yield name, json.loads(value)
        except ValueError:
            yield name, value.strip()


def _values_in(text: str) -> Iterator[Any]:
    """Yield the objects and lists of JSON in a text, from left to right, whatever stands between them."""
    decoder, at = json.JSONDecoder(), 0
    while (start := min((p for sign in "{[" if (p := text.find(sign, at)) >= 0), default=-1)) >= 0:
        try:
            held, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        yield held


def _calls_of(held: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(held, list):
        for one in held:
            yield from _calls_of(one)
    elif isinstance(held, dict) and isinstance(held.get("function"), dict):
        yield from _calls_of(held["function"])
    elif isinstance(held, dict) and isinstance(held.get("tool_calls"), list):
        yield from _calls_of(held["tool_calls"])
    elif isinstance(held, dict) and isinstance(held.get("name"), str):
        found = next((held[name] for name in _ARGUMENTS if name in held), None)
        if found is not None:
            yield held["name"], found
