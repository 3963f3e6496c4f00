"""The preview shows the very tokens that training reads: byte for byte, for every row."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import ModelTokenizer, load_tokenizer
from app.data.dataset import build as build_module
from app.data.dataset.auditing.audit import Check
from app.data.dataset.build import BuiltDataset, build, dataset_hash, hash_source, open_built
from app.data.dataset.examples import ExampleMaker
from app.data.dataset.options import DataOptions
from app.data.dataset.token_preview import find_row, show
from app.data.reading.readers import read_rows
from app.errors import DataError
from tests.data.conftest import CHATML, MakeTokenizer

ROOT = Path(__file__).parents[3]
SAMPLES = [path for path in sorted((ROOT / "assets" / "datasets").glob("*.json*")) if ".prompts." not in path.name]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(Dataset.from_file(str(path)))


def built(path: Path, folder: Path, out: Path, **options: Any) -> BuiltDataset:
    result = build(path, folder, DataOptions.checked(**options), out)
    assert result is not None
    return result


def preview(path: Path, number: int, tokenizer: ModelTokenizer, **options: Any) -> dict[str, Any]:
    checked = DataOptions.checked(**options)
    maker = ExampleMaker(Renderer(tokenizer, checked.train_on), checked)
    return show(find_row(read_rows(path), number), maker).as_dict()


def assert_equal(path: Path, folder: Path, out: Path, limit: int = 10**9, **options: Any) -> int:
    tokenizer = load_tokenizer(folder)
    records = rows_of(built(path, folder, out, **options).rows)[:limit]
    for record in records:
        shown = preview(path, record["row"], tokenizer, **options)
        assert [token["id"] for token in shown["tokens"]] == record["input_ids"]
        labels = [token["id"] if token["trained"] else -100 for token in shown["tokens"]]
        assert labels == record["labels"]
        assert (shown["line"], shown["row"]) == (record["line"], record["row"])
        assert shown["trained_tokens"] == sum(label != -100 for label in labels) > 0
        assert shown["total_tokens"] == len(labels)
    return len(records)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_on_the_sample_sets(path: Path, chatml_folder: Path, tmp_path: Path) -> None:
    starter = ROOT / "assets" / "starter"
    folder = starter if (starter / "tokenizer.json").is_file() else chatml_folder
    assert assert_equal(path, folder, tmp_path) > 0


def mixed_rows(count: int = 60) -> list[dict[str, Any]]:
    rng = random.Random(4)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        words = " ".join(rng.choices(["hello", "world", "is", "it", "你好", "naïve", "🙂"], k=rng.randint(1, 30)))
        turns = [{"role": "user", "content": f"{i} {words}"}, {"role": "assistant", "content": words}]
        rows += [
            {"instruction": f"{i}", "output": words},
            {"messages": turns * rng.randint(1, 4)},
            {"text": f"Plain text {i} {words}"},
        ][i % 3 : i % 3 + 1]
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_on": "last"},
        {"train_on": "all"},
        {"max_length": 40, "over_length": "cut"},
        {"max_length": 40, "over_length": "drop"},
    ],
    ids=str,
)
def test_on_mixed_rows(options: dict[str, Any], chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "mixed.jsonl", mixed_rows())
    assert assert_equal(path, chatml_folder, tmp_path / "out", **options) > 10


def test_split_rows_keep_every_answer(chatml_folder: Path, chatml: ModelTokenizer, tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be short"}]
    for i in range(12):
        turns += [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]
    path = write_jsonl(tmp_path / "long.jsonl", [{"messages": turns}])
    records = rows_of(built(path, chatml_folder, tmp_path / "out", max_length=80, over_length="split").rows)
    texts = [chatml.decode(record["input_ids"]) for record in records]
    assert len(records) > 1 and all(len(record["input_ids"]) <= 80 for record in records)
    assert all(text.startswith("<|im_start|>system\nBe short<|im_end|>") for text in texts)
    whole = "".join(texts)
    assert [whole.count(f"answer {i}<|im_end|>") for i in range(12)] == [1] * 12
    first = preview(path, 1, chatml, max_length=80, over_length="split")
    assert [token["id"] for token in first["tokens"]] == records[0]["input_ids"] and first["truncated"]
    assert "training rows" in first["warnings"][-1]


def test_cutting_never_cuts_an_answer(chatml_folder: Path, chatml: ModelTokenizer, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 20
    path = write_jsonl(tmp_path / "long.jsonl", [{"messages": turns}, {"instruction": "x " * 100, "output": "y"}])
    dataset = built(path, chatml_folder, tmp_path / "out", max_length=60, over_length="cut")
    (record,) = rows_of(dataset.rows)
    assert chatml.decode(record["input_ids"]).endswith("b<|im_end|>\n") and len(record["input_ids"]) <= 60
    assert dataset.manifest["problem_counts"] == {"over_limit": 2} and dataset.manifest["kept_share"] < 0.5


def test_tokens_put_together_are_the_text(chatml: ModelTokenizer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"instruction": "你好 🙂 naïve", "output": "世界 🙂"}])
    shown = preview(path, 1, chatml)
    text = "".join(token["text"] for token in shown["tokens"])
    assert text == "<|im_start|>user\n你好 🙂 naïve<|im_end|>\n<|im_start|>assistant\n世界 🙂<|im_end|>\n"
    assert "".join(token["text"] for token in shown["tokens"] if token["trained"]) == "世界 🙂<|im_end|>"
    assert {(token["role"], token["turn"]) for token in shown["tokens"]} == {("user", 0), ("assistant", 1)}
    by_user = "".join(token["text"] for token in shown["tokens"] if token["role"] == "user")
    assert by_user == "<|im_start|>user\n你好 🙂 naïve<|im_end|>\n"
    assert set(shown) == {"format", "row", "line", "tokens", "trained_tokens", "total_tokens", "truncated", "warnings"}
    assert set(shown["tokens"][0]) == {"id", "text", "role", "turn", "trained"}


def test_rows_that_cannot_be_shown_say_why(chatml: ModelTokenizer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"instruction": "a", "output": ""}, {"instruction": "a", "output": "b"}])
    with pytest.raises(DataError, match="Line 1: An answer is empty"):
        preview(path, 1, chatml)
    for number in (0, 3):
        with pytest.raises(DataError, match=f"no row {number}"):
            preview(path, number, chatml)
    long = preview(path, 2, chatml, max_length=8)
    assert long["truncated"] and "dropped" in long["warnings"][-1]


def test_packed_rows_hold_the_same_documents(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "mixed.jsonl", mixed_rows())
    dataset = built(path, chatml_folder, tmp_path / "out", max_length=200)
    single = sorted((record["input_ids"], record["labels"]) for record in rows_of(dataset.rows))
    documents = []
    for record in rows_of(dataset.packed):
        assert sum(record["seq_lengths"]) == len(record["input_ids"]) == len(record["labels"]) <= 200
        at = 0
        for length in record["seq_lengths"]:
            documents.append((record["input_ids"][at : at + length], record["labels"][at : at + length]))
            at += length
    assert sorted(documents) == single
    assert all(labels[0] == -100 for _, labels in documents)
    assert dataset.manifest["packed_rows"] < dataset.manifest["rows"]


def test_trls_collator_keeps_packed_documents_apart(chatml_folder: Path, tmp_path: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    path = write_jsonl(tmp_path / "mixed.jsonl", mixed_rows())
    record = rows_of(built(path, chatml_folder, tmp_path / "out", max_length=200).packed)[0]
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([record])
    positions = [position for length in record["seq_lengths"] for position in range(length)]
    assert batch["position_ids"][0].tolist() == positions and "attention_mask" not in batch
    assert batch["labels"][0].tolist() == record["labels"]


def test_the_trainer_takes_built_rows_as_they_are(chatml_folder: Path, tmp_path: Path) -> None:
    """TRL leaves a dataset with input_ids and labels untouched when it is told to skip its preparation."""
    path = write_jsonl(tmp_path / "mixed.jsonl", mixed_rows())
    dataset = Dataset.from_file(str(built(path, chatml_folder, tmp_path / "out").packed))
    assert set(dataset.column_names) == {"input_ids", "labels", "seq_lengths"}
    assert dataset.features["input_ids"].feature.dtype == "int32"


def test_built_once_and_found_again(chatml_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", mixed_rows())
    first = built(path, chatml_folder, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(build_module, "read_rows", lambda path: pytest.fail("read again"))
        assert built(path, chatml_folder, tmp_path / "out") == first
    other = [
        built(path, chatml_folder, tmp_path / "out", max_length=500),
        built(path, chatml_folder, tmp_path / "out", train_on="last"),
        built(path, chatml_folder, tmp_path / "out", chat_template="dialogue"),
        built(write_jsonl(tmp_path / "a.jsonl", mixed_rows(61)), chatml_folder, tmp_path / "out"),
    ]
    assert len({first.path, *(one.path for one in other)}) == 5
    assert not list((tmp_path / "out").glob(".building-*"))


def test_a_damaged_dataset_is_built_anew(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", mixed_rows())
    first = built(path, chatml_folder, tmp_path / "out")
    content = first.rows.read_bytes()
    first.rows.write_bytes(content[:-20])
    assert open_built(first.path) is None
    assert built(path, chatml_folder, tmp_path / "out").rows.read_bytes() == content
    (first.path / "manifest.json").unlink()
    assert built(path, chatml_folder, tmp_path / "out").rows.read_bytes() == content


@pytest.mark.parametrize("name", ["rows.arrow", "packed.arrow"])
def test_a_flipped_byte_of_the_tokens_is_not_trained(chatml_folder: Path, tmp_path: Path, name: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", mixed_rows(20))
    first = built(path, chatml_folder, tmp_path / "out")
    content = bytearray((first.path / name).read_bytes())
    (first.path / name).write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    assert open_built(first.path) is None
    assert (built(path, chatml_folder, tmp_path / "out").path / name).read_bytes() == content


def test_a_dataset_under_the_name_of_another_is_none(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", mixed_rows(20))
    first = built(path, chatml_folder, tmp_path / "out")
    other = built(path, chatml_folder, tmp_path / "out", train_on="last")
    shutil.rmtree(other.path)
    shutil.copytree(first.path, other.path)
    assert open_built(other.path) is None and open_built(first.path) == first


def test_the_name_of_a_dataset_follows_every_option_and_the_tokenizer(
    chatml: ModelTokenizer, make_tokenizer: MakeTokenizer
) -> None:
    changes: dict[str, Any] = {
        "format": "alpaca",
        "mapping": {"text": "body"},
        "max_length": 99,
        "packing": False,
        "train_on": "all",
        "over_length": "cut",
        "validation_split": 0.25,
        "seed": 7,
        "chat_template": "dialogue",
        "drop": ("duplicate",),
        "repair": ("secret",),
        "objective": "dpo",
    }
    assert set(changes) == set(DataOptions.__dataclass_fields__)
    options = [DataOptions(), *(replace(DataOptions(), **{name: value}) for name, value in changes.items())]
    hashes = [dataset_hash("0" * 64, Renderer(chatml), one) for one in options]
    hashes += [dataset_hash("1" * 64, Renderer(chatml), DataOptions())]
    hashes += [dataset_hash("0" * 64, Renderer(make_tokenizer(CHATML + " ")), DataOptions())]
    assert len(set(hashes)) == len(changes) + 3


def test_a_build_can_be_stopped(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", mixed_rows(2000))
    told: list[tuple[int, int]] = []
    options = DataOptions.checked()
    stopped = build(path, chatml_folder, options, tmp_path / "out", lambda *done: told.append(done), lambda: bool(told))
    assert stopped is None and list((tmp_path / "out").iterdir()) == []
    finished = build(path, chatml_folder, options, tmp_path / "out", lambda *done: told.append(done))
    assert finished is not None and told[-1] == (2000, 2000)
    assert finished.manifest["rows"] == 2000


def test_nothing_to_train_is_a_hard_stop(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"instruction": "a", "output": ""}, {"x": 1, "y": 2}])
    with pytest.raises(DataError, match=r"Nothing would be trained.*empty_answer"):
        build(path, chatml_folder, DataOptions(), tmp_path / "out")
    context = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}]
    with pytest.raises(DataError, match="nothing_trained"):
        build(write_jsonl(tmp_path / "b.jsonl", context), chatml_folder, DataOptions(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_validation_rows_are_chosen_by_what_is_asked(
    chatml_folder: Path, chatml: ModelTokenizer, tmp_path: Path
) -> None:
    rows = [{"instruction": f"question {i // 2}", "output": f"answer {i}"} for i in range(400)]
    random.Random(1).shuffle(rows)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    dataset = built(path, chatml_folder, tmp_path / "out", validation_split=0.2)
    assert dataset.validation_rows is not None and dataset.validation_packed is not None

    def asked(file: Path) -> set[str]:
        return {chatml.decode(record["input_ids"]).split("<|im_end|>")[0] for record in rows_of(file)}

    training, validation = asked(dataset.rows), asked(dataset.validation_rows)
    assert not training & validation and len(training | validation) == 200
    assert 50 <= dataset.manifest["validation_rows"] <= 110
    rows.reverse()
    again = built(write_jsonl(tmp_path / "b.jsonl", rows), chatml_folder, tmp_path / "out", validation_split=0.2)
    assert again.validation_rows is not None and asked(again.validation_rows) == validation
    assert built(path, chatml_folder, tmp_path / "out").validation_rows is None


def style_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"instruction": "Write a haiku in my style.", "output": f"Line {i}; leaf {i * 7 % 11}."} for i in range(count)
    ]


@pytest.mark.parametrize(
    ("rows", "share", "kept"),
    [
        (style_rows(40), 0.1, 4),
        (style_rows(40) + [{"instruction": f"Other {i}", "output": "Yes."} for i in range(4)], 0.1, None),
        ([{**row, "instruction": f"Way {i % 3}"} for i, row in enumerate(style_rows(60))], 0.1, 6),
        (style_rows(6), 0.2, 1),
        (style_rows(200), 0.5, 100),
    ],
)
def test_a_set_of_one_question_is_divided_by_rows(
    rows: list[dict[str, Any]], share: float, kept: int | None, chatml_folder: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        options = DataOptions.checked(validation_split=share, seed=seed)
        held_back = []
        for name, ordered in (("a", rows), ("b", rows[::-1])):
            path = write_jsonl(tmp_path / f"{name}.jsonl", ordered)
            dataset = build(path, chatml_folder, options, tmp_path / "out")
            assert dataset is not None and dataset.validation_rows is not None
            manifest = dataset.manifest
            assert manifest["rows"] + manifest["validation_rows"] == len(rows)
            assert manifest["validation_rows"] == kept or (kept is None and 2 <= manifest["validation_rows"] <= 8)
            check = Check(options)
            assert check.run(read_rows(path)).validation == manifest["validation_rows"]
            held_back.append(sorted(record["input_ids"] for record in rows_of(dataset.validation_rows)))
        assert held_back[0] == held_back[1]


def test_neither_side_is_left_empty(chatml_folder: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {i}", "output": "Yes."} for i in range(12)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    for seed in range(25):
        manifest = built(path, chatml_folder, tmp_path / "out", validation_split=0.1, seed=seed).manifest
        assert 1 <= manifest["validation_rows"] < 12 and manifest["rows"] >= 1
    two = write_jsonl(tmp_path / "b.jsonl", rows[:2])
    for seed in range(25):
        assert built(two, chatml_folder, tmp_path / "out", validation_split=0.5, seed=seed).manifest["rows"] >= 1


def test_one_row_on_the_wrong_side_is_said(chatml_folder: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", style_rows(1))
    said = set()
    for seed in range(20):
        try:
            built(path, chatml_folder, tmp_path / "out", validation_split=0.5, seed=seed)
        except DataError as error:
            said.add(f"{error.why} {error.remedy}")
    assert len(said) == 1 and "validation" in said.pop()


def test_choices_to_drop_and_repair_reach_the_build(
    chatml_folder: Path, chatml: ModelTokenizer, tmp_path: Path
) -> None:
    long = "The quick brown fox jumps over the lazy dog and then it goes home to sleep for a very long time"
    rows = [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "output": "b"},
        {"instruction": long, "output": long},
        {"instruction": long.upper(), "output": long},
        {"instruction": "mail", "output": "me@corp.io"},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert built(path, chatml_folder, tmp_path / "out").manifest["rows"] == 5
    kept = built(path, chatml_folder, tmp_path / "out", drop=["duplicate", "near_duplicate", "email"])
    assert [record["row"] for record in rows_of(kept.rows)] == [1, 3]
    repaired = rows_of(built(path, chatml_folder, tmp_path / "out", repair=["email"]).rows)
    assert chatml.decode(repaired[4]["input_ids"]).count("[redacted]") == 1


def test_the_hash_of_a_folder_follows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("x\ny\n")
    one = hash_source(tmp_path)
    assert one[1] == 2 and one == hash_source(tmp_path)
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert hash_source(tmp_path)[0] != one[0]


def test_a_template_that_looks_into_texts_unseen_is_found_by_comparing(
    chatml_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the proof from the template's syntax ever wrong, rows that were filled in before are built anew."""
    peek = (
        "{% if '/short' in ''.join([message.content]) %}{{ '<|im_start|>system\\nBe short.<|im_end|>\\n' }}{% endif %}"
    )
    template = CHATML.replace("{{ '<|im_start|>' + message.role", peek + "{{ '<|im_start|>' + message.role", 1)
    folder = tmp_path / "model"
    shutil.copytree(chatml_folder, folder)
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    monkeypatch.setattr("app.data.chat_template.text_probe.is_proven", lambda source: True)
    texts = [f"Question {i}" + " /short" * (i % 2) for i in range(130)]
    rows = [{"instruction": text, "output": "Answer."} for text in texts]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    records = rows_of(built(path, folder, tmp_path / "out").rows)
    tokenizer = load_tokenizer(folder)
    for record, text in zip(records, texts, strict=True):
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "Answer."}]
        assert tokenizer.decode(record["input_ids"]) == tokenizer.template.render(messages, None)
