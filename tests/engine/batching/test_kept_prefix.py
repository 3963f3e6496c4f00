"""Second turns that begin where the first ended, held to second turns that read everything anew."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Mamba2Config, MistralConfig

from app.engine.batching.adapter_stack import Mix
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.kept_prefix import KeptPrefixes
from app.engine.batching.sequence import DecodeSequence, Done, Event
from app.engine.scheduler import Decoder
from app.engine.variants import VariantSet
from app.models.loading import load_base, load_tokenizer
from tests.engine.batching.test_decode_batch import prompt, row, run
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
ROOM = 64 << 20
MIX = Mix((("plain", 0.6), ("rslora", 0.7)))
COLUMNS = ["base", "plain", "narrow", "rslora", "patterned", MIX]


def asked(source: str | Mix, ids: list[int], tokens: int = 20) -> DecodeSequence:
    made = row("base" if isinstance(source, Mix) else source, ids, tokens)
    made.mix = source if isinstance(source, Mix) else None
    return made


def answered(columns: VariantSet, rows: list[DecodeSequence], kept: KeptPrefixes | None = None) -> list[DecodeSequence]:
    batch = DecodeBatch(columns, kept)
    batch.join(rows)
    run(batch)
    return rows


def next_prompt(last: DecodeSequence, more: int, seed: int) -> list[int]:
    return [*last.prompt, *last.tokens, *prompt(more, seed)]


def two_turns(
    columns: VariantSet, sources: Sequence[str | Mix], kept: KeptPrefixes | None, first: int = 60
) -> tuple[list[DecodeSequence], list[DecodeSequence]]:
    """Answer a question by every source, with prompts of unequal length, and then the next one."""
    before = answered(columns, [asked(source, prompt(first + 7 * i, i)) for i, source in enumerate(sources)], kept)
    after = [asked(last.source, next_prompt(last, 9, 50 + i)) for i, last in enumerate(before)]
    return before, answered(columns, after, kept)


def test_a_second_turn_reads_only_what_is_new_and_answers_the_same(columns: VariantSet) -> None:
    before, plain = two_turns(columns, COLUMNS, None)
    _, kept = two_turns(columns, COLUMNS, KeptPrefixes(ROOM))
    assert [each.tokens for each in kept] == [each.tokens for each in plain]
    assert [each.cached for each in kept] == [len(last.prompt) + len(last.tokens) - 1 for last in before]
    assert not any(each.cached for each in plain)


@pytest.mark.parametrize("name", ["dora", "head"])
def test_columns_beside_the_batch_keep_theirs(columns: VariantSet, name: str) -> None:
    (_, plain), (_, kept) = two_turns(columns, [name], None), two_turns(columns, [name], KeptPrefixes(ROOM))
    assert kept[0].tokens == plain[0].tokens and kept[0].cached == 79


def test_a_column_never_goes_on_from_what_another_has_read(columns: VariantSet) -> None:
    store = KeptPrefixes(ROOM)
    first = answered(columns, [asked("plain", prompt(60, 1))], store)[0]
    other_weights = Mix((("plain", 0.6), ("rslora", 0.8)))
    answered(columns, [asked(other_weights, prompt(60, 1))], store)
    others = [asked(source, next_prompt(first, 9, 2)) for source in ("base", "rslora", MIX)]
    assert [each.cached for each in answered(columns, others, store)] == [0, 0, 0]


def test_a_start_that_differs_is_kept_up_to_there(columns: VariantSet) -> None:
    """A template that leaves thinking out of earlier turns changes the text behind the question."""
    store = KeptPrefixes(ROOM)
    first = answered(columns, [asked("plain", prompt(60, 1))], store)[0]
    changed = [*first.prompt, 7 if first.tokens[0] != 7 else 8, *first.tokens[5:], *prompt(9, 3)]
    kept = answered(columns, [asked("plain", changed)], store)[0]
    assert kept.cached == 60
    assert kept.tokens == answered(columns, [asked("plain", changed)])[0].tokens


def test_the_same_question_again_reads_its_last_token_alone(columns: VariantSet) -> None:
    store = KeptPrefixes(ROOM)
    first = answered(columns, [asked("plain", prompt(60, 1))], store)[0]
    again = answered(columns, [asked("plain", prompt(60, 1))], store)[0]
    assert again.cached == 59 and again.tokens == first.tokens


def test_rows_with_and_without_a_start_join_others_under_way(columns: VariantSet) -> None:
    def turns(store: KeptPrefixes | None) -> list[list[int]]:
        talk = answered(columns, [asked("plain", prompt(90, 1)), asked("base", prompt(40, 2))], store)
        running = asked("rslora", prompt(33, 3), 60)
        batch = DecodeBatch(columns, store)
        batch.join([running])
        for _ in range(5):
            batch.step()
        more = [
            asked("plain", next_prompt(talk[0], 9, 4)),
            asked("base", next_prompt(talk[1], 80, 5)),
            asked("narrow", prompt(25, 6)),
            asked("plain", prompt(50, 7)),
        ]
        batch.join(more)
        run(batch)
        assert [each.cached > 0 for each in more] == [store is not None, store is not None, False, False]
        return [each.tokens for each in (running, *more)]

    assert turns(KeptPrefixes(ROOM)) == turns(None)


def test_a_long_new_part_does_not_make_the_others_read_as_much(columns: VariantSet) -> None:
    store = KeptPrefixes(ROOM)
    talk = answered(columns, [asked("plain", prompt(90, 1)), asked("base", prompt(90, 2))], store)
    more = answered(
        columns,
        [asked("plain", next_prompt(talk[0], 9, 4)), asked("base", next_prompt(talk[1], 100, 5))],
        store,
    )
    assert [each.cached for each in more] == [109, 109]


def test_an_adapter_of_the_same_name_begins_anew(tiny_base: Path, tiny_adapters: dict[str, Path]) -> None:
    made = VariantSet(load_base(str(tiny_base), quant="none", dtype="fp32"), load_tokenizer(str(tiny_base)))
    made.add("mine", tiny_adapters["plain"])
    store = KeptPrefixes(ROOM)
    first = answered(made, [asked("mine", prompt(60, 1))], store)[0]
    made.remove("mine")
    made.add("mine", tiny_adapters["rslora"])
    second = answered(made, [asked("mine", next_prompt(first, 9, 2))], store)[0]
    assert second.cached == 0
    assert second.tokens == answered(made, [asked("mine", next_prompt(first, 9, 2))])[0].tokens


def test_bytes_are_bounded_and_the_oldest_goes_first(columns: VariantSet) -> None:
    one = 60 + 20 - 1
    store = KeptPrefixes(2 * one * columns.cache_bytes_per_token)
    rows = [answered(columns, [asked(name, prompt(60, 1))], store)[0] for name in ("base", "plain", "narrow")]
    assert store.size == 2 * one * columns.cache_bytes_per_token
    found = [store.start((each.source, (columns.columns[each.column],)), each.prompt).length for each in rows]
    assert found == [0, 59, 59]
    store.fit(one * columns.cache_bytes_per_token)
    assert store.size == one * columns.cache_bytes_per_token
    store.clear()
    assert store.size == 0


def test_a_talk_that_goes_on_keeps_its_last_turn_only(columns: VariantSet) -> None:
    store = KeptPrefixes(ROOM)
    before, after = two_turns(columns, ["plain"], store)
    assert store.size == (len(after[0].prompt) + 19) * columns.cache_bytes_per_token
    for seed in range(10):
        answered(columns, [asked("plain", [*before[0].prompt, *prompt(30, seed)], 2)], store)
    assert store.size <= 4 * 110 * columns.cache_bytes_per_token


def test_answers_that_failed_are_not_kept(columns: VariantSet) -> None:
    store = KeptPrefixes(ROOM)
    batch = DecodeBatch(columns, store)
    batch.join([asked("plain", prompt(60, 1)), asked("base", prompt(60, 1))])
    batch.fail_column("plain", "unloaded")
    batch.fail("out of memory")
    assert store.size == 0


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "llama", "opt"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", kind)
    made = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    (_, plain), (_, kept) = two_turns(made, ["base"], None), two_turns(made, ["base"], KeptPrefixes(ROOM))
    assert kept[0].tokens == plain[0].tokens and kept[0].cached == 79


def test_a_sliding_window_forgets_as_it_does_without(tmp_path: Path) -> None:
    sizes = tiny_models.config("llama").to_dict()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = MistralConfig(
        **{name: sizes[name] for name in names}, vocab_size=sizes["vocab_size"], head_dim=32, sliding_window=24
    )
    made = model_of(tmp_path, config)
    (_, plain), (_, kept) = two_turns(made, ["base"], None), two_turns(made, ["base"], KeptPrefixes(ROOM))
    assert kept[0].tokens == plain[0].tokens and kept[0].cached == 79
    wide = model_of(tmp_path / "wide", MistralConfig(**{**config.to_dict(), "sliding_window": None}))
    assert two_turns(wide, ["base"], None)[1][0].tokens != plain[0].tokens


def test_positions_that_move_with_the_length_are_read_anew(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    base = tiny_models.save_model(tmp_path / "base", "llama", max_position_embeddings=64, rope_parameters=rope)
    made = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    assert two_turns(made, ["base"], KeptPrefixes(ROOM))[1][0].cached == 0


def test_a_state_is_read_anew(tmp_path: Path) -> None:
    config = Mamba2Config(
        hidden_size=64,
        state_size=16,
        num_heads=4,
        head_dim=32,
        n_groups=1,
        num_hidden_layers=2,
        vocab_size=tiny_models.VOCAB,
        chunk_size=16,
    )
    made = model_of(tmp_path, config)
    assert made.keeps_state
    (_, plain), (_, kept) = two_turns(made, ["base"], None), two_turns(made, ["base"], KeptPrefixes(ROOM))
    assert kept[0].cached == 0 and kept[0].tokens == plain[0].tokens


def model_of(folder: Path, config: Any) -> VariantSet:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.08 + (1.0 if parameter.ndim == 1 else 0.0))
    model.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return VariantSet(load_base(str(folder), quant="none", dtype="fp32"), load_tokenizer(str(folder)))


@contextmanager
def decoder(columns: VariantSet, **settings: Any) -> Iterator[Decoder]:
    made = Decoder(columns, **settings)
    made.start()
    try:
        yield made
    finally:
        made.close()


def ask(decoder: Decoder, source: str, ids: list[int]) -> tuple[DecodeSequence, Done]:
    events: queue.Queue[Event] = queue.Queue()
    made = asked(source, ids)
    made.deliver = events.put
    decoder.submit(made)
    while not isinstance(event := events.get(timeout=60), Done):
        pass
    return made, event


@pytest.mark.parametrize(("settings", "cached"), [({}, 79), ({"keep_prefixes": False}, 0), ({"cache_bytes": 1}, 0)])
def test_the_decoder_keeps_unless_told_not_to(columns: VariantSet, settings: dict[str, Any], cached: int) -> None:
    with decoder(columns, **settings) as running:
        first, _ = ask(running, "plain", prompt(60, 1))
        second, done = ask(running, "plain", next_prompt(first, 9, 2))
    assert done.cached_tokens == cached
    assert second.tokens == answered(columns, [asked("plain", second.prompt)])[0].tokens


def test_rows_under_way_get_the_bytes_that_kept_turns_hold(columns: VariantSet) -> None:
    room = 200 * columns.cache_bytes_per_token
    with decoder(columns, cache_bytes=room) as running:
        first, _ = ask(running, "plain", prompt(60, 1))
        assert running.call(lambda: running._kept.size).result() > 0  # type: ignore[union-attr]
        ask(running, "base", prompt(190, 2))
        assert ask(running, "plain", next_prompt(first, 9, 2))[1].cached_tokens == 0


def test_an_adapter_that_is_unloaded_takes_its_turns_along(tiny_base: Path, tiny_adapters: dict[str, Path]) -> None:
    made = VariantSet(load_base(str(tiny_base), quant="none", dtype="fp32"), load_tokenizer(str(tiny_base)))
    made.add("mine", tiny_adapters["plain"])
    with decoder(made) as running:
        ask(running, "mine", prompt(60, 1))
        running.remove("mine").result()
        assert running.call(lambda: running._kept.size).result() == 0  # type: ignore[union-attr]
