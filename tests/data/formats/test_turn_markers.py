"""Text that was rendered for a model family is cut into its turns; prose that speaks of such marks is not."""

from __future__ import annotations

import json

import pytest

from app.data.formats.conversation import ToolCall, Turn
from app.data.formats.conversions import conversation_of
from app.data.formats.turn_markers import turns_of_marks

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
    "Gemma 4": (
        "<bos><|turn>system\ns<turn|>\n<|turn>user\nq<turn|>\n<|turn>model\n<|channel>thought\nt\n<channel|>a<turn|>\n",
        (S, Q, Turn("assistant", "a", "t")),
    ),
    "Llama 4": (
        "<|begin_of_text|><|header_start|>user<|header_end|>\n\nq<|eot|><|header_start|>assistant<|header_end|>\n\na<|eot|>",
        (Q, A),
    ),
    "Granite": (
        "<|start_of_role|>system<|end_of_role|>s<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>q<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>a<|end_of_text|>\n",
        (S, Q, A),
    ),
    "Cohere": (
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>q<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>a<|END_OF_TURN_TOKEN|>",
        (Q, A),
    ),
    "Mistral with a system text": ("<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]a</s>", (S, Q, A)),
    "GLM": ("[gMASK]<sop><|system|>\ns<|user|>\nq<|assistant|>\na<|observation|>\nr", (S, Q, A, Turn("tool", "r"))),
    "Olmo": ("<|endoftext|><|user|>\nq\n<|assistant|>\na<|endoftext|>", (Q, A)),
    "Kimi": (
        "<|im_system|>system<|im_middle|>s<|im_end|><|im_user|>user<|im_middle|>q<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>a<|im_end|>",
        (S, Q, A),
    ),
    "Phi-4": ("<|im_start|>user<|im_sep|>q<|im_end|><|im_start|>assistant<|im_sep|>a<|im_end|>", (Q, A)),
    "Seed": ("<seed:bos>user\nq<seed:eos><seed:bos>assistant\na<seed:eos>", (Q, A)),
    "Apertus": ("<s><|user_start|>q<|user_end|><|assistant_start|>a<|assistant_end|>", (Q, A)),
    "Hunyuan": ("<｜hy_begin▁of▁sentence｜>s<｜hy_User｜>q<｜hy_Assistant｜>a<｜hy_place▁holder▁no▁2｜>", (S, Q, A)),
    "EXAONE": ("[|system|]s[|endofturn|]\n[|user|]q\n[|assistant|]a[|endofturn|]", (S, Q, A)),
    "Nemotron": ("<extra_id_0>System\ns\n\n<extra_id_1>User\nq\n<extra_id_1>Assistant\na\n", (S, Q, A)),
    "OpenChat": ("GPT4 Correct User: q<|end_of_turn|>GPT4 Correct Assistant: a<|end_of_turn|>", (Q, A)),
    "MiniCPM": ("<s><用户>q<AI>a</s>", (Q, A)),
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
        "The tag <用户> marks a user and <AI> the model.",
        "Granite writes <|start_of_role|>user<|end_of_role|> before a question.",
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
