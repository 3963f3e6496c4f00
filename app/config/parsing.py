"""Settings that a person wrote: YAML files, `--set` words and cells of a sweep, read without executing anything."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Literal, get_args, get_origin

import yaml

from app.config.schema import RunConfig, parse
from app.config.sections import settings
from app.errors import ConfigError, Problem

# A name such as q_proj or layers.0.mlp; what is none, such as a prompt, is not cut at its commas.
_NAME = re.compile(r"[\w.-]+")
# 1e-4 is a text to YAML 1.1, which wants 1.0e-4.
_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")


_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# Settings are three levels deep.
_DEEPEST = 40


class _NotPlainError(yaml.MarkedYAMLError):
    """YAML that is well formed and says what settings do not need; `fix` says what to write."""

    def __init__(self, problem: str, mark: yaml.Mark, fix: str) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.fix = fix


class _PlainLoader(yaml.SafeLoader):
    """Read YAML without references: settings need none, and a few lines of them can stand for gigabytes of text.

    A name that stands twice is refused, of which YAML would keep the last; and 010 is ten, not eight.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse a reference to another node."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _NotPlainError("refers to another place of the file", mark, "write the settings out there")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "nested too deep", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a name that stands twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"names {key.value[:60]} a second time"
                raise _NotPlainError(problem, key.start_mark, "keep one of the two, or put their settings together")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in (_INTEGER, _FLOAT)]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"), list("-+0123456789"))
_PlainLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?\Z"
        r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str) -> object:
    """Read what settings in YAML hold. Raises YAMLError, RecursionError, ValueError or TypeError for what is none."""
    return yaml.load(text, Loader=_PlainLoader)  # a subclass of the safe loader: nothing is executed


def from_yaml(text: str, source: str = "the file") -> RunConfig:
    """Read a RunConfig from YAML text. Raises ConfigError; nothing in the text is executed."""
    try:
        tree = read_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"line {line + 1}" if line is not None else "(file)"
        if isinstance(error, _NotPlainError):
            raise ConfigError([Problem(where, str(error.problem), error.fix)], source) from None
        raise ConfigError([Problem(where, "is not YAML", "check indentation and quotes")], source) from None
    return parse({} if tree is None else tree, source)


def parse_assignments(assignments: list[str]) -> dict[str, object]:
    """Read `--set name=value` words; values are YAML, and `1e-4` is a number. Raises ConfigError for all wrong ones."""
    changes: dict[str, Any] = {}
    problems = []
    for word in assignments:
        name, separator, text = word.partition("=")
        if not separator:
            problems.append(Problem(f"{word:.80}", "has no '='", "write --set name=value"))
            continue
        changes[name.strip()] = value_of(name.strip(), text.strip())
    if problems:
        raise ConfigError(problems, "--set")
    return changes


def value_of(name: str, text: str) -> object:
    """Read what a word means for a setting; a list may be written as names with commas or plus signs.

    Nothing is checked: that is done when the setting is used.
    """
    if _takes_list(name) and not text.startswith("["):
        parts = [part.strip() for part in re.split(r"[,+]", text) if part.strip()]
        if text in _words(name):
            return text
        return parts if all(_NAME.fullmatch(part) for part in parts) else [text]
    try:
        return float(text) if _EXPONENT.fullmatch(text) else read_yaml(text)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return text


def _takes_list(name: str) -> bool:
    annotation = dict(settings())[name].annotation if name in dict(settings()) else None
    return any(get_origin(kind) is list for kind in (annotation, *get_args(annotation)))


def _words(name: str) -> list[object]:
    """List the words that a setting takes in place of a list, such as all-linear."""
    kinds = get_args(dict(settings())[name].annotation)
    return [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
