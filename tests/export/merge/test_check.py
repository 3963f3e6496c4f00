"""The merge's check, fed with wrong answers: each must be noticed, also where the adapter is mild."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import ExportError
from app.export.merge.check import Gap, Measurement, compare, measure
from app.export.merge.report import CANNOT_TELL, Receipt, Source
from app.export.targets.report import ExportReceipt
from tests.export.merging import merge
from tests.models import tiny_models

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EQUAL = Gap(1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def mild(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base, an adapter whose whole effect is below the limit of the mean KL, and the merged model."""
    home = tmp_path_factory.mktemp("mild")
    base = tiny_models.save_model(home / "base", "qwen3")
    adapter = tiny_models.save_adapter(home / "adapter", base, scale=0.008, target_modules=LINEAR)
    return base, adapter, merge(adapter, home / "merged")


def receipt(measured: Measurement | None) -> Receipt:
    return Receipt("m", Source("0", {}), Source("b", {}), "bf16", {}, 0.0, 0.0, 0, 0, 0, measured)


def scaled(adapter: Path, target: Path, factor: float) -> Path:
    """Return a copy of an adapter whose update is `factor` times as large."""
    shutil.copytree(adapter, target)
    tensors = load_file(adapter / WEIGHTS)
    save_file({name: t * factor if "lora_B" in name else t for name, t in tensors.items()}, target / WEIGHTS)
    return target


def test_a_mild_adapter_s_merge_passes_and_a_copy_of_the_base_does_not(
    tmp_path: Path, mild: tuple[Path, Path, Path]
) -> None:
    base, adapter, merged = mild
    right = measure(base, adapter, merged, "fp32", nf4=False)
    assert 0.0001 < right.base.mean_kl < 0.02 and receipt(right).verdict == "pass", right
    copy = receipt(measure(base, adapter, base, "fp32", nf4=False))
    assert copy.measured is not None and copy.measured.merged.mean_kl < 0.02
    assert copy.verdict == "warn" and "nearer" in copy.reasons[-1], copy.measured
    half = merge(scaled(adapter, tmp_path / "half", 0.5), tmp_path / "half-merged")
    assert receipt(measure(base, adapter, half, "fp32", nf4=False)).verdict == "warn"


def test_an_adapter_that_changes_nothing_leaves_nothing_to_tell(tmp_path: Path, mild: tuple[Path, Path, Path]) -> None:
    base, adapter, _ = mild
    none = scaled(adapter, tmp_path / "none", 0.0)
    found = receipt(measure(base, none, merge(none, tmp_path / "merged"), "fp32", nf4=False))
    assert found.verdict == CANNOT_TELL and found.reasons[0].startswith("cannot tell")
    assert found.answer(tmp_path).verdict == CANNOT_TELL and found.answer(tmp_path).base_mean_kl == 0
    assert f"Verdict: **{CANNOT_TELL}**" in found.text()
    # The file may be right, but nothing that is made from it is proven any better.
    assert ExportReceipt("m", found.as_dict()).verdict == CANNOT_TELL
    assert ExportReceipt("m", found.as_dict(), reasons=["1 value"]).verdict == "warn"


@pytest.mark.parametrize(
    ("merged", "base", "verdict"),
    [
        (EQUAL, Gap(0.9, 0.01, 1.0), "pass"),
        (Gap(0.9, 0.01, 1.0), Gap(0.5, 1.0, 9.0), "warn"),
        (Gap(1.0, 0.03, 1.0), Gap(0.5, 1.0, 9.0), "warn"),
        (Gap(1.0, 0.001, 1.0), Gap(1.0, 0.001, 1.0), "warn"),
        (Gap(1.0, float("nan"), 1.0), Gap(1.0, 0.01, 1.0), "warn"),
        (Gap(1.0, 0.5, 1.0), EQUAL, "warn"),
        (EQUAL, EQUAL, CANNOT_TELL),
    ],
)
def test_the_verdict_of_each_finding(merged: Gap, base: Gap, verdict: str) -> None:
    assert receipt(Measurement("fp32", 1, merged, base, None, None)).verdict == verdict


def test_logits_that_are_no_numbers_are_far_off() -> None:
    right = [torch.randn(3, 8), torch.randn(3, 8)]
    wrong = [right[0].clone(), right[1]]
    wrong[0][1, 2] = float("nan")
    found = compare(right, wrong)
    assert not found.max_logit_diff <= 1e9 and not found.mean_kl <= 1e9


@pytest.mark.parametrize("kind", ["prefix", "untargeted", "extra", "missing", "no-such-target"])
def test_an_adapter_that_peft_would_not_take_whole_is_an_error(
    tmp_path: Path, mild: tuple[Path, Path, Path], kind: str
) -> None:
    adapter = Path(shutil.copytree(mild[1], tmp_path / "adapter"))
    config, tensors = json.loads((adapter / CONFIG).read_text()), load_file(adapter / WEIGHTS)
    if kind == "prefix":
        tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    elif kind == "untargeted":
        config["target_modules"] = [name for name in config["target_modules"] if name != "q_proj"]
    elif kind == "extra":
        config["layers_to_transform"] = [0]
    elif kind == "missing":
        tensors = {name: tensor for name, tensor in tensors.items() if "layers.1." not in name}
    else:
        config["target_modules"] = ["nothing"]
    (adapter / CONFIG).write_text(json.dumps(config))
    save_file(tensors, adapter / WEIGHTS, {"format": "pt"})
    with pytest.raises(ExportError, match=r"lacks|ignore|PEFT") as caught:
        merge(adapter, tmp_path / "out")
    assert kind == "no-such-target" or "lora_" in caught.value.line()
    assert not (tmp_path / "out").exists()
