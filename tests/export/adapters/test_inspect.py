"""The figures of an adapter's layers, against dense arithmetic and against bitsandbytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional as bnb
from transformers import AutoModelForCausalLM

from app.errors import ExportError
from app.export.adapters import inspect_job
from app.export.adapters.blend import Part, blend_layer
from app.export.adapters.inspect import (
    INT4_LEVELS,
    NF4_LEVELS,
    effective_rank,
    kept_rank,
    measure,
    rounded,
    singular_values,
)
from app.jobs.child import JobChild
from app.jobs.directory import create
from app.models.adapters import AdapterFolder, LoraUpdate
from app.models.tensors import read_checkpoint
from app.workspace import open_workspace
from tests.models import tiny_models


def dense(update: LoraUpdate) -> torch.Tensor:
    return update.scaling * update.b.double() @ update.a.double()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inspect")
    base = tiny_models.save_model(folder / "base", "llama")
    return base, tiny_models.save_adapter(folder / "adapter", base, use_rslora=True, rank_pattern={"q_proj": 3})


def test_every_figure_is_that_of_the_dense_update(pair: tuple[Path, Path]) -> None:
    weights = AutoModelForCausalLM.from_pretrained(pair[0], dtype=torch.float32).state_dict()
    stored = read_checkpoint(pair[0])
    for update in AdapterFolder(pair[1]).updates():
        found = measure(update, stored[f"{update.module}.weight"])
        values = torch.linalg.svdvals(dense(update))
        torch.testing.assert_close(torch.tensor(found.values).double(), values[: update.rank], rtol=1e-5, atol=1e-8)
        assert found.relative == pytest.approx(
            float(values.norm() / weights[f"{update.module}.weight"].norm()), rel=1e-5
        )
        cut = blend_layer([Part(update, 1.0)], "svd", found.kept_rank, 0.5, 0)
        lost = float((dense(update) - cut.b.double() @ cut.a.double()).norm() / values.norm())
        assert lost**2 <= 0.01
        if found.kept_rank > 1:
            assert float(values[: found.kept_rank - 1].square().sum() / values.square().sum()) < 0.99


def test_ranks_of_known_spectra() -> None:
    assert effective_rank(torch.ones(7).double()) == pytest.approx(7.0)
    assert effective_rank(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1.0)
    assert kept_rank(torch.tensor([1.0, 0.2, 0.01])) == 2
    assert kept_rank(torch.tensor([1.0, 0.0])) == 1
    zero = LoraUpdate("m", torch.randn(4, 8), torch.zeros(6, 4), 2.0)
    assert (kept_rank(singular_values(zero)), effective_rank(singular_values(zero))) == (0, 0.0)


def test_nf4_is_that_of_bitsandbytes_and_better_than_int4() -> None:
    torch.manual_seed(0)
    weight = torch.randn(128, 192) * 0.02
    packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    theirs = bnb.dequantize_4bit(packed, state)
    ours = rounded(weight, NF4_LEVELS)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    error = {levels: float((weight - rounded(weight, levels)).norm()) for levels in (NF4_LEVELS, INT4_LEVELS)}
    assert error[NF4_LEVELS] < 0.95 * error[INT4_LEVELS]
    assert torch.equal(rounded(torch.zeros(3, 5), NF4_LEVELS), torch.zeros(3, 5))


def run(folder: Path, adapter: Path, base: str | None = None) -> tuple[Any, dict[str, Any]]:
    job = create(open_workspace(folder), "inspect", {"adapter": str(adapter), "base": base})
    outcome, figures = inspect_job.run(JobChild(job))
    found = json.loads((job.result / "inspection.json").read_text())
    return {"outcome": outcome, **figures}, found


def test_the_job_writes_all_layers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    figures, found = run(tmp_path, pair[1])
    assert figures["outcome"] == "finished" and figures["layers"] == len(found["layers"]) == 14
    assert figures["rank"] == 8 and 1 <= figures["kept_rank"] <= 8 and not figures["notes"]
    assert all(0 < layer["nf4_error"] < layer["int4_error"] < 0.2 for layer in found["layers"])


def test_without_its_base_the_update_is_still_shown(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, found = run(tmp_path, pair[1], "nobody/never-fetched")
    assert "missing" in found["notes"][0] and all(layer["relative"] is None for layer in found["layers"])
    assert all(layer["values"] for layer in found["layers"])


def test_dora_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "dora", pair[0], use_dora=True)
    with pytest.raises(ExportError, match="DoRA"):
        run(tmp_path / "workspace", adapter)
