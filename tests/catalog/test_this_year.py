"""The models of this year: every entry builds in transformers and has the parameters that it states."""

from __future__ import annotations

from typing import Any

import pytest

from app import catalog
from app.catalog.reader import spec_from_config
from app.errors import ModelError

# Parameters of the language model: the publishers' sizes, counted on the meta device.
COUNTS = {
    "qwen3.5-0.8b": 752_393_024,
    "qwen3.5-2b": 1_881_825_088,
    "qwen3.5-4b": 4_205_751_296,
    "qwen3.5-9b": 8_953_803_264,
    "qwen3.5-27b": 26_895_998_464,
    "qwen3.5-35b-a3b": 34_660_610_688,
    "gemma-4-e2b": 4_628_569_344,
    "gemma-4-e4b": 7_463_013_376,
    "gemma-4-12b": 11_907_350_272,
    "gemma-4-26b-a4b": 25_233_141_760,
    "gemma-4-31b": 30_697_345_280,
    "ministral-3-3b": 3_429_006_336,
    "ministral-3-8b": 8_489_553_920,
    "ministral-3-14b": 13_506_073_600,
    "lfm2.5-1.2b": 1_170_340_608,
    "olmo-3-7b": 7_298_011_136,
    "granite-4.0-micro": 3_402_836_480,
    "glm-4.7-flash": 29_943_390_976,
    "gpt-oss-20b": 20_914_757_184,
    "smollm3-3b": 3_075_098_624,
}
ENTRIES = {entry.name: entry for entry in catalog.entries()}


@pytest.fixture(scope="module")
def meta_model() -> Any:
    """Return a function that builds a text config's model without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def build(config: dict[str, Any]) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))

    return build


@pytest.mark.parametrize("name", COUNTS)
def test_every_entry_builds_and_has_its_parameters(name: str, meta_model: Any) -> None:
    entry = ENTRIES[name]
    model = meta_model(dict(entry.config))
    assert model.num_parameters() == entry.listing.parameters == COUNTS[name]
    assert model.config.max_position_embeddings == entry.config["max_position_embeddings"]
    if "layer_types" in entry.config:
        assert len(entry.config["layer_types"]) == model.config.num_hidden_layers


def test_a_wrong_width_is_another_count(meta_model: Any) -> None:
    entry = ENTRIES["qwen3.5-0.8b"]
    wrong = dict(entry.config) | {"intermediate_size": 3456}
    assert meta_model(wrong).num_parameters() != COUNTS[entry.name]


def test_every_entry_says_what_is_known_of_it() -> None:
    for entry in catalog.entries():
        listing = entry.listing
        known = {listing.hub_id, *listing.aliases}
        assert set(listing.instruct) <= known, entry.name
        assert listing.licence and listing.parameters_source and listing.config_source, entry.name
        assert listing.file_bytes is None or listing.file_bytes > listing.parameters / 2, entry.name
        assert isinstance(listing.gated, bool), entry.name
    for name in COUNTS:
        listing = ENTRIES[name].listing
        assert listing.is_instruct and listing.file_bytes and not listing.gated
        assert ENTRIES[name].config["max_position_embeddings"] >= 65536


def test_weights_in_16_bits_take_two_bytes_each_but_for_mxfp4() -> None:
    for name in COUNTS:
        listing = ENTRIES[name].listing
        assert listing.file_bytes is not None
        share = listing.file_bytes / listing.parameters
        assert 0.5 < share < 0.7 if name == "gpt-oss-20b" else 2 <= share < 2.5, name


def test_an_architecture_without_a_formula_is_planned_or_refused_in_one_line() -> None:
    for name in COUNTS:
        entry = ENTRIES[name]
        try:
            spec = catalog.find(entry.listing.hub_id)
        except ModelError as error:
            assert entry.config["model_type"] in error.line() and "\n" not in error.line()
            continue
        assert spec.listing == entry.listing


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        ({"model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 3, "mlp_only_layers": [1]}, 3),
        ({"model_type": "qwen2_moe", "hidden_size": 64, "num_hidden_layers": 4, "decoder_sparse_step": 2}, 4),
        ({"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 2, "word_embed_proj_dim": 32}, 2),
        ({"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 2, "do_layer_norm_before": False}, 2),
    ],
)
def test_a_layout_that_a_formula_does_not_know_is_simulated(config: dict[str, Any], depth: int) -> None:
    spec = spec_from_config({"num_attention_heads": 4, "ffn_dim": 128, **config}, "odd")
    assert spec.simulated and spec.layers == depth and spec.family == config["model_type"]
