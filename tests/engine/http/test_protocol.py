"""Requests in the OpenAI protocol: what is null, what a history holds, and that nothing at all crashes the parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.engine.http.protocol import _NUMBERS, ChatRequest, RequestError, parse_chat
from app.engine.http.server import Guard
from app.models.prompts import PromptError, Prompts
from tests.models import tiny_models

ASK: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Rome?"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLED = [
    *ASK,
    {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "function_call": None},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
)


def parsed(**fields: Any) -> ChatRequest:
    return parse_chat(json.dumps({"model": "base", "messages": ASK, **fields}).encode())


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(tiny_models.config("llama"))
    return Prompts(model, tiny_models.tokenizer(), PLAIN_TEMPLATES, render_limit)


def rendered(prompts: Prompts, template: str, messages: list[dict[str, Any]]) -> str:
    prompts._own["tools"] = template
    ids = prompts.encode("tools", parsed(messages=messages).conversation(), {})
    return str(prompts._tokenizer.decode(ids))


@pytest.mark.parametrize("name", sorted(set(ChatRequest.model_fields) - {"model", "messages"} | {"tools", "user", "x"}))
def test_a_field_that_is_null_is_absent(name: str) -> None:
    assert parsed(**{name: None}) == parsed()


def test_null_inside_of_options_is_absent() -> None:
    request = parsed(stream=True, stream_options={"include_usage": None}, chat_template_kwargs={"a": None})
    assert request.stream_options is not None and not request.stream_options.include_usage
    assert request.chat_template_kwargs == {}


@pytest.mark.parametrize("name", ["model", "messages"])
def test_null_where_something_must_be_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError, match=name):
        parsed(**{name: None})


def test_calls_of_tools_reach_the_template_as_they_are_trained(prompts: Prompts) -> None:
    text = rendered(prompts, TOOLS, CALLED)
    assert '<call>{"name": "weather", "arguments": {"city": "Rome"}}</call>' in text and "sunny" in text


@pytest.mark.parametrize("arguments", ["", None, {}, "{}", "  "])
def test_a_call_without_arguments_has_none(prompts: Prompts, arguments: Any) -> None:
    call = {**CALL, "function": {"name": "now", "arguments": arguments}}
    assert '"arguments": {}' in rendered(prompts, TOOLS, [*ASK, {"role": "assistant", "tool_calls": [call]}])


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("read", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_reaches_the_template_under_its_name(prompts: Prompts, name: str, read: str) -> None:
    messages = [*ASK, {"role": "assistant", "content": "Sun.", name: "It is May."}, *ASK]
    assert "<think>It is May.</think>Sun." in rendered(prompts, TOOLS.replace("reasoning_content", read), messages)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "assistant", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "assistant", "content": "a", "reasoning_content": "b"}, "reasoning_content"),
    ],
)
def test_what_a_template_has_no_place_for_is_refused_by_name(
    prompts: Prompts, message: dict[str, Any], named: str
) -> None:
    with pytest.raises(PromptError, match=f"no place for {named}.*messages.1"):
        rendered(prompts, tiny_models.CHATML, [*ASK, message])


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"refusal": "no"}, "refusal"),
        ({"function_call": {"name": "a", "arguments": "{}"}}, "function_call"),
        ({"audio": {"id": "a"}}, "audio"),
        ({"prefix": True}, "prefix"),
        ({"tool_calls": [{"type": "function", "function": {"name": "a", "arguments": "[1]"}}]}, "tool_calls"),
        ({"tool_calls": [{"type": "function", "function": {"arguments": "{}"}}]}, "tool_calls"),
    ],
)
def test_other_parts_of_a_history_are_refused_by_name(extra: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named) as error:
        parsed(messages=[*ASK, {"role": "assistant", "content": "a", **extra}])
    assert error.value.status == 400


def test_a_setting_that_no_template_may_be_given_is_refused(prompts: Prompts) -> None:
    for name in ("chat_template", "tokenize", "continue_final_message", "messages", "a b"):
        with pytest.raises(PromptError, match="no setting of a template"):
            prompts.encode("base", ASK, {name: False})


@pytest.mark.parametrize(
    ("given_", "right"),
    [
        (b"Bearer secret", True),
        (b"bearer secret", True),
        (b"BEARER  secret", True),
        (b"Bearer Secret", False),
        (b"Basic secret", False),
        (b"secret", False),
        (b"Bearer", False),
        (b"", False),
    ],
)
def test_the_scheme_goes_by_any_case_and_the_token_by_its_own(given_: bytes, right: bool) -> None:
    guard = Guard(None, "secret", frozenset({"localhost:1"}))  # type: ignore[arg-type]
    assert (guard._refusal([(b"host", b"localhost:1"), (b"authorization", given_)]) is None) is right


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
calls = st.fixed_dictionaries(
    {}, optional={"id": anything, "type": anything, "function": st.fixed_dictionaries({}, optional={
        "name": anything, "arguments": anything | st.just('{"a": 1}')})}
)  # fmt: skip
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"]) | anything},
    optional={
        "content": st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})) | anything,
        "tool_calls": st.lists(calls, max_size=2) | anything,
        "reasoning_content": anything,
        "name": anything,
    },
)
FIELDS = [*(set(ChatRequest.model_fields) - {"model", "messages"}), "tools", "response_format", "tool_choice"]
requests = st.builds(
    lambda known, fields: {**known, **fields},
    st.fixed_dictionaries({"model": st.just("base") | anything, "messages": st.lists(messages, max_size=3) | anything}),
    st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8), anything, max_size=4),
)
quick = settings(max_examples=120, deadline=5000, suppress_health_check=list(HealthCheck))


def holds(prompts: Prompts, body: bytes) -> None:
    """A body is a request that can be rendered and sampled, or a refusal with status and reason."""
    try:
        request = parse_chat(body)
    except RequestError as error:
        assert 400 <= error.status < 500 and error.message.strip() and json.dumps(error.body())
        return
    request.sampling(100)
    try:
        prompts.encode("base", request.conversation(), request.chat_template_kwargs)
    except PromptError as error:
        assert str(error).strip()


@quick
@given(found=requests | anything)
def test_no_json_crashes_the_parser(prompts: Prompts, found: Any) -> None:
    holds(prompts, json.dumps(found).encode())


@quick
@given(body=st.binary(max_size=200))
def test_no_bytes_crash_the_parser(prompts: Prompts, body: bytes) -> None:
    holds(prompts, body)


@quick
@given(found=requests, place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_broken_request_crashes_the_parser(prompts: Prompts, found: Any, place: int, bit: int) -> None:
    body = bytearray(json.dumps(found).encode())
    body[place % len(body)] ^= 1 << bit
    holds(prompts, bytes(body[: max(1, place % (2 * len(body)))]))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b'{"model": "\\ud800"}', b"\0"])
def test_bodies_out_of_all_measure_are_refused(prompts: Prompts, body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_chat(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("best_of", 3), ("use_beam_search", True), ("length_penalty", 2.0), ("typical_p", 0.5), ("mirostat", 2)),
        *(("grammar", "root ::= x"), ("documents", [{"text": "x"}]), ("allowed_token_ids", [1]), ("suffix", "x")),
        *(("include_stop_str_in_output", True), ("skip_special_tokens", False), ("add_generation_prompt", False)),
        *(("enable_thinking", False), ("repeat_penalty", 1.3), ("num_predict", 3), ("tomorrows_setting", "x")),
    ],
)
def test_a_setting_that_is_not_heeded_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError) as refused:
        parse_chat(json.dumps({"model": "base", "messages": ASK, name: value}).encode())
    assert refused.value.param == name
    assert name in refused.value.message
    assert refused.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": True, "parallel_tool_calls": True, "safety_identifier": "x"},
        {"best_of": 1, "length_penalty": 1.0, "use_beam_search": False, "mirostat": 0, "grammar": "", "documents": []},
        {"skip_special_tokens": True, "add_generation_prompt": True, "tomorrows_setting": None},
        {"response_format": {"type": "text", "json_schema": None}, "stream_options": {"include_usage": None}},
        {"chat_template_kwargs": {"enable_thinking": None}, "mix": None},
    ],
)
def test_what_changes_nothing_is_taken(fields: dict[str, object]) -> None:
    assert parse_chat(json.dumps({"model": "base", "messages": ASK, **fields}).encode()).n == 1


@pytest.mark.parametrize("content", [None, [], 5, [None], [{"text": "x"}], [{"type": "text", "text": None}], [5], {}])
def test_a_question_without_a_text_is_refused_in_words(content: object) -> None:
    with pytest.raises(RequestError) as refused:
        parse_chat(json.dumps({"model": "base", "messages": [{"role": "user", "content": content}]}).encode())
    said = refused.value.message
    assert said.startswith("messages.0")
    assert "content" in said
    assert ".str" not in said  # pydantic's name for one of two types


def test_nulls_are_absent_at_any_depth() -> None:
    calls = [{"id": None, "type": "function", "function": {"name": "f", "arguments": None}}]
    said = {"role": "assistant", "content": None, "tool_calls": calls, "audio": None, "refusal": None}
    request = parse_chat(json.dumps({"model": "base", "messages": [*ASK, said, {**ASK[0], "name": None}]}).encode())
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    assert request.conversation()[1] == {"role": "assistant", "content": "", "tool_calls": [call]}


@pytest.mark.parametrize("name", _NUMBERS)
def test_a_truth_value_is_no_number(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name}: .*true and false are no numbers"):
        parsed(**{name: True})


def test_every_number_of_a_request_is_looked_at() -> None:
    kinds = {name: str(field.annotation) for name, field in ChatRequest.model_fields.items()}
    assert set(_NUMBERS) == {name for name, kind in kinds.items() if name != "chat_template_kwargs" and is_number(kind)}


def is_number(annotation: str) -> bool:
    return annotation.startswith(("<class 'int'>", "<class 'float'>", "int |", "float |"))


def test_alternatives_without_logprobs_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match="top_logprobs needs logprobs"):
        parsed(top_logprobs=5)
    assert parsed(top_logprobs=0).logprobs is None
    assert parsed(top_logprobs=5, logprobs=True).top_logprobs == 5
