"""Mixtures of experts the whole way: loaded in 4 bits, trained, stopped and resumed, answered and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from app.config.schema import RunConfig
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.variants import VariantSet
from app.export.merge import mxfp4_base
from app.export.merge.base_model import BaseModel
from app.jobs.directory import JobDirectory
from app.models.loading import load_base, load_tokenizer
from app.models.moe.experts import has_stacks
from app.models.tensors import read_checkpoint
from app.workspace import open_workspace
from tests.engine.batching.test_decode_batch import prompt, row
from tests.export.merging import merge
from tests.models.moe_models import save_moe, save_mxfp4
from tests.models.tiny_models import quiet_peft
from tests.training.in_process import go, prepare, run, small, stop_at

# PEFT 0.21 uses names that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore")


# Adapters on experts as all-linear means them and as they are named, and on the attention alone.
RUNS: dict[str, tuple[str, str | list[str]]] = {
    "qwen3_moe": ("qwen3_moe", "all-linear"),
    "mxfp4": ("mxfp4", "all-linear"),
    "mxfp4, experts": ("mxfp4", ["q_proj", "experts"]),
}


@pytest.fixture(scope="module", params=list(RUNS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobDirectory]:
    """Return a base and a run on it that nothing has disturbed."""
    place = tmp_path_factory.mktemp("moe")
    kind, targets = RUNS[request.param]
    base = save_mxfp4(place / "base") if kind == "mxfp4" else save_moe(place / "base", kind)
    return base, run(open_workspace(place / "workspace"), settings(base, targets))


def settings(base: Path, targets: str | list[str]) -> RunConfig:
    return small(
        adapter__target_modules=targets,
        model__name=str(base),
        data__packing=False,
        training__max_steps=4,
        training__eval_steps=2,
        training__save_steps=2,
        training__learning_rate=0.05,
    )


def adapter_of(job: JobDirectory) -> Path:
    return job.result / "adapter"


def in_4_bits(base: Path) -> Any:
    model = load_base(str(base), dtype="fp32")
    assert has_stacks(model)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(3, 67)[None], use_cache=False).logits
        return found


def beside_peft(base: Path, adapter: Path) -> torch.Tensor:
    """Return what plain transformers and PEFT answer over the base as it is published, in float32."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with quiet_peft():
        return logits(PeftModel.from_pretrained(model, str(adapter)))


def test_a_run_trains_and_resumes_bitwise(trained: tuple[Path, JobDirectory], tmp_path: Path) -> None:
    base, undisturbed = trained
    assert undisturbed.status().state == "finished", undisturbed.status().reason
    job = prepare(open_workspace(tmp_path), settings(base, undisturbed.job["config"]["adapter"]["target_modules"]))
    stop_at(job, 2)
    assert job.status().state == "stopped"
    job.stop_file.unlink(missing_ok=True)
    go(job)
    name = "adapter_model.safetensors"
    assert (adapter_of(job) / name).read_bytes() == (adapter_of(undisturbed) / name).read_bytes()


def test_a_column_answers_as_peft_does_token_for_token(trained: tuple[Path, JobDirectory]) -> None:
    base, job = trained
    columns = VariantSet(in_4_bits(base), load_tokenizer(str(base)))
    columns.add("trained", adapter_of(job))
    asked = [row(name, prompt(9 + 7 * place, place), 12) for place, name in enumerate(["trained", "base", "trained"])]
    # An adapter on experts runs beside the base, one on attention alone in one batch with it.
    together = [asked] if columns.columns["trained"].shared else [asked[::2], asked[1:2]]
    for rows in together:
        batch = DecodeBatch(columns)
        batch.join(rows)
        for _ in range(12):
            batch.step()
    with quiet_peft():
        adapted = PeftModel.from_pretrained(in_4_bits(base), str(adapter_of(job))).eval()
    for place, one in enumerate(asked):
        ids = torch.tensor([prompt(9 + 7 * place, place)])
        wanted = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
        wanted |= {"eos_token_id": None, "pad_token_id": 0}
        if one.column == "base":
            with adapted.disable_adapter():
                found = adapted.generate(**wanted)
        else:
            found = adapted.generate(**wanted)
        assert one.tokens == found[0, ids.shape[1] :].tolist()


def test_the_merge_is_base_plus_adapter_in_float32(trained: tuple[Path, JobDirectory], tmp_path: Path) -> None:
    base, job = trained
    out = merge(adapter_of(job), tmp_path / "out", base=str(base), dtype=torch.float32, shard_bytes=100_000)
    model, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert not hasattr(model.config, "quantization_config")
    expected = beside_peft(base, adapter_of(job))
    torch.testing.assert_close(logits(model), expected, rtol=2e-4, atol=2e-4)
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    assert float((plain - expected).abs().max()) > 0.01, "the adapter changes nothing"


def test_a_base_in_mxfp4_is_read_exactly_and_said(tmp_path: Path) -> None:
    base = BaseModel("base", save_mxfp4(tmp_path))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for name in ("gate_up_proj", "down_proj"):
        full = f"model.layers.1.mlp.experts.{name}"
        assert torch.equal(base.tensors[full].read(), theirs.get_parameter(full))
        for first, last in ((0, 1), (5, 40), (31, 33), (32, 64)):
            part = base.tensors[full].inner(2).read(first, last)
            assert torch.equal(part, theirs.get_parameter(full)[2, first:last])
    assert "MXFP4" in mxfp4_base.note(base.tensors)
    assert not mxfp4_base.note({n: t for n, t in read_checkpoint(tmp_path).items() if "experts" not in n})
