from __future__ import annotations

import json
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from app.errors import ModelError
from app.models.loading import load_base, load_tokenizer, resolve_dtype
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("base"))


def test_nf4_means_nf4_with_double_quantisation_and_the_asked_compute_dtype(model_dir: Path) -> None:
    model = load_base(str(model_dir), quant="nf4", compute_dtype="bf16", dtype="bf16")
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(layers) == 14
    state = layers[0].weight.quant_state
    assert (state.quant_type, state.nested, layers[0].compute_dtype) == ("nf4", True, torch.bfloat16)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training


@pytest.mark.parametrize(("name", "kind"), [("none", torch.nn.Linear), ("int8", bnb.nn.Linear8bitLt)])
def test_other_formats(model_dir: Path, name: str, kind: type) -> None:
    model = load_base(str(model_dir), quant=name, dtype="fp32")  # type: ignore[arg-type]
    assert type(model.model.layers[0].mlp.up_proj) is kind
    assert torch.isfinite(model(torch.arange(5)[None]).logits).all()


def test_auto_is_fp32_on_a_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    assert resolve_dtype("auto") is torch.float32


def _gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    model.train()
    model.zero_grad()
    ids = torch.arange(40, 72)[None]
    model(ids, labels=ids, use_cache=False).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def _differences_after_an_evaluation(model_dir: Path, *, cure: bool) -> list[float]:
    model = load_base(str(model_dir), quant="nf4", dtype="bf16")
    if not cure:
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.support_avx512bf16_for_cpu = True
    peft = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    tiny_models.randomise(peft, seed=3)
    before = _gradients(peft)
    with torch.no_grad():
        peft.eval()(torch.arange(40, 72)[None])
    after = _gradients(peft)
    assert before and len(before) == len(after)
    return [float((a - b).norm() / a.norm()) for a, b in zip(before, after, strict=True)]


def test_gradients_after_an_evaluation_are_the_same_bits(model_dir: Path) -> None:
    assert max(_differences_after_an_evaluation(model_dir, cure=True)) == 0.0


@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit. an autograd kernel was not registered:UserWarning")
@pytest.mark.skipif(not has_avx512bf16(), reason="the fault exists on CPUs with AVX512-BF16 only")
def test_gradients_after_an_evaluation_are_wrong_without_the_cure(model_dir: Path) -> None:
    assert max(_differences_after_an_evaluation(model_dir, cure=False)) > 0.01


@pytest.mark.fault("A13")
def test_pickled_weights_are_refused_before_they_are_opened(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "config.json").write_text((model_dir / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickles"):
        load_base(str(tmp_path), quant="none")


@pytest.mark.fault("A14")
def test_code_of_a_model_is_never_run(tmp_path: Path, model_dir: Path) -> None:
    sentinel = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Foreign"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "foreign.py").write_text(f"open({str(sentinel)!r}, 'w')")
    (folder / "model.safetensors").write_bytes((model_dir / "model.safetensors").read_bytes())
    with pytest.raises(ModelError):
        load_base(str(folder), quant="none")
    assert not sentinel.exists()


def test_damaged_weights_are_named(tmp_path: Path, model_dir: Path) -> None:
    for path in model_dir.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:1000] if path.suffix == ".safetensors" else data)
    with pytest.raises(ModelError, match="damaged"):
        load_base(str(tmp_path), quant="none")


def test_a_foreign_quantisation_is_refused(tmp_path: Path, model_dir: Path) -> None:
    for path in model_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((model_dir / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="gptq"):
        load_base(str(tmp_path), quant="nf4")


def test_the_tokenizer_brings_its_template_and_pads(model_dir: Path) -> None:
    tokenizer = load_tokenizer(str(model_dir))
    assert tokenizer.pad_token_id is not None
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
