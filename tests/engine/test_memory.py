"""Each class is decoded in a way that gives the answers of whole rows, however it remembers, or misremembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from app.engine.batching.kv_cache import GrowingLayer
from app.engine.loaded_model import LoadedModel
from app.engine.variants import BASE, VariantSet
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models, todays_models

pytestmark = pytest.mark.filterwarnings("ignore")
WAYS = {
    "llama": "together",
    "gemma4_text": "together",
    # States take no padding.
    "lfm2": "one by one",
    # They take a cache and give other answers with it than without.
    "falcon_mamba": "read again",
    "recurrent_gemma": "read again",
    # They pass over it, or have one of their own.
    "xlnet": "read again",
    "minimax": "read again",
    "openai-gpt": "read again",
}


class TokensFirst(Qwen3MLP):  # type: ignore[misc]
    """What FSMT and XLNet do: (tokens, rows, width) in their layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]


def opened(folder: Path, kind: str) -> VariantSet:
    base = todays_models.save(folder / kind, kind)
    return VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))


@pytest.mark.parametrize("kind", WAYS)
def test_a_class_is_decoded_as_it_reads_whole_rows(tmp_path: Path, kind: str) -> None:
    columns = opened(tmp_path, kind)
    assert columns._base.memory == WAYS[kind]
    rows = [[7, 30, 41, 9, 55, 100, 23, 8, 12, 77], [60, 61, 62]]
    cache = columns.fresh_cache(2)
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    for _ in range(4):
        positions = (mask.cumsum(1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
        found = columns.forward([BASE] * 2, ids, mask, positions, cache)
        with torch.no_grad():
            whole = [columns.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1] for row in rows]
        torch.testing.assert_close(found, torch.stack(whole), rtol=1e-3, atol=1e-3)
        ids = found.argmax(-1)[:, None]
        rows = [[*row, int(new)] for row, new in zip(rows, ids, strict=True)]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)


def test_a_memory_that_forgets_is_not_trusted(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_base(str(tiny_base), quant="none", dtype="fp32")
    assert LoadedModel(model).memory == "together"
    update = GrowingLayer.update

    def forgetful(self: GrowingLayer, keys: torch.Tensor, values: torch.Tensor, *rest: Any) -> Any:
        found = update(self, keys, values, *rest)
        self.keys[..., :1, :] = 0
        return found

    monkeypatch.setattr(GrowingLayer, "update", forgetful)
    assert LoadedModel(model).memory == "one by one"


def test_the_cache_of_layers_that_differ_is_measured(tmp_path: Path) -> None:
    columns = opened(tmp_path, "gemma4_text")
    config = columns.model.config
    with torch.no_grad():
        cache = columns.model(input_ids=torch.arange(5, 9)[None], use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.keys is not None)
    assert len({layer.keys.shape[-1] for layer in cache.layers}) > 1, config
    assert columns.cache_bytes_per_token == kept // 4
    assert opened(tmp_path, "lfm2").cache_bytes_per_token > 0
    assert opened(tmp_path, "falcon_mamba").cache_bytes_per_token == 1


def test_an_adapter_on_layers_that_are_given_tokens_first_runs_beside(
    tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    model = load_base(str(tiny_base), quant="none", dtype="fp32")
    for layer in model.model.layers:
        layer.mlp.__class__ = TokensFirst
    columns = VariantSet(model, load_tokenizer(str(tiny_base)))
    assert not columns.add("plain", tiny_adapters["plain"]).shared
    assert columns.add("narrow", tiny_adapters["narrow"]).shared, "this one has layers of the attention alone"
    with tiny_models.quiet_peft():
        theirs = PeftModel.from_pretrained(
            load_base(str(tiny_base), quant="none", dtype="fp32"), tiny_adapters["plain"]
        )
    with torch.no_grad():
        expected = theirs.eval()(input_ids=columns._probe).logits[:, -1]
    torch.testing.assert_close(columns._logits_of(["plain"]), expected, rtol=1e-4, atol=1e-4)
