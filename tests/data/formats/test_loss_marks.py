from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow


def trained(flag: dict[str, Any]) -> list[bool]:
    said = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", **flag},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "b"},
    ]
    return [turn.trained for turn in conversation_of({"messages": said}).turns if turn.role == "assistant"]


@pytest.mark.parametrize(
    "flag",
    [
        *({"include_in_loss": False}, {"isTrained": False}, {"use_for_training": 0}, {"supervised": False}),
        *({"lossMask": 0}, {"train_loss": "False"}, {"should_train": "no"}, {"keep-loss": False}, {"trainOn": False}),
        *({"loss_masked": True}, {"exclude_from_loss": 1}, {"excluded": True}, {"ignore": True}, {"skip": "true"}),
        *({"mask": True}, {"context_only": 1}, {"is_context": True}, {"untrained": True}, {"no_grad": True}),
        {"metadata": {"train": False}},
    ],
)
def test_the_words_of_a_name_say_that_an_answer_is_context(flag: dict[str, Any]) -> None:
    assert trained(flag) == [False, True]


@pytest.mark.parametrize(
    "flag",
    [
        *({"mask": 1}, {"mask": False}, {"ignore": 0}, {"train_on_input": False}, {"weight_kg": 0}, {"label": 0}),
        *({"target": False}, {"context": "from the manual"}, {"id": 0}, {"loss_masked": False}, {"no_of_words": 0}),
        {"training_step": 0},
    ],
)
def test_what_does_not_speak_of_the_loss_changes_nothing(flag: dict[str, Any]) -> None:
    assert trained(flag) == [True, True]


@pytest.mark.parametrize("name", ["train_detail", "training_detail", "loss_spans"])
def test_an_answer_that_is_to_be_learned_in_parts_is_refused(name: str) -> None:
    with pytest.raises(BadRow, match="whole messages"):
        trained({name: [{"begin_offset": 0, "end_offset": 1, "train": False}]})


@pytest.mark.parametrize(
    ("flag", "weight"),
    [
        *(({"weight": 0.5}, 0.5), ({"loss_weight": "0.25"}, 0.25), ({"weight": 2}, 2.0), ({"weight": -1}, -1.0)),
        *(({"weight": 1}, 1.0), ({"weight": True}, 1.0), ({"weight": "high"}, 1.0), ({"weight": float("nan")}, 1.0)),
        *(({"metadata": {"weight": 0.5}}, 0.5), ({"weight_kg": 70}, 1.0)),
    ],
)
def test_a_weight_that_cannot_be_kept_is_known(flag: dict[str, Any], weight: float) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **flag}]
    conversation = conversation_of({"messages": said})
    assert (conversation.turns[1].trained, conversation.turns[1].weight) == (True, weight)
    assert conversation.as_record()["messages"][1].get("weight", 1) == weight
