"""Filling a skeleton gives exactly what rendering gives, or is not done."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from app.data.chat_template.layout import Skeleton, leaves_of
from app.data.chat_template.render import Renderer
from app.data.chat_template.text_probe import Inspections, OpaqueText
from app.data.formats.conversation import Conversation, Turn
from app.errors import TemplateError
from tests.data.conftest import CHATML, MakeTokenizer, trl_template_paths

NASTY = [
    "plain words",
    " outer spaces ",
    "\n\nouter breaks\n",
    "tags <think> inside </think> it",
    "</think>",
    "<tool_response>\nthis looks like a tool\n</tool_response>",
    "<tool_call>{}</tool_call> <|im_end|> <|eot_id|> </s>",
    "\"quotes\" 'and' \\ & < > {{ braces }} {% %}",
    "你好，世界 🙂 naïve É",
    "UPPER lower Title 123",
    "#### heading\n- list\n\n\ttab",
    "\u00a0no-break\u3000",
]
SHAPES = [("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant", "user", "assistant")]


def filled(skeleton: Skeleton, conversation: Conversation) -> tuple[str, list[int]] | None:
    return skeleton.fill(leaves_of(conversation))


@pytest.mark.parametrize("path", trl_template_paths(), ids=lambda path: path.stem)
def test_what_is_filled_in_equals_what_is_rendered(path: Path, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(path.read_text("utf-8")))
    for roles in SHAPES:
        for i in range(len(NASTY)):
            texts = [NASTY[(i + 5 * k) % len(NASTY)] for k in range(len(roles))]
            conversation = Conversation(tuple(Turn(role, text) for role, text in zip(roles, texts, strict=True)))
            try:
                skeleton = renderer._skeleton(conversation)
                expected = renderer._matched(conversation, skeleton, leaves_of(conversation))
            except TemplateError:
                continue
            assert filled(skeleton, conversation) in (None, expected)


def test_common_templates_are_filled_in(make_tokenizer: MakeTokenizer) -> None:
    """A filler that always gave up would pass the test above."""
    able = set()
    for path in trl_template_paths():
        renderer = Renderer(make_tokenizer(path.read_text("utf-8")))
        conversation = Conversation((Turn("user", "plain words"), Turn("assistant", "more words")))
        if filled(renderer._skeleton(conversation), conversation):
            able.add(path.stem)
    assert {
        "llama3",
        "llama3_2",
        "lfm2",
        "cohere2",
        "gemma3",
        "phi3",
        "qwen2_5",
        "qwen3",
        "qwen3_training",
        "gemma",
        "deepseekv3",
    } <= able


TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + BODY + '<|im_end|>\\n' }}{% endfor %}"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("(m.content | upper)", "abc"),
        ("(m.content | tojson)", 'a"b'),
        ("(m.content if m.content | length < 20 else 'long')", "x" * 50),
        ("(m.content if m.content != 'secret' else 'hidden')", "secret"),
        ("(m.content ~ '')[:4] + m.content[4:]", "abcdefgh"),
        ("('yes' if 'b' in (m.content ~ '') else m.content)", "abc"),
        ("(m.content | join(''))", "abc"),
        ("('%s' % m.content if '%s' % m.content != 'q' else '')", "q"),
        ("(m.content.split()[0] + m.content[m.content.split()[0] | length:])", "one two"),
        ("m.content.replace('a', 'b')", "banana"),
        ("m.content.strip('x')", "xax"),
        ("(m.content if m.content[0] != 'z' else '')", "zebra"),
        ("(m.content if m.content is not lower else m.content)", "abc"),
        ("(m.content if m.content in ['a', 'b'] else m.content)", "a"),
        ("(m.content.format(1))", "{}"),
        ("('short' if '/short' in ''.join([m.content]) else m.content)", "say /short"),
        ("('agreed' if m.content in 'yes no' else m.content)", "yes"),
        ("('agreed' if m.content is in 'yes no' else m.content)", "yes"),
        ("('number' if m.content | int else m.content)", "42"),
        ("('number' if m.content | float else m.content)", "42"),
        ("('found' if {'yes': 1}.get(m.content) else m.content)", "yes"),
        ("('found' if {'yes': 1}[m.content] else m.content)", "yes"),
        ("('found' if {m.content: 1}.get('yes') else m.content)", "yes"),
        ("('found' if 'yes' in {m.content: 1} else m.content)", "yes"),
        ("('found' if 'yes' in [m] | map(attribute='content') | join else m.content)", "yes"),
        ("('found' if [m] | selectattr('content', 'in', 'yes no') | list else m.content)", "yes"),
        ("('found' if 'yes' in m | tojson else m.content)", "yes"),
        ("('found' if 'yes' in [m.content] | string else m.content)", "yes"),
        ("('found' if 'yes' in 'a%s' % m.content else m.content)", "yes"),
        ("('found' if 'yes' in '{}'.format(m.content) else m.content)", "yes"),
        ("('found' if '\\nyes' in '\\n' + m.content else m.content)", "yes"),
        ("('found' if (m.content + '!').endswith('s!') else m.content)", "yes"),
        ("('found' if (m.content + '').startswith(messages[-1].content) else m.content)", "yes"),
        ("('more' if m.content.partition('=')[2] else m.content)", "a=b"),
        ("('found' if m.content | sort | first == 'e' else m.content)", "yes"),
        ("('found' if m.content | list == ['y'] else m.content)", "y"),
        ("('found' if [m.content] | unique | list == ['yes'] else m.content)", "yes"),
        ("('found' if [m.content] | reject('in', 'yes no') | list == [] else m.content)", "yes"),
        ("('found' if 'Yes' in m.content | title else m.content)", "yes"),
        ("('found' if m.content | wordcount == 1 else m.content)", "two words"),
        ("('long' if m.content | length > 2 else m.content)", "yes"),
        ("('found' if loop.changed(m.content) and m.content in 'yes' else m.content)", "yes"),
        ("('found' if loop.previtem and loop.previtem.content in 'yes' else m.content)", "yes"),
        ("('found' if namespace(a=m.content).a in 'yes' else m.content)", "yes"),
        ("('found' if dict(a=m.content).a in 'yes' else m.content)", "yes"),
        ("('found' if m.values() | list | last in 'yes' else m.content)", "yes"),
        ("('found' if m.get('content') in 'yes' else m.content)", "yes"),
        ("('found' if m.content is string and 'yes' in m.content | tojson else m.content)", "yes"),
        ("('found' if m['con' + 'tent'] in 'yes' else m.content)", "yes"),
    ],
)
def test_templates_that_look_into_texts_are_rendered(body: str, text: str, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(TEMPLATE.replace("BODY", body)))
    plain = Conversation((Turn("user", "Just words"), Turn("assistant", "Other words")))
    with contextlib.suppress(TemplateError):
        renderer.render(plain)  # the shape is known from a row that shows nothing of it
    for first in ("Just words", text):
        conversation = Conversation((Turn("user", first), Turn("assistant", text)))
        try:
            skeleton = renderer._skeleton(conversation)
            rendered = renderer._matched(conversation, skeleton, leaves_of(conversation))
        except TemplateError:
            continue
        assert filled(skeleton, conversation) in (None, rendered)


def test_a_template_with_a_macro_is_rendered(make_tokenizer: MakeTokenizer) -> None:
    macro = "{% macro say(x) %}{{ x }}{% endmacro %}" + TEMPLATE.replace("BODY", "say(m.content)")
    skeleton = Renderer(make_tokenizer(macro))._skeleton(Conversation((Turn("user", "a"), Turn("assistant", "b"))))
    assert skeleton.inspections is None
    skeleton = Renderer(make_tokenizer(CHATML))._skeleton(Conversation((Turn("user", "a"), Turn("assistant", "b"))))
    assert skeleton.inspections == Inspections()


def test_texts_note_what_is_asked() -> None:
    seen = Inspections()
    text = OpaqueText.of("a</think>b ", seen)
    answer = ("x" + text).split("</think>")[-1].strip()
    assert str.__str__(answer) == "b" and type(answer) is OpaqueText
    assert seen.parts == {"</think>"} and seen.spaces
    assert not seen.allow("has </think>") and not seen.allow("edge ") and seen.allow("a dog")
    for ask in (
        len,
        list,
        lambda t: t[0],
        lambda t: t.upper(),
        lambda t: t == "a",
        lambda t: f"{t}",
        lambda t: "%s" % t,  # noqa: UP031
    ):
        seen = Inspections()
        ask(OpaqueText.of("abc", seen))
        assert not seen.opaque
