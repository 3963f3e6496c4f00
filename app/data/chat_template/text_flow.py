"""Prove from a chat template's syntax that it asks about texts only in ways that a probe text notices.

The probe (see opaque) is a text that notes its methods. Much in Jinja goes round methods: `''.join([content])` makes a
plain text of it, `content in 'yes no'` and `content | int` ask it nothing. So every expression is followed from
`messages` on, and a template passes only where each use of what may be a text is on the short lists below. What is not
listed is not proven.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# What an expression may be: nothing of a message, a message's text, or something that may hold texts.
_CLEAN, _TEXT, _HOLDER = range(3)
NOTED_PARTS = frozenset(
    (
        *("__contains__", "startswith", "endswith", "split", "rsplit", "replace"),
        *("partition", "rpartition", "removeprefix", "removesuffix"),
    )
)
NOTED_EDGES = frozenset(("strip", "lstrip", "rstrip"))
_TEXT_METHODS = NOTED_PARTS | NOTED_EDGES
_HOLDER_METHODS = frozenset(("get", "items", "keys", "values"))
# Filters that keep the probe's class, or only count and pick messages.
_TEXT_FILTERS = frozenset(("trim", "replace", "default", "d"))
_HOLDER_FILTERS = frozenset(
    ("length", "count", "list", "first", "last", "items", "default", "d", "selectattr", "rejectattr")
)
_TYPE_TESTS = frozenset(
    (
        *("defined", "undefined", "none", "string", "mapping", "iterable", "sequence"),
        *("number", "boolean", "callable", "true", "false"),
    )
)
# Functions that may be handed a text: a namespace keeps it, an exception ends the rendering.
_TEXT_CALLS = ("namespace", "raise_exception")
_NEIGHBOURS = ("previtem", "nextitem")
_OWN_METHODS = frozenset(name for kind in (str, dict, list) for name in dir(kind))
_UNPROVEN_NODES = (
    *("Macro", "AssignBlock", "FilterBlock", "Include", "Import", "FromImport", "Extends", "Block"),
    "EvalContextModifier",
)
_MOST_ROUNDS = 20


class _Unproven(Exception):
    """A text is used in a way that is not on the lists."""


@lru_cache(maxsize=64)
def is_proven(source: str) -> bool:
    """Say whether a probe in place of the texts notices all that this template asks about them."""
    from jinja2 import nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    tree = _compile_jinja_template(source).environment.parse(source)
    unproven = tuple(getattr(nodes, name) for name in _UNPROVEN_NODES)
    if any(tree.find_all(unproven)):
        return False
    flow = _Flow()
    try:
        for _ in range(_MOST_ROUNDS):
            before = dict(flow.kinds)
            flow.follow(tree)
            if flow.kinds == before:
                return True
    except _Unproven:
        return False
    return False


class _Flow:
    """What every name may be, without regard to scopes: a name is what it is anywhere."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {"messages": _HOLDER, "loop": _HOLDER}
        self._no_texts: list[Any] = []

    def follow(self, node: Any) -> None:
        """Go through statements and take in what they give to names."""
        from jinja2 import nodes

        match node:
            case nodes.Assign():
                self._give(node.target, self._kind(node.node))
            case nodes.If():
                self._branch(node)
            case nodes.Output():
                # What stands in the output itself is compared with the texts; only what asks more can hide.
                self._follow_all(map(_without_json, node.nodes))
            case nodes.For():
                iterated = self._kind(node.iter)
                self._give(node.target, _HOLDER if iterated else _CLEAN)
                if node.test is not None:
                    self._kind(node.test)
                self._follow_all((*node.body, *node.else_))
            case nodes.With():
                for target, value in zip(node.targets, node.values, strict=True):
                    self._give(target, self._kind(value))
                self._follow_all(node.body)
            case nodes.CallBlock():
                # Transformers' {% generation %} writes its body as it stands; other calls may keep what they write.
                call: Any = node.call
                if not isinstance(call.node, nodes.ExtensionAttribute):
                    raise _Unproven
                self._follow_all(node.body)
            case nodes.Expr():
                self._kind(node)
            case _:
                self._follow_all(node.iter_child_nodes())

    def _follow_all(self, children: Iterable[Any]) -> None:
        for child in children:
            self.follow(child)

    def _branch(self, node: Any) -> None:
        """Go through a condition; where it says that something is not a string, it is no text within."""
        from jinja2 import nodes

        self._kind(node.test)
        asked: Any = node.test.node if isinstance(node.test, nodes.Not) else None
        is_narrowed = isinstance(asked, nodes.Test) and asked.name == "string"
        self._no_texts += [asked.node] if is_narrowed else []
        self._follow_all(node.body)
        if is_narrowed:
            self._no_texts.pop()
        self._follow_all((*node.elif_, *node.else_))

    def _give(self, target: Any, kind: int) -> None:
        from jinja2 import nodes

        if isinstance(target, nodes.Tuple):
            for item in target.items:
                self._give(item, _HOLDER if kind else _CLEAN)
            return
        name = f".{target.attr}" if isinstance(target, nodes.NSRef) else target.name
        if kind and any(name == _root(narrowed) for narrowed in self._no_texts):
            raise _Unproven
        self.kinds[name] = max(kind, self.kinds.get(name, _CLEAN))

    def _kind(self, node: Any) -> int:
        """Return what an expression may be; raise where it uses a text in a way that is not listed."""
        from jinja2 import nodes

        if self._no_texts and node in self._no_texts:
            return _CLEAN
        match node:
            case nodes.Name():
                return self.kinds.get(node.name, _CLEAN)
            case nodes.Const() | nodes.TemplateData():
                return _CLEAN
            case nodes.Getattr():
                return self._part(self._kind(node.node), node.attr)
            case nodes.Getitem():
                return self._item(node)
            case nodes.Compare():
                return self._compared(node)
            case nodes.Call():
                return self._called(node)
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Test():
                if self._kind(node.node) and node.name not in _TYPE_TESTS:
                    raise _Unproven
                self._refuse_texts(_arguments(node))
                return _CLEAN
            case nodes.Not():
                self._kind(node.node)
                return _CLEAN
            case nodes.And() | nodes.Or() | nodes.Add():
                return max(self._kind(node.left), self._kind(node.right))
            case nodes.CondExpr():
                self._kind(node.test)
                return max(self._kind(node.expr1), self._kind(node.expr2) if node.expr2 is not None else _CLEAN)
            case nodes.List() | nodes.Tuple():
                return self._held(node.items)
            case nodes.Dict():
                self._refuse_texts([pair.key for pair in node.items])
                return self._held([pair.value for pair in node.items])
            case _:
                self._refuse_texts(list(node.iter_child_nodes()))
                return _CLEAN

    def _refuse_texts(self, parts: list[Any]) -> None:
        if self._held(parts):
            raise _Unproven

    def _held(self, parts: list[Any]) -> int:
        """Return what a list of these parts is."""
        kinds = [self._kind(part) for part in parts]
        return _HOLDER if any(kinds) else _CLEAN

    def _part(self, kind: int, name: str) -> int:
        """Return what a named part is, of a message, a loop, a namespace or anything else."""
        kept = self.kinds.get(f".{name}", _CLEAN)
        if kind == _CLEAN:
            return kept
        if name == "content":
            return max(_TEXT, kept)
        if kind == _TEXT or name in _NEIGHBOURS or name in _OWN_METHODS:
            return _HOLDER
        return kept

    def _item(self, node: Any) -> int:
        from jinja2 import nodes

        kind = self._kind(node.node)
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._part(kind, node.arg.value)
        self._refuse_texts([node.arg])
        if _is_cut(node.node):
            return _TEXT if kind else _CLEAN
        if kind == _CLEAN and not isinstance(node.arg, (nodes.Const, nodes.Slice)):
            return max((one for name, one in self.kinds.items() if name.startswith(".")), default=_CLEAN)
        return kind

    def _compared(self, node: Any) -> int:
        """Let a text be searched and compared; what it is searched in does not ask it."""
        left = self._kind(node.expr)
        for operand in node.ops:
            right = self._kind(operand.expr)
            if operand.op in ("in", "notin") and left:
                raise _Unproven
            left = right
        return _CLEAN

    def _called(self, node: Any) -> int:
        from jinja2 import nodes

        given, callee = _arguments(node), node.node
        if isinstance(callee, nodes.Name):
            return self._function(callee.name, node, given)
        if not isinstance(callee, nodes.Getattr):
            self._refuse_texts([callee, *given])
            return _CLEAN
        self._refuse_texts(given)
        owner = self._kind(callee.node)
        if owner == _CLEAN:
            return self.kinds.get(f".{callee.attr}", _CLEAN)
        if callee.attr not in (_TEXT_METHODS | _HOLDER_METHODS if owner == _HOLDER else _TEXT_METHODS):
            raise _Unproven
        if callee.attr in NOTED_EDGES or callee.attr in ("replace", "removeprefix", "removesuffix"):
            return _TEXT
        if callee.attr == "get" and given and isinstance(given[0], nodes.Const):
            return self._part(owner, str(given[0].value))
        return _HOLDER

    def _function(self, name: str, node: Any, given: list[Any]) -> int:
        if name not in _TEXT_CALLS or name in self.kinds:
            self._refuse_texts([node.node, *given])
            return _CLEAN
        for pair in node.kwargs:
            kept = f".{pair.key}"
            self.kinds[kept] = max(self._kind(pair.value), self.kinds.get(kept, _CLEAN))
        if name == "namespace":
            self._refuse_texts([part for part in given if all(part is not pair.value for pair in node.kwargs)])
        return _CLEAN

    def _filtered(self, node: Any) -> int:
        from jinja2 import nodes

        if node.node is None:
            raise _Unproven
        kind, given = self._kind(node.node), _arguments(node)
        if node.name in ("default", "d"):
            return max(kind, *[self._kind(part) for part in given], _CLEAN)
        self._refuse_texts(given)
        if kind == _CLEAN:
            return _CLEAN
        if node.name not in (_TEXT_FILTERS if kind == _TEXT else _HOLDER_FILTERS):
            raise _Unproven
        if node.name in ("selectattr", "rejectattr"):
            asked = given[0] if given else None
            if not isinstance(asked, nodes.Const) or asked.value != "role":
                raise _Unproven
        if node.name in ("first", "last") and _is_cut(node.node):
            return _TEXT
        return _CLEAN if node.name in ("length", "count") else kind


def _without_json(node: Any) -> Any:
    from jinja2 import nodes

    is_json = isinstance(node, nodes.Filter) and node.name == "tojson" and node.node is not None
    return node.node if is_json else node


def _root(node: Any) -> str:
    """Return the name of the variable that an expression takes a part of."""
    from jinja2 import nodes

    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else ""


def _is_cut(node: Any) -> bool:
    """Say whether an expression cuts a text into pieces, each of which is a text."""
    from jinja2 import nodes

    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Getattr)
        and node.node.attr in ("split", "rsplit", "partition", "rpartition")
    )


def _arguments(node: Any) -> list[Any]:
    """Return all that is handed to a call, filter or test."""
    star = [part for part in (node.dyn_args, node.dyn_kwargs) if part is not None]
    return [*node.args, *(pair.value for pair in node.kwargs), *star]
