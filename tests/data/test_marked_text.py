"""Text that was rendered for a model family is cut into its turns; prose that speaks of such marks is not."""

from __future__ import annotations

import json

import pytest

from app.data.conversation import ToolCall, Turn
from app.data.conversions import conversation_of
from app.data.marked_text import turns_of_marks

S, Q, A = Turn("system", "s"), Turn("user", "q"), Turn("assistant", "a")
Q2, A2 = Turn("user", "q2"), Turn("assistant", "a2")
HARMONY = (
    "<|start|>system<|message|>s<|end|><|start|>user<|message|>q<|end|>"
    "<|start|>assistant<|channel|>analysis<|message|>t<|end|>"
    '<|start|>assistant to=functions.get<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>'
    "<|start|>functions.get to=assistant<|channel|>commentary<|message|>sun<|end|>"
    "<|start|>assistant<|channel|>final<|message|>a<|return|>"
)
FAMILIES: dict[str, tuple[str, tuple[Turn, ...]]] = {
    "Llama 2": ("<s>[INST] <<SYS>>\ns\n<</SYS>>\n\nq [/INST] a </s><s>[INST] q2 [/INST] a2 </s>", (S, Q, A, Q2, A2)),
    "Mistral": ("[INST] q [/INST] a</s>[INST] q2 [/INST] a2</s>", (Q, A, Q2, A2)),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\ns<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\na<|eot_id|>",
        (S, Q, A),
    ),
    "Gemma": ("<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n", (Q, A)),
    "Phi": ("<|user|>\nq<|end|>\n<|assistant|>\na<|end|>\n<|user|>\nq2<|end|>\n<|assistant|>\n", (Q, A, Q2)),
    "Zephyr": ("<|system|>\ns</s>\n<|user|>\nq</s>\n<|assistant|>\na</s>\n", (S, Q, A)),
    "DeepSeek": ("<｜begin▁of▁sentence｜>s<｜User｜>q<｜Assistant｜>a<｜end▁of▁sentence｜>", (S, Q, A)),
    "Vicuna": (
        "A chat between us. USER: q ASSISTANT: a</s>USER: q2 ASSISTANT: a2</s>",
        (Turn("system", "A chat between us."), Q, A, Q2, A2),
    ),
    "Guanaco": ("### Human: q### Assistant: a### Human: q2### Assistant: a2", (Q, A, Q2, A2)),
    "OIG": ("<human>: q\n<bot>: a", (Q, A)),
    "lines": ("User: q\nAssistant: a\nUser: q2\nAssistant: a2", (Q, A, Q2, A2)),
    "HH": ("\n\nHuman: q\n\nAssistant: a", (Q, A)),
    "gpt-oss": (
        HARMONY,
        (
            *(S, Q, Turn("assistant", "", "t", (ToolCall("get", {"city": "Paris"}),))),
            *(Turn("tool", "sun", name="get"), A),
        ),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_rendered_text_is_cut_into_its_turns(family: str) -> None:
    text, turns = FAMILIES[family]
    assert conversation_of({"text": text}).turns == turns


@pytest.mark.parametrize(
    "text",
    [
        "The mark [INST] opens a question and [/INST] closes it.",
        "Shells say user: and assistant: in their logs.",
        "USER: a name in capitals, and nobody answers",
        "See <|user|> and <|assistant|> in the manual.",
        "# Human: the species\n\nAssistant: a job",
        "User: alone",
    ],
)
def test_prose_that_speaks_of_marks_stays_text(text: str) -> None:
    assert turns_of_marks(text) == ()
    assert conversation_of({"text": text}).text == text


def test_long_text_of_many_marks_is_cut_in_one_pass() -> None:
    assert len(turns_of_marks("USER: q ASSISTANT: a " * 50_000)) == 100_000
    assert turns_of_marks("USER: " + "x" * 3_000_000) == ()


def test_text_in_a_column_of_messages_is_read_too() -> None:
    row = json.loads(json.dumps({"conversation": "User: q\nAssistant: a"}))
    assert conversation_of(row).turns == (Q, A)
