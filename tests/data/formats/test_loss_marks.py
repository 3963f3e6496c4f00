from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow

ANSWER = {"role": "assistant", "content": "a"}


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
        *({"metadata": {"train": False}}, {"lossmask": 0}, {"calc_loss": False}, {"训练": False}),
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


@pytest.mark.parametrize(
    "flag",
    [
        *({"weight": 0}, {"train": False}, {"loss": "false"}, {"exclude_from_loss": 1}, {"ignore": True}),
        *({"loss_weight": 0.0}, {"skip_loss": "True"}, {"isTrained": False}, {"训练": False}),
        {"metadata": {"train": False}},
    ],
)
def test_a_row_that_says_that_it_is_not_to_be_trained_is_left_out(flag: dict[str, Any]) -> None:
    for row in ({"instruction": "q", "output": "a"}, {"messages": [{"role": "user", "content": "q"}, ANSWER]}):
        with pytest.raises(BadRow, match="not to be trained") as caught:
            conversation_of({**row, **flag})
        assert caught.value.kind == "unlearned"


@pytest.mark.parametrize(
    "column",
    [
        *(
            {"weight": 1},
            {"weight": None},
            {"loss": 0.37},
            {"train": True},
            {"masked": "The [MASK] sat"},
            {"no": False},
        ),
        *(
            {"weight": "None"},
            {"ignore": False},
            {"skip": 1},
            {"split": "train"},
            {"loss_mask": [1, 1]},
            {"weights": []},
        ),
    ],
)
def test_a_column_that_does_not_say_so_leaves_no_row_out(column: dict[str, Any]) -> None:
    assert conversation_of({"instruction": "q", "output": "a", **column}).turns[-1].trained


def test_a_column_that_a_mapping_reads_is_no_mark() -> None:
    row = {"ask": "q", "train": "no"}
    assert conversation_of(row, mapping=(("assistant", "train"), ("user", "ask"))).turns[-1].content == "no"
    with pytest.raises(BadRow, match="not to be trained"):
        conversation_of({**row, "reply": "a"}, mapping=(("assistant", "reply"), ("user", "ask")))


@pytest.mark.parametrize("where", ["row", "message"])
def test_marks_in_a_list_are_refused(where: str) -> None:
    marks = {"loss_mask": [0, 1]}
    answer, row = ({**ANSWER, **marks}, {}) if where == "message" else (ANSWER, marks)
    with pytest.raises(BadRow, match="messages"):
        conversation_of({"messages": [{"role": "user", "content": "q"}, answer], **row})
