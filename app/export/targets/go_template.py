"""Templates in Go's text/template, as Ollama takes them: written from a frame, and rendered here to prove them.

The renderer knows what the writer writes: range over messages, if, else, assignment, `eq`, and fields. It works on
the text that goes into the Modelfile, so that a wrong brace or a lost line break shows.
Ollama's data: Messages with Role and Content, System (all system messages), https://github.com/ollama/ollama/blob/main/docs/template.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import ExportError
from app.export.targets.turn_format import Frame, Messages

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ASSIGNMENT = re.compile(r"(\$\w+)\s*:?=\s*(true|false)")
_EQUAL = re.compile(r'eq\s+(\S+)\s+"([^"]*)"')


def write_template(frame: Frame) -> str:
    """Return the template of a frame. Raises ExportError when its text would be read as an action."""
    fixed = [value for value in vars(frame).values() if isinstance(value, str)]
    if any("{{" in text or "}}" in text or '"""' in text for text in fixed):
        raise ExportError("The chat template cannot be written for Ollama", "its own text has braces or quotes", "")
    first = frame.first
    if frame.before_system is not None:
        system = f"{frame.before_system}{{{{ $.System }}}}{frame.after_system}"
        first = f"{{{{ if $.System }}}}{system}{{{{ else }}}}{frame.first}{{{{ end }}}}"
    parts = (
        '{{ $first := true }}{{ range .Messages }}{{ if eq .Role "user" }}{{ if $first }}',
        first,
        "{{ $first = false }}{{ else }}",
        frame.before_question,
        '{{ end }}{{ .Content }}{{ else if eq .Role "assistant" }}',
        frame.before_answer,
        "{{ .Content }}{{ end }}{{ end }}",
        frame.prompt,
    )
    return "".join(parts)


def render(template: str, messages: Messages) -> str:
    """Render a template on a conversation, as Ollama would: neighbours of one role joined, system messages gathered."""
    joined: list[dict[str, str]] = []
    for message in messages:
        if joined and joined[-1]["Role"] == message["role"]:
            joined[-1]["Content"] += f"\n\n{message['content']}"
        else:
            joined.append({"Role": message["role"], "Content": message["content"]})
    system = "\n\n".join(message["Content"] for message in joined if message["Role"] == "system")
    tree = _parse(_tokens(template))
    return "".join(tree.texts(_Scope({"Messages": joined, "System": system})))


@dataclass
class _Scope:
    """What names stand for: the root, the current message, and variables."""

    root: Mapping[str, Any]
    dot: Mapping[str, Any] | None = None
    variables: dict[str, bool] = field(default_factory=dict)

    def value(self, word: str) -> Any:
        """Return what a word stands for."""
        if word.startswith("$."):
            return self.root[word[2:]]
        if word.startswith("$"):
            return self.variables[word]
        return (self.root if self.dot is None else self.dot)[word[1:]]

    def holds(self, condition: str) -> bool:
        """Tell whether a condition holds."""
        match = _EQUAL.fullmatch(condition)
        return self.value(match[1]) == match[2] if match else bool(self.value(condition))


@dataclass
class _Block:
    """A sequence of texts and actions; an if has branches, a range has a body."""

    action: str = ""
    children: list[_Block | str] = field(default_factory=list)
    otherwise: _Block | None = None

    def texts(self, scope: _Scope) -> Iterator[str]:
        """Yield what the block writes."""
        for child in self.children:
            yield from [child] if isinstance(child, str) else child.written(scope)

    def written(self, scope: _Scope) -> Iterator[str]:
        """Yield what an action writes."""
        word, _, rest = self.action.partition(" ")
        assignment = _ASSIGNMENT.fullmatch(self.action)
        if assignment:
            scope.variables[assignment[1]] = assignment[2] == "true"
        elif word == "range":
            for message in scope.value(rest.strip()):
                yield from self.texts(_Scope(scope.root, message, scope.variables))
        elif word == "if":
            if scope.holds(rest.strip()):
                yield from self.texts(scope)
            elif self.otherwise is not None:
                yield from self.otherwise.written(scope)
        elif word == "else":
            yield from self.texts(scope)
        else:
            yield str(scope.value(self.action))


def _tokens(template: str) -> Iterator[tuple[bool, str]]:
    """Yield (is an action, text) in order."""
    for place, piece in enumerate(_ACTION.split(template)):
        if place % 2 or piece:
            yield bool(place % 2), piece.strip() if place % 2 else piece


def _parse(tokens: Iterator[tuple[bool, str]]) -> _Block:
    """Build the tree. Raises ExportError when blocks are not closed."""
    root = _Block()
    stack: list[_Block] = [root]
    depths: list[int] = []
    for is_action, text in tokens:
        if not is_action:
            stack[-1].children.append(text)
        elif text == "end":
            if not depths:
                raise _broken()
            del stack[depths.pop() :]
        elif text.startswith("else"):
            branch = _Block(text.removeprefix("else ").strip() or "else")
            stack[-1].otherwise = branch
            stack.append(branch)
        else:
            block = _Block(text)
            stack[-1].children.append(block)
            if text.startswith(("if ", "range ")):
                depths.append(len(stack))
                stack.append(block)
    if depths:
        raise _broken()
    return root


def _broken() -> ExportError:
    return ExportError("The template for Ollama is broken", "a block is not closed", "report it as a defect")


def differences(
    template: str, render_own: Callable[[Messages], str], conversations: Sequence[Messages], begin: str
) -> list[str]:
    """Return the conversations' numbers and texts where the template and the model's own write other prompts.

    `render_own` renders with the model's template; `begin` is the token that Ollama puts in front by itself.
    """
    found = []
    for number, messages in enumerate(conversations):
        expected = render_own(messages).removeprefix(begin)
        if render(template, messages) != expected:
            found.append(f"conversation {number + 1}: {expected!r:.200} became {render(template, messages)!r:.200}")
    return found
