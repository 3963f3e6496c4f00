"""One tiny base with adapters of several kinds, shared by the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.engine.variants import VariantSet
from app.models.loading import load_base, load_tokenizer
from tests.models import tiny_models


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("engine") / "base", tie_word_embeddings=False)


@pytest.fixture(scope="session")
def tiny_adapters(tiny_base: Path) -> dict[str, Path]:
    made = {
        "plain": {"r": 8},
        "narrow": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        "rslora": {"r": 16, "use_rslora": True, "lora_alpha": 8},
        "patterned": {"r": 8, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"mlp.up_proj": 40}},
        "dora": {"r": 4, "use_dora": True},
        "head": {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    }
    return {
        name: tiny_models.save_adapter(tiny_base.parent / name, tiny_base, seed=seed, **settings)
        for seed, (name, settings) in enumerate(made.items())
    }


@pytest.fixture(scope="session")
def columns(tiny_base: Path, tiny_adapters: dict[str, Path]) -> VariantSet:
    """Return the base with all adapters; tests must leave it as it is."""
    made = VariantSet(load_base(str(tiny_base), quant="none", dtype="fp32"), load_tokenizer(str(tiny_base)))
    for name, folder in tiny_adapters.items():
        made.add(name, folder)
    return made
