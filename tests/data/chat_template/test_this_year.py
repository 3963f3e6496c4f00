"""The chat templates of this year, token by token: what is trained stands between ⟦ and ⟧.

Templates that the installed TRL ships are the published ones; the others are written anew in `templates`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.data.chat_template.render import Rendered, Renderer
from app.data.chat_template.turn_end import turn_ends
from app.data.dataset.token_preview import owners_of
from app.data.formats.conversation import Conversation, ToolCall, Turn
from app.errors import TemplateError
from tests.data.conftest import MakeTokenizer, own_template_paths, trl_template_paths

PATHS = {path.stem: path for path in (*trl_template_paths(), *own_template_paths())}
ENDS = {
    "qwen3_5_think": "<|im_end|>",
    "qwen3_6": "<|im_end|>",
    "qwen3_8": "<|im_end|>",
    "gemma4_v5": "<turn|>",
    "gptoss": "<|return|>",
    "lfm2_2_5_v2": "<|im_end|>",
    "ministral3_instruct": "</s>",
    "ministral3_reasoning": "</s>",
    "granite4": "<|end_of_text|>",
    "glm4_7_flash": "<|user|>",
    "glm4moe": "<|user|>",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look somewhere",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
CALL = ToolCall("look", {"at": "sky"}, "call12345")
SEEN = Turn("tool", "blue", name="look", tool_call_id="call12345")


def said(text: str, thinking: str = "", call: ToolCall | None = None) -> Turn:
    return Turn("assistant", text, thinking, (call,) if call else ())


def tagged(text: str, thinking: str) -> Turn:
    return Turn("assistant", f"<think>\n{thinking}\n</think>\n\n{text}")


THINKING = Conversation((Turn("user", "Q1"), said("A1", "R1"), Turn("user", "Q2"), said("A2", "R2")))
TAGGED = Conversation((Turn("user", "Q1"), tagged("A1", "R1"), Turn("user", "Q2"), tagged("A2", "R2")))
CALLING = Conversation((Turn("user", "Q1"), said("", "R1", CALL), SEEN, said("A1", "R2")), (TOOL,))
EARLIER = Conversation((*CALLING.turns, Turn("user", "Q2"), said("A2", "R3")), (TOOL,))
PLAIN_CALL = Conversation((Turn("user", "Q1"), said("", "", CALL), SEEN, said("A1")), (TOOL,))


def renderer(name: str, make: MakeTokenizer) -> Renderer:
    return Renderer(make(PATHS[name].read_text("utf-8"), ENDS[name]))


def shown(renderer: Renderer, conversation: Conversation) -> str:
    """The row from its first question on, as its tokens spell it, with the trained ones between ⟦ and ⟧."""
    example, decode = renderer.example(conversation), renderer.tokenizer.decode
    text, at = "", 0
    for start, end in example.trained:
        text += decode(example.input_ids[at:start]) + "⟦" + decode(example.input_ids[start:end]) + "⟧"
        at = end
    text += decode(example.input_ids[at:])
    return text[text.index("Q1") :]


# Of earlier turns the thinking goes where the publisher's template drops it; Qwen3.8 and Ministral 3 keep it.
KEPT_OR_STRIPPED = {
    "qwen3_5_think": "Q1<|im_end|>\n<|im_start|>assistant\n⟦A1<|im_end|>⟧\n<|im_start|>user\nQ2<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n⟦R2\n</think>\n\nA2<|im_end|>⟧\n",
    "qwen3_6": "Q1<|im_end|>\n<|im_start|>assistant\n⟦A1<|im_end|>⟧\n<|im_start|>user\nQ2<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n⟦R2\n</think>\n\nA2<|im_end|>⟧\n",
    "qwen3_8": "Q1<|im_end|>\n<|im_start|>assistant\n<think>\n⟦R1\n</think>\n\nA1<|im_end|>⟧\n<|im_start|>user\n"
    "Q2<|im_end|>\n<|im_start|>assistant\n<think>\n⟦R2\n</think>\n\nA2<|im_end|>⟧\n",
    "gemma4_v5": "Q1<turn|>\n<|turn>model\n⟦A1<turn|>⟧\n<|turn>user\nQ2<turn|>\n<|turn>model\n"
    "⟦<|channel>thought\nR2\n<channel|>A2<turn|>⟧\n",
    "gptoss": "Q1<|end|><|start|>assistant<|channel|>final<|message|>⟦A1<|end|>⟧<|start|>user<|message|>Q2<|end|>"
    "<|start|>assistant⟦<|channel|>analysis<|message|>R2<|end|>"
    "<|start|>assistant<|channel|>final<|message|>A2<|return|>⟧",
    "lfm2_2_5_v2": "Q1<|im_end|>\n<|im_start|>assistant\n⟦A1<|im_end|>⟧\n<|im_start|>user\nQ2<|im_end|>\n"
    "<|im_start|>assistant\n⟦<think>R2</think>A2<|im_end|>⟧\n",
    "ministral3_reasoning": "Q1[/INST]⟦[THINK]R1[/THINK]A1</s>⟧[INST]Q2[/INST]⟦[THINK]R2[/THINK]A2</s>⟧",
    "glm4_7_flash": "Q1<|assistant|></think>⟦A1<|user|>⟧Q2<|assistant|><think>⟦R2</think>A2<|user|>⟧",
    "glm4moe": "Q1<|assistant|>\n<think></think>\n⟦A1<|user|>⟧\nQ2<|assistant|>⟦\n<think>R2</think>\nA2<|user|>⟧",
}


@pytest.mark.parametrize("name", KEPT_OR_STRIPPED)
def test_thinking_of_earlier_turns_is_kept_or_stripped_as_the_template_says(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    ours = renderer(name, make_tokenizer)
    assert shown(ours, THINKING) == KEPT_OR_STRIPPED[name]
    stripped = "R1" not in KEPT_OR_STRIPPED[name]
    assert stripped == any("thinking of earlier turns" in warning for warning in ours.example(THINKING).warnings)


@pytest.mark.parametrize("name", KEPT_OR_STRIPPED)
def test_thinking_between_tags_is_written_as_the_model_writes_its_own(name: str, make_tokenizer: MakeTokenizer) -> None:
    assert shown(renderer(name, make_tokenizer), TAGGED) == KEPT_OR_STRIPPED[name]


@pytest.mark.parametrize("name", ["ministral3_instruct", "granite4"])
def test_without_a_place_for_thinking_it_stands_in_the_answer(name: str, make_tokenizer: MakeTokenizer) -> None:
    ours = renderer(name, make_tokenizer)
    both = shown(ours, THINKING), shown(ours, TAGGED)
    assert both[0] == both[1] and f"⟦<think>\nR1\n</think>\n\nA1{ENDS[name]}⟧" in both[0]
    assert any("no place for thinking" in warning for warning in ours.example(THINKING).warnings)


# A call is trained with the token that hands over to the tool; the tool's answer never is.
CALLS = {
    "qwen3_5_think": "Q1<|im_end|>\n<|im_start|>assistant\n<think>\n⟦R1\n</think>\n\n<tool_call>\n<function=look>\n"
    "<parameter=at>\nsky\n</parameter>\n</function>\n</tool_call><|im_end|>⟧\n<|im_start|>user\n<tool_response>\n"
    "blue\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n⟦R2\n</think>\n\nA1<|im_end|>⟧\n",
    "gemma4_v5": 'Q1<turn|>\n<|turn>model\n⟦<|channel>thought\nR1\n<channel|><|tool_call>call:look{at:<|"|>sky<|"|>}'
    '<tool_call|><|tool_response>⟧response:look{value:<|"|>blue<|"|>}<tool_response|>'
    "⟦<|channel>thought\nR2\n<channel|>A1<turn|>⟧\n",
    "gptoss": 'Q1<|end|><|start|>assistant⟦ to=functions.look<|channel|>commentary json<|message|>{"at": "sky"}'
    '<|call|>⟧<|start|>functions.look to=assistant<|channel|>commentary<|message|>"blue"<|end|>'
    "<|start|>assistant⟦<|channel|>analysis<|message|>R2<|end|>"
    "<|start|>assistant<|channel|>final<|message|>A1<|return|>⟧",
    "lfm2_2_5_v2": "Q1<|im_end|>\n<|im_start|>assistant\n⟦<think>R1</think><|tool_call_start|>[look(at='sky')]"
    "<|tool_call_end|><|im_end|>⟧\n<|im_start|>tool\nblue<|im_end|>\n<|im_start|>assistant\n"
    "⟦<think>R2</think>A1<|im_end|>⟧\n",
    "ministral3_reasoning": 'Q1[/INST]⟦[THINK]R1[/THINK][TOOL_CALLS]look[ARGS]{"at": "sky"}</s>⟧'
    "[TOOL_RESULTS]blue[/TOOL_RESULTS]⟦[THINK]R2[/THINK]A1</s>⟧",
    "glm4_7_flash": "Q1<|assistant|><think>⟦R1</think><tool_call>look<arg_key>at</arg_key><arg_value>sky</arg_value>"
    "</tool_call><|observation|>⟧<tool_response>blue</tool_response><|assistant|><think>⟦R2</think>A1<|user|>⟧",
}
CALLS_WITHOUT_THINKING = {
    "ministral3_instruct": 'Q1[/INST]⟦[TOOL_CALLS]look[ARGS]{"at": "sky"}</s>⟧[TOOL_RESULTS]blue[/TOOL_RESULTS]'
    "⟦A1</s>⟧",
    "granite4": 'Q1<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>⟦<tool_call>\n{"name": "look", '
    '"arguments": {"at": "sky"}}\n</tool_call><|end_of_text|>⟧\n<|start_of_role|>user<|end_of_role|>\n'
    "<tool_response>\nblue\n</tool_response><|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>⟦A1<|end_of_text|>⟧\n",
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_trained_and_the_answers_of_tools_are_not(name: str, make_tokenizer: MakeTokenizer) -> None:
    assert shown(renderer(name, make_tokenizer), CALLING) == CALLS[name]


@pytest.mark.parametrize("name", CALLS_WITHOUT_THINKING)
def test_calls_without_thinking(name: str, make_tokenizer: MakeTokenizer) -> None:
    assert shown(renderer(name, make_tokenizer), PLAIN_CALL) == CALLS_WITHOUT_THINKING[name]


@pytest.mark.parametrize("name", ["qwen3_5_think", "gemma4_v5", "lfm2_2_5_v2", "glm4_7_flash", "gptoss"])
def test_thinking_before_an_earlier_call_is_stripped_and_the_call_stays(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    text = shown(renderer(name, make_tokenizer), EARLIER)
    assert "R1" not in text and "R2" not in text and "R3" in text
    assert text.count("⟦") == 3 and "look" in text.split("⟧")[0].split("⟦")[1]


def test_a_call_that_a_template_moves_behind_the_answer_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """Gemma 4 writes what is said beside a call behind the tool's answer: the model would learn a wrong order."""
    row = Conversation((Turn("user", "Q1"), said("Wait.", "", CALL), SEEN, said("A1")), (TOOL,))
    with pytest.raises(TemplateError, match="writes it elsewhere"):
        renderer("gemma4_v5", make_tokenizer).example(row)
    assert "⟦Wait." in shown(renderer("qwen3_5_think", make_tokenizer), row)


@pytest.mark.parametrize("name", ["qwen3_5_think", "lfm2_2_5_v2", "gemma4_v5", "granite4"])
def test_the_end_of_a_turn_is_the_templates_where_the_tokenizer_names_another(
    name: str, make_tokenizer: MakeTokenizer
) -> None:
    """Qwen3.5's end token is the end of text; a model that never learns its turn's end talks on."""
    tokenizer = replace(make_tokenizer(PATHS[name].read_text("utf-8"), "</s>"), eos_token="</s>", end_tokens=("</s>",))
    assert shown(Renderer(tokenizer), THINKING).rstrip().endswith(f"A2{ENDS[name]}⟧")


# What the playground stops at beside the tokenizer's own end: an answer's end, and a call's.
STOPS = {
    "qwen3_5_think": ("<|im_end|>",),
    "gemma4_v5": ("<turn|>", "<|tool_response>"),
    "gptoss": ("<|return|>", "<|call|>"),
    "lfm2_2_5_v2": ("<|im_end|>",),
    "granite4": ("<|end_of_text|>",),
    "ministral3_instruct": ("</s>",),
    "glm4_7_flash": ("</s>",),
}


@pytest.mark.parametrize("name", STOPS)
def test_the_tokens_at_which_an_answer_and_a_call_are_over(name: str, make_tokenizer: MakeTokenizer) -> None:
    """Not gpt-oss's <|end|>, which ends its thinking; GLM's next role stands in its generation_config.json."""
    tokenizer = make_tokenizer(PATHS[name].read_text("utf-8"))
    assert (
        turn_ends(tokenizer.template.source, tokenizer.template.special_tokens, tokenizer.added_tokens) == STOPS[name]
    )


@pytest.mark.parametrize("name", ["ministral3_reasoning", "granite4", "gemma4_v5"])
def test_the_preview_gives_each_text_to_the_turn_that_wrote_it(name: str, make_tokenizer: MakeTokenizer) -> None:
    rendered = renderer(name, make_tokenizer).render(PLAIN_CALL)
    for turn, text in ((0, "Q1"), (2, "blue"), (3, "A1")):
        assert written_by(rendered, text) == turn


def test_the_mark_that_closes_a_question_belongs_to_the_question(make_tokenizer: MakeTokenizer) -> None:
    rendered = renderer("ministral3_instruct", make_tokenizer).render(THINKING)
    assert written_by(rendered, "[/INST]") == 2
    assert written_by(rendered, "A2") == 3


def written_by(rendered: Rendered, text: str) -> int:
    """The turn to which the preview gives the last place of a text."""
    place = rendered.text.rindex(text)
    return [owner.turn for owner in owners_of(rendered) if owner.start <= place][-1]


def test_every_template_written_for_these_tests_is_looked_at() -> None:
    assert {path.stem for path in own_template_paths()} <= {*KEPT_OR_STRIPPED, *CALLS, *CALLS_WITHOUT_THINKING}
