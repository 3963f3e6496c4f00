"""What training reads of preferences is what the preview shows, and the audit sees what is wrong with pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.auditing.audit import Check
from app.data.dataset.build import build
from app.data.dataset.makers import maker_of
from app.data.dataset.options import DataOptions
from app.data.dataset.token_preview import find_row, show
from app.data.reading.readers import read_rows

STARTER = Path(__file__).parents[3] / "assets" / "starter"
ROWS: list[dict[str, Any]] = [
    {"prompt": "What is the capital of France?", "chosen": "Paris. Arr, matey!", "rejected": "Paris."},
    {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello!"}],
        "rejected_response": "No",
    },
    {"prompt": "same?", "chosen": "yes", "rejected": "yes"},
    {"prompt": "What is two and two?", "chosen": "4", "rejected": "It is three, or perhaps five."},
]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def built(file: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    made = build(file, STARTER, DataOptions.checked(**options), out)
    assert made is not None
    return list(Dataset.from_file(str(made.rows)))


def shown(file: Path, number: int, **options: Any) -> dict[str, Any]:
    maker = maker_of(Renderer(load_tokenizer(STARTER)), DataOptions.checked(**options))
    return show(find_row(read_rows(file), number), maker).as_dict()


def test_the_preview_of_a_pair_is_what_training_reads(tmp_path: Path) -> None:
    file = written(tmp_path, ROWS)
    records = built(file, tmp_path / "out", objective="dpo")
    assert [record["row"] for record in records] == [1, 2, 4]
    tokenizer = load_tokenizer(STARTER)
    for record in records:
        view = shown(file, record["row"], objective="dpo")
        cut = view["prompt_tokens"]
        prompt, chosen = view["tokens"][:cut], view["tokens"][cut:]
        assert [token["id"] for token in prompt] == record["prompt_ids"]
        assert [token["id"] for token in chosen] == record["chosen_ids"]
        assert [token["id"] for token in view["rejected"]] == record["rejected_ids"]
        assert not any(token["trained"] for token in prompt)
        assert all(token["trained"] for token in (*chosen, *view["rejected"]))
        assert view["trained_tokens"] == len(chosen) + len(view["rejected"])
    first = records[0]
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(first["prompt_ids"]) == text
    assert tokenizer.decode(first["chosen_ids"]) == "Paris. Arr, matey!<|im_end|>\n"
    assert tokenizer.decode(first["rejected_ids"]) == "Paris.<|im_end|>\n"


def test_a_run_on_the_chosen_answers_shows_the_other_side_untrained(tmp_path: Path) -> None:
    view = shown(written(tmp_path, ROWS), 1)
    assert view["rejected"] and not any(token["trained"] for token in view["rejected"])
    assert view["trained_tokens"] == sum(token["trained"] for token in view["tokens"]) > 0
    assert "prompt_tokens" not in shown(written(tmp_path, [{"prompt": "q", "completion": "a"}]), 1)


def test_thumbs_are_built_with_their_labels_and_pairs_become_two(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a", "label": False}, ROWS[0]]
    file = written(tmp_path, rows)
    records = built(file, tmp_path / "out", objective="kto")
    assert [(record["row"], record["label"]) for record in records] == [(1, False), (2, True), (2, False)]
    view = shown(file, 1, objective="kto")
    assert view["label"] is False and "rejected" not in view
    ids = [token["id"] for token in view["tokens"]]
    assert ids == records[0]["prompt_ids"] + records[0]["completion_ids"]


def test_objectives_with_the_same_rows_share_them_and_conversations_keep_their_hash(tmp_path: Path) -> None:
    plain = {name: DataOptions.checked(objective=name).as_json() for name in ("sft", "dpo", "kto", "orpo")}
    assert plain["dpo"] == plain["orpo"] and len(set(plain.values())) == 3
    assert "objective" not in plain["sft"] and "rows" not in json.loads(plain["sft"])


def test_a_pair_over_the_length_is_dropped_and_never_cut(tmp_path: Path) -> None:
    long = {"prompt": "q", "chosen": "a", "rejected": "many words " * 60}
    file = written(tmp_path, [ROWS[0], long])
    assert len(built(file, tmp_path / "out", objective="dpo", max_length=64, over_length="cut")) == 1
    view = shown(file, 2, objective="dpo", max_length=64)
    assert view["truncated"] and "it is dropped" in view["warnings"][-1]


def facts(rows: list[dict[str, Any]], folder: Path, **options: Any) -> Any:
    check = Check(DataOptions.checked(**options), Renderer(load_tokenizer(STARTER)), rows_per_step=2)
    return check.run(read_rows(written(folder, rows))).facts()


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_the_audit_of_pairs(tmp_path: Path, objective: str) -> None:
    turned = {"prompt": ROWS[0]["prompt"], "chosen": ROWS[0]["rejected"], "rejected": ROWS[0]["chosen"]}
    found = facts([*ROWS, turned], tmp_path, objective=objective)
    lines = {(problem.kind, problem.line) for problem in found.problems}
    assert {("equal_sides", 3), ("chosen_shorter", 4), ("prompt_twice", 5), ("contradiction", 5)} <= lines
    assert not {kind for kind, _ in lines} & {"length_bias", "duplicate"}
    assert found.usable == (4 if objective == "dpo" else 5)


@pytest.mark.parametrize("word", ["None", "null", "N/A"])
def test_a_word_for_nothing_is_told_on_either_side(tmp_path: Path, word: str) -> None:
    pairs = [
        {"prompt": "Name a river.", "chosen": "The Rhine.", "rejected": word},
        {"prompt": "Name a lake.", "chosen": word, "rejected": "A lake."},
        {"prompt": "Name a hill.", "chosen": "Uetliberg.", "rejected": f"{word} of them."},
    ]
    found = facts(pairs, tmp_path, objective="dpo")
    assert [(one.line, one.kind) for one in found.problems if one.kind == "null_word"] == [
        (1, "null_word"),
        (2, "null_word"),
    ]


def test_length_alone_is_told_where_it_says_which_answer_is_better(tmp_path: Path) -> None:
    pairs = [{"prompt": f"q{i}", "chosen": f"a long answer {i}", "rejected": f"{i}"} for i in range(24)]
    biased = facts(pairs, tmp_path, objective="dpo")
    assert biased.problem_counts["length_bias"] == 1 and biased.packing.steps_per_epoch == 12
    mixed = [
        {**one, "chosen": one["rejected"], "rejected": one["chosen"]} if i % 2 else one for i, one in enumerate(pairs)
    ]
    assert "length_bias" not in facts(mixed, tmp_path, objective="dpo").problem_counts
