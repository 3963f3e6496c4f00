from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence, Done, Event
from app.engine.batching.text import TextStream
from app.engine.variants import VariantSet
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
SHARED = ["base", "plain", "narrow", "rslora", "patterned"]
TOKENS = 24


def prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 259, (length,), generator=generator).tolist()


def row(column: str, ids: list[int], tokens: int = TOKENS, events: list[Event] | None = None) -> DecodeSequence:
    sink: list[Event] = [] if events is None else events
    text = TextStream(lambda found: "x" * len(found))
    return DecodeSequence(column, ids, Sampling(temperature=0.0, max_tokens=tokens), text, frozenset(), sink.append)


def one_by_one(base: Path, folder: Path | None, ids: list[int], tokens: int = TOKENS) -> list[int]:
    """Return what transformers and PEFT answer, greedily, with one prompt and one adapter."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if folder is not None:
        model = PeftModel.from_pretrained(model, str(folder))
    model.eval()
    found = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return found[0, len(ids) :].tolist()


def run(batch: DecodeBatch) -> None:
    for _ in range(200):
        batch.step()


def test_a_mixed_batch_answers_as_peft_does_one_by_one(
    columns: VariantSet, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    rows = [row(name, prompt(5 + 9 * place, place)) for place, name in enumerate(SHARED)]
    batch = DecodeBatch(columns)
    batch.join(rows)
    run(batch)
    expected = [one_by_one(tiny_base, tiny_adapters.get(r.column), r.prompt) for r in rows]
    assert [r.tokens for r in rows] == expected
    assert len({tuple(tokens) for tokens in expected}) == len(SHARED)


def test_rows_that_join_and_leave_while_others_decode_change_nothing(
    columns: VariantSet, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    first = [row("plain", prompt(30, 1), 6), row("base", prompt(4, 2))]
    second = [row("rslora", prompt(50, 3)), row("plain", prompt(2, 4))]
    batch = DecodeBatch(columns)
    batch.join(first)
    for _ in range(9):
        batch.step()
    assert len(batch.rows) == 1
    batch.join(second)
    run(batch)
    for each in [*first, *second]:
        folder = tiny_adapters.get(each.column)
        assert each.tokens == one_by_one(tiny_base, folder, each.prompt, each.sampling.max_tokens)


@pytest.mark.parametrize("name", ["dora", "head"])
def test_adapters_beside_the_batch_answer_as_in_peft(
    columns: VariantSet, tiny_base: Path, tiny_adapters: dict[str, Path], name: str
) -> None:
    beside, shared = row(name, prompt(7, 5)), row("plain", prompt(9, 6))
    batches = DecodeBatch(columns), DecodeBatch(columns)
    batches[0].join([beside])
    batches[1].join([shared])
    for _ in range(TOKENS):
        for batch in batches:
            batch.step()
    assert beside.tokens == one_by_one(tiny_base, tiny_adapters[name], beside.prompt)
    assert shared.tokens == one_by_one(tiny_base, tiny_adapters["plain"], shared.prompt)
    assert not columns.columns[name].shared


def test_a_cancelled_row_leaves_at_the_next_token(columns: VariantSet) -> None:
    events: list[Event] = []
    leaving, staying = row("plain", prompt(5, 1), events=events), row("base", prompt(6, 2))
    batch = DecodeBatch(columns)
    batch.join([leaving, staying])
    leaving.cancelled = True
    batch.step()
    assert batch.rows == [staying] and len(leaving.tokens) == 1
    assert isinstance(events[-1], Done) and events[-1].finish == "cancelled"


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "llama", "opt"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", kind)
    folder = tiny_models.save_adapter(tmp_path / "adapter", base, fan_in_fan_out=kind == "gpt2")
    made = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    made.add("mine", folder)
    rows = [row("mine", prompt(12, 1), 12), row("base", prompt(5, 2), 12)]
    batch = DecodeBatch(made)
    batch.join(rows)
    run(batch)
    assert rows[0].tokens == one_by_one(base, folder, rows[0].prompt, 12)
    assert rows[1].tokens == one_by_one(base, None, rows[1].prompt, 12)


def test_a_quantised_base_answers_the_same_in_a_mixed_batch(tiny_base: Path, tiny_adapters: dict[str, Path]) -> None:
    made = VariantSet(load_base(str(tiny_base), quant="nf4", dtype="fp32"), load_tokenizer(str(tiny_base)))
    for name in SHARED[1:]:
        made.add(name, tiny_adapters[name])
    together = [row(name, prompt(5 + 3 * place, place), 12) for place, name in enumerate(SHARED)]
    batch = DecodeBatch(made)
    batch.join(together)
    run(batch)
    for each in together:
        alone, own = row(each.column, each.prompt, 12), DecodeBatch(made)
        own.join([alone])
        run(own)
        assert alone.tokens == each.tokens
