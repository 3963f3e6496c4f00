"""The loss mask: every template of the installed TRL, those of models that TRL has none for, and hostile ones."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.data.chat_template.render import Example, Renderer
from app.data.chat_template.templates import PLAIN_TEMPLATES, plain_template
from app.data.chat_template.tokenizer import ModelTokenizer, load_tokenizer
from app.data.formats.conversation import Conversation, ToolCall, Turn
from app.errors import TemplateError
from tests.data.conftest import CHATML, MakeTokenizer, own_template_paths, save_tokenizer, trl_template_paths
from tests.pace import at_most

CALL = ToolCall("get_weather", {"city": "Paris"}, "call12345")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}},
    },
}
RESULT = Turn("tool", '{"degrees": 20}', name="get_weather", tool_call_id="call12345")
END_MARKS = re.compile(r"\s*(<\|[\w]+\|>|<[｜|][^<>]*[｜|]>|</s>|<end_of_\w+>|<turn\|>|<\|tool_response>)+$")


def user(text: str) -> Turn:
    return Turn("user", text)


def answer(text: str, reasoning: str = "") -> Turn:
    return Turn("assistant", text, reasoning)


PLAIN = {
    "single": Conversation((user("What is it?"), answer("The answer is four."))),
    "multi": Conversation((user("hello"), answer("world one"), user("again"), answer("  second answer.\n"))),
    "system": Conversation((Turn("system", "You are helpful."), user("hello"), answer("world"))),
}
THINKING = {
    "field": Conversation((user("hello"), answer("one", "first thought"), user("again"), answer("two", "I think."))),
    "tags": Conversation(
        (
            user("hello"),
            answer("<think>\nfirst thought\n</think>\n\none"),
            user("again"),
            answer("<think>\nI think.\n</think>\n\ntwo"),
        )
    ),
}
TOOLS = Conversation(
    (user("How is it?"), Turn("assistant", "", tool_calls=(CALL,)), RESULT, answer("It is 20.")), (TOOL,)
)
TEMPLATES = [*trl_template_paths(), *own_template_paths()]


def tokenizer_for(path: Path, make: MakeTokenizer) -> ModelTokenizer:
    source = path.read_text("utf-8")
    ends = ("<|im_end|>", "<|eot_id|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<end_of_utterance>")
    ends += ("<|end_of_text|>",)
    return make(source, next((end for end in ends if end in source), "</s>"))


def trained(renderer: Renderer, conversation: Conversation) -> list[str]:
    """The trained tokens of every turn, decoded on their own."""
    example = renderer.example(conversation)
    return [renderer.tokenizer.decode(example.input_ids[start:end]) for start, end in example.trained]


def without_end(text: str) -> str:
    """The text before the end-of-turn marks, which must be there."""
    assert END_MARKS.search(text), f"no end of turn in {text!r}"
    return END_MARKS.sub("", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_plain_answers_are_trained_exactly(path: Path, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(tokenizer_for(path, make_tokenizer))
    for name, conversation in PLAIN.items():
        if name == "system" and path.stem in ("gemma", "gemma_training"):
            with pytest.raises(TemplateError, match="System role not supported"):
                renderer.example(conversation)
            continue
        answers = [turn.content.strip() for turn in conversation.answers()]
        assert [without_end(text).strip() for text in trained(renderer, conversation)] == answers


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_the_text_is_what_transformers_renders(path: Path, make_tokenizer: MakeTokenizer) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer = tokenizer_for(path, make_tokenizer)
    rendered = Renderer(tokenizer).render(PLAIN["multi"])
    assert rendered.skeleton is not None
    messages = rendered.skeleton.dialect.messages(PLAIN["multi"])
    tokens = tokenizer.template.special_tokens
    theirs, _ = render_jinja_template([messages], chat_template=tokenizer.template.source, **tokens)
    assert rendered.text == theirs[0] + rendered.skeleton.appended


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_thinking_is_trained_or_refused(path: Path, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(tokenizer_for(path, make_tokenizer))
    for conversation in THINKING.values():
        try:
            first, last = trained(renderer, conversation)
        except TemplateError as refusal:
            assert "thinking" in refusal.line() and path.stem.startswith(("deepseek",))
            continue
        assert without_end(first).endswith("one")
        body = without_end(last)
        assert re.search(r"I think\..*two$", body, re.DOTALL)
        before = body[: body.index("I think.")]
        assert before.strip() in (
            "",
            "<think>",
            "<|channel>thought",
            "[THINK]",
            "<|channel|>analysis<|message|>",
            "to=self<|message|>",
        )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_tool_calls_are_trained_or_refused(path: Path, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(tokenizer_for(path, make_tokenizer))
    try:
        call, last = trained(renderer, TOOLS)
    except TemplateError as refusal:
        assert refusal.remedy
        assert "tool_call" not in path.read_text("utf-8") or path.stem.startswith("deepseek_r1")
        return
    assert "get_weather" in call and "Paris" in call and "degrees" not in call and "How is it" not in call
    assert END_MARKS.search(call)
    assert without_end(last).strip() == "It is 20."


def test_all_families_with_tools_train_them(make_tokenizer: MakeTokenizer) -> None:
    """A renderer that refused everything would pass the test above."""
    able = 0
    for path in TEMPLATES:
        renderer = Renderer(tokenizer_for(path, make_tokenizer))
        try:
            able += len(trained(renderer, TOOLS)) == 2
        except TemplateError:
            continue
    assert able >= 40


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.stem.endswith("_training")], ids=lambda path: path.stem)
def test_against_trls_own_markers(path: Path, make_tokenizer: MakeTokenizer) -> None:
    """Where TRL marks the generated part itself, ours lies within it and ends with the same end-of-turn token."""
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer = tokenizer_for(path, make_tokenizer)
    rendered = Renderer(tokenizer).render(PLAIN["multi"])
    assert rendered.skeleton is not None
    messages = rendered.skeleton.dialect.messages(PLAIN["multi"])
    _, generated = render_jinja_template(
        [messages],
        chat_template=tokenizer.template.source,
        return_assistant_tokens_mask=True,
        **tokenizer.template.special_tokens,
    )
    for ours in rendered.spans:
        ends = [end for start, end in joined(generated[0]) if start <= ours.start and ours.end <= end]
        # Phi writes the end of text behind the whole conversation; the model has stopped before it.
        assert len(ends) == 1 and rendered.text[ours.end : ends[0]].strip() in ("", tokenizer.eos_token)


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch are one."""
    whole: list[tuple[int, int]] = []
    for start, end in spans:
        if whole and whole[-1][1] == start:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((start, end))
    return whole


WRAP = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + BODY + '<|im_end|>\\n' }}{% endfor %}"
HOSTILE_BUT_CLEAR = {
    "trims": WRAP.replace("BODY", "m.content.strip()"),
    "adds a system turn": "{{ '<|im_start|>system\\nBe nice.<|im_end|>\\n' }}" + CHATML,
    "writes twice for users": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content + m.content if m.role == 'user' else m.content) + '<|im_end|>\\n' }}{% endfor %}",  # noqa: E501
    "drops earlier thinking": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content.split('</think>')[-1].lstrip('\\n') if not loop.last else m.content) + '<|im_end|>\\n' }}{% endfor %}",  # noqa: E501
    "swallows line breaks": CHATML.replace("'<|im_end|>\\n'", "'<|im_end|>'"),
    "hoists the system turn": "{% for m in messages if m.role == 'system' %}{{ '<<SYS>>' + m.content + '<</SYS>>' }}{% endfor %}{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}",  # noqa: E501
    "space before answers": "{% for m in messages %}{{ ('[INST] ' + m.content + ' [/INST]') if m.role != 'assistant' else ' ' + m.content + '</s>' }}{% endfor %}",  # noqa: E501
    "needs parts": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content[0]['text'] + '<|im_end|>\\n' }}{% endfor %}",  # noqa: E501
    "no end after the last answer": "{% for m in messages %}{{ ('<|user|>' if m.role != 'assistant' else '<|assistant|>') + m.content }}{% endfor %}",  # noqa: E501
}


@pytest.mark.parametrize("template", HOSTILE_BUT_CLEAR.values(), ids=HOSTILE_BUT_CLEAR.keys())
def test_templates_that_rewrite_are_followed(template: str, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(template))
    for conversation in PLAIN.values():
        answers = [turn.content.strip() for turn in conversation.answers()]
        assert [without_end(text).strip() for text in trained(renderer, conversation)] == answers


REFUSED = {
    "leaves the answer out": ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "leaves out"),
    "leaves the question out": ("{{ messages[-1].content + eos_token }}", "leaves out the user text"),
    "upper case": (WRAP.replace("BODY", "m.content | upper"), "rewrites"),
    "cuts": (WRAP.replace("BODY", "m.content[:8]"), "rewrites|leaves out|cannot render"),
    "adds to answers": (WRAP.replace("BODY", "m.content + (' Bye.' if m.role == 'assistant' else '')"), "adds 'Bye.'"),
    "answers twice": (WRAP.replace("BODY", "m.content + m.content"), "2 times"),
    "no end": ("{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}", "no end of turn"),
    "syntax": ("{% for m in messages %}", "cannot render"),
    "raises": ("{{ raise_exception('I do not like you') }}", "I do not like you"),
    "reaches out": ("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages }}", "cannot render|leaves out"),
    "includes a file": ("{% include '/etc/passwd' %}", "cannot render"),
    "imports": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "cannot render"),
    "huge range": ("{% for i in range(10**9) %}x{% endfor %}", "cannot render"),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_masked_is_refused_clearly(template: str, message: str, make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(template))
    conversation = Conversation((user("hello"), answer("ld is an answer"), user("again"), answer("ld two and more")))
    with pytest.raises(TemplateError, match=message) as caught:
        renderer.example(conversation)
    assert caught.value.remedy


def test_a_token_that_joins_answer_and_template_is_refused(make_tokenizer: MakeTokenizer) -> None:
    backend = make_tokenizer(CHATML).backend
    whole = (token for token in sorted(backend.get_vocab()) if len(token) >= 4 and token.isascii() and token.isalpha())
    word = next(token for token in whole if backend.encode(f"\n{token}").tokens[-1] == token)
    renderer = Renderer(make_tokenizer(WRAP.replace("BODY", f"'{word[:2]}' + m.content")))
    with pytest.raises(TemplateError, match="joins the answer with the template's own text") as caught:
        renderer.example(Conversation((user("hello"), answer(word[2:] + " is"))))
    assert caught.value.remedy
    assert trained(renderer, Conversation((user("hello"), answer("123")))) == ["123<|im_end|>"]


def test_a_template_that_loops_is_stopped(make_tokenizer: MakeTokenizer) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    renderer = Renderer(make_tokenizer(loop))
    with at_most(5), pytest.raises(TemplateError, match="without end"):
        renderer.example(PLAIN["single"])


def test_which_tokens_are_trained_is_a_choice(chatml: ModelTokenizer) -> None:
    multi = PLAIN["multi"]
    assert [len(Renderer(chatml, choice).example(multi).trained) for choice in ("assistant", "last", "all")] == [
        2,
        1,
        1,
    ]
    assert trained(Renderer(chatml, "last"), multi) == ["  second answer.\n<|im_end|>"]
    everything = Renderer(chatml, "all").example(multi)
    assert everything.trained == ((1, len(everything.input_ids)),)


def test_answers_that_are_context_only_are_not_trained(chatml: ModelTokenizer) -> None:
    turns = (user("a"), Turn("assistant", "b", trained=False), user("c"), answer("d"))
    assert trained(Renderer(chatml), Conversation(turns)) == ["d<|im_end|>"]


def test_labels_are_the_tokens_or_ignored(chatml: ModelTokenizer) -> None:
    example = Renderer(chatml).example(PLAIN["single"])
    labels = example.labels()
    assert len(labels) == len(example.input_ids)
    kept = [token for token, label in zip(example.input_ids, labels, strict=True) if label != -100]
    assert chatml.decode(kept) == "The answer is four.<|im_end|>" and labels[0] == -100
    assert all(label in (-100, token) for token, label in zip(example.input_ids, labels, strict=True))


def test_plain_text_is_trained_whole_with_its_end(chatml: ModelTokenizer) -> None:
    example = Renderer(chatml).example(Conversation(text="Once upon a time"))
    assert chatml.decode(example.input_ids) == "Once upon a time<|im_end|>"
    assert example.trained == ((1, len(example.input_ids)),)


@pytest.mark.parametrize(
    "text", ["naïve café 你好，世界 🙂", "a\u0301 combining", "  spaces  inside ", "tabs\tand\r\nbreaks"]
)
def test_answers_of_all_scripts_come_back(text: str, chatml: ModelTokenizer) -> None:
    conversation = Conversation((user("x " + text), answer(text + "z")))
    assert trained(Renderer(chatml), conversation) == [text + "z<|im_end|>"]


def test_an_answer_that_repeats_the_question_is_found(chatml: ModelTokenizer) -> None:
    same = Conversation((user("hello"), answer("hello"), user("hello"), answer("hello<|im_start|>assistant\nhello")))
    assert trained(Renderer(chatml), same) == ["hello<|im_end|>", "hello<|im_start|>assistant\nhello<|im_end|>"]


@pytest.mark.parametrize("name", PLAIN_TEMPLATES)
def test_plain_templates_for_models_without_one(name: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, None, "</s>", {"<|im_start|>", "<|im_end|>"} if name == "chatml" else set())
    tokenizer = load_tokenizer(folder, name)
    renderer = Renderer(tokenizer)
    assert renderer.chat_template == PLAIN_TEMPLATES[name]
    for conversation in PLAIN.values():
        assert len(trained(renderer, conversation)) == len(conversation.answers())
    chosen = load_tokenizer(folder)
    assert (
        chosen.warnings and chosen.template.source == PLAIN_TEMPLATES["chatml" if name == "chatml" else "instruction"]
    )
    with pytest.raises(TemplateError, match="no plain chat template"):
        plain_template("wizard", {})


def test_generation_prompt_of_plain_templates_is_a_prefix(chatml: ModelTokenizer) -> None:
    """What the engine sends before an answer is what stood before it in training."""
    for name in PLAIN_TEMPLATES:
        template = plain_template(name, {"eos_token": "</s>"})
        asked = [{"role": "user", "content": "hello"}]
        prompt = template.render(asked, None, generation_prompt=True)
        assert template.render([*asked, {"role": "assistant", "content": "world"}], None).startswith(prompt + "world")


def test_merged_turns_end_together(make_tokenizer: MakeTokenizer) -> None:
    merging = (
        "{% for m in messages %}{% if loop.first or messages[loop.index0 - 1].role != m.role %}"
        "{{ '<|im_start|>' + m.role }}{% endif %}{{ '\\n' + m.content }}"
        "{% if loop.last or messages[loop.index0 + 1].role != m.role %}{{ '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    conversation = Conversation((user("hello"), answer("one"), answer("two")))
    first, second = trained(Renderer(make_tokenizer(merging)), conversation)
    assert (first, second.strip()) == ("one", "two<|im_end|>")


def test_arguments_as_text_where_the_template_wants_them(make_tokenizer: MakeTokenizer) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    )
    call, _ = trained(Renderer(make_tokenizer(template)), TOOLS)
    assert without_end(call) == "get_weather " + json.dumps(CALL.arguments)


def test_developer_turns_become_system_where_unknown(make_tokenizer: MakeTokenizer) -> None:
    template = CHATML.replace("{{ '<|im", "{% if message.role == 'developer' %}{{ raise_exception('no') }}{% endif %}{{ '<|im", 1)  # fmt: skip # noqa: E501
    conversation = Conversation((Turn("developer", "Be short"), user("hello"), answer("world")))
    rendered = Renderer(make_tokenizer(template)).render(conversation)
    assert "<|im_start|>system\nBe short" in rendered.text


def example_of(renderer: Renderer, **row: Any) -> Example:
    return renderer.example(Conversation((user(row["asked"]), answer(row["said"]))))


def test_end_of_turn_split_over_tokens_is_still_trained(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    """A vocabulary without the template's marks trains them as text."""
    folder = save_tokenizer(tmp_path, CHATML, "</s>", set())
    tokenizer = load_tokenizer(folder)
    example = example_of(Renderer(tokenizer), asked="hello", said="world")
    assert [tokenizer.decode(example.input_ids[a:b]) for a, b in example.trained] == ["world<|im_end|>"]


def test_thinking_is_found_where_the_template_has_no_cue(make_tokenizer: MakeTokenizer) -> None:
    template = WRAP.replace(
        "BODY", "('<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' if m.reasoning_content else '') + m.content"
    )
    first, last = trained(Renderer(make_tokenizer(template)), THINKING["field"])
    assert (first, last) == (
        "<think>\nfirst thought\n</think>\n\none<|im_end|>",
        "<think>\nI think.\n</think>\n\ntwo<|im_end|>",
    )


def test_a_template_that_fills_memory_is_stopped(make_tokenizer: MakeTokenizer) -> None:
    doubling = (
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"
    )
    with memory_limit(2_000_000_000), pytest.raises(TemplateError, match=r"fills the memory|still computes"):
        Renderer(make_tokenizer(doubling)).example(PLAIN["single"])


@contextmanager
def memory_limit(more_bytes: int) -> Iterator[None]:
    """Let this process take so much more address space than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
