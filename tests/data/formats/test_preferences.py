"""Pairs and thumbs in the shapes that people have them, and what is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversation import Turn
from app.data.formats.preferences import Pair, label_of, pair_of, thumbs_of
from app.data.reading.rows import BadRow

Q = Turn("user", "q")


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 3, texts, strict=False)]


def sharegpt(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


PAIRS: dict[str, dict[str, Any]] = {
    "TRL": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "TRL messages": {"prompt": said("q"), "chosen": said("q", "good")[1:], "rejected": said("q", "bad")[1:]},
    "implicit prompt": {"chosen": said("q", "good"), "rejected": said("q", "bad")},
    "UltraFeedback": {"prompt": "q", "chosen": said("q", "good"), "rejected": said("q", "bad"), "score_chosen": 8.0},
    "HH": {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    "LLaMA-Factory": {
        "conversations": [sharegpt("human", "q")],
        "chosen": sharegpt("gpt", "good"),
        "rejected": sharegpt("gpt", "bad"),
    },
    "LLaMA-Factory alpaca": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "ms-swift": {"messages": said("q", "good"), "rejected_response": "bad"},
    "ms-swift messages": {"messages": said("q", "good"), "rejected_messages": said("q", "bad")},
    "ms-swift answer": {"messages": said("q", "good"), "rejected_messages": said("q", "bad")[1:]},
    "OpenAI": {
        "input": {"messages": said("q")},
        "preferred_output": said("q", "good")[1:],
        "non_preferred_output": said("q", "bad")[1:],
    },
    "preferred": {"question": "q", "preferred": "good", "dispreferred": "bad"},
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_read_in_every_shape(name: str) -> None:
    expected = Pair((Q,), (Turn("assistant", "good"),), (Turn("assistant", "bad"),))
    assert pair_of(PAIRS[name]) == expected
    # The other way round: a reader that took one side for both would not notice above.
    turned = thumbs_of(PAIRS[name])
    assert [(thumb.conversation.turns[-1].content, thumb.up) for thumb in turned] == [("good", True), ("bad", False)]


def test_the_common_prompt_may_be_a_conversation_and_only_the_answer_is_trained() -> None:
    pair = pair_of({"chosen": said("q", "a", "q2", "good"), "rejected": said("q", "a", "q2", "bad"), "system": "s"})
    assert [turn.content for turn in pair.prompt] == ["s", "q", "a", "q2"]
    assert [turn.trained for turn in pair.side(pair.chosen).turns] == [False, False, False, False, True]
    with_system = pair_of({"prompt": "q", "chosen": "good", "rejected": "bad", "system": "s"})
    assert with_system.prompt == (Turn("system", "s"), Q)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"prompt": "q", "chosen": "same", "rejected": "same"}, "equal_sides"),
        ({"prompt": "q", "completion": "a"}, "no_pair"),
        ({"prompt": "q", "completion": "a", "label": True}, "no_pair"),
        ({"chosen": said("q", "a"), "rejected": said("other", "b")}, "no_prompt"),
        ({"chosen": said("q", "a", "q2", "b"), "rejected": said("q", "x", "q2", "c")}, "sides_part_early"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "empty_answer"),
    ],
)
def test_what_is_no_pair_is_refused_with_a_reason(fields: dict[str, Any], kind: str) -> None:
    with pytest.raises(BadRow) as refused:
        pair_of(fields)
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("value", "up"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        ("up", True),
        ("False", False),
        ("👎", False),
        ("👍🏽", True),
        ("Thumbs Up", True),
        ("thumbs-down", False),
        ("positive", True),
        (-1, False),
        ("maybe", None),
    ],
)
def test_a_thumb_is_read_in_many_words(value: object, up: bool | None) -> None:
    assert label_of({"label": value}) is up


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "q", "completion": "a", "label": False},
        {"messages": said("q", "a"), "label": False},
        {"instruction": "q", "output": "a", "kto_tag": False},
        {"conversations": [sharegpt("human", "q"), sharegpt("gpt", "a")], "kto_tag": "false"},
    ],
)
def test_thumbs_come_in_the_shapes_of_trl_swift_and_llama_factory(fields: dict[str, Any]) -> None:
    (thumb,) = thumbs_of(fields)
    assert thumb.up is False and [turn.content for turn in thumb.conversation.turns] == ["q", "a"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"prompt": "q", "completion": "a"}, "no_label"),
        ({"prompt": "q", "completion": " ", "label": True}, "empty_answer"),
        ({"messages": said("q", ""), "label": False}, "empty_answer"),
    ],
)
def test_an_answer_without_a_thumb_and_a_thumb_without_an_answer_are_refused(fields: dict[str, Any], kind: str) -> None:
    with pytest.raises(BadRow) as refused:
        thumbs_of(fields)
    assert refused.value.kind == kind
