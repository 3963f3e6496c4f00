from app import catalog
from app.config.schema import RunConfig
from app.planner import PlanRequest, plan, suggestions
from app.planner.from_config import config_changes, request_from_config

MODEL = catalog.find("qwen3-4b")


def test_the_default_config_becomes_its_request() -> None:
    config = RunConfig()
    request = request_from_config(config, MODEL)
    assert request.method == config.method == "qlora"
    assert request.storage == "nf4-dq"
    assert (request.rank, request.seq_len) == (config.adapter.r, config.data.max_length)
    assert request.trained_dtype == "fp32"
    assert request.profile == "workbench"
    assert plan(request).allocated_peak > 0


def test_every_section_reaches_the_request() -> None:
    config = RunConfig().changed(
        {
            "quantization.load_in_4bit": False,
            "quantization.load_in_8bit": True,
            "adapter.r": 8,
            "adapter.target_modules": ["q_proj", "v_proj"],
            "adapter.dtype": "bf16",
            "adapter.use_dora": True,
            "data.max_length": 512,
            "data.packing": False,
            "training.optim": "adamw_8bit",
            "training.per_device_train_batch_size": 2,
            "training.gradient_accumulation_steps": 1,
            "memory.checkpointing": "every-2",
            "memory.vram_gb": 12.0,
            "model.attn_implementation": "eager",
            "model.dtype": "fp16",
        }
    )
    assert request_from_config(config, MODEL) == PlanRequest(
        model=MODEL,
        method="qlora",
        quant="int8",
        rank=8,
        targets=("q_proj", "v_proj"),
        dora=True,
        micro_batch=2,
        seq_len=512,
        gradient_accumulation=1,
        optimizer="adamw_8bit",
        checkpointing="every-2",
        attn="eager",
        dtype="fp16",
        adapter_dtype="bf16",
        packed=False,
        vram_gb=12.0,
        reserve_bytes=int(0.8 * (1 << 30)),
    )


def test_a_suggestion_can_be_put_into_the_config() -> None:
    config = RunConfig().changed({"memory.vram_gb": 6.0, "data.max_length": 8192, "memory.checkpointing": "none"})
    found = suggestions(request_from_config(config, MODEL))
    assert found
    for suggestion in found:
        changed = config.changed(config_changes(suggestion.changes))
        assert plan(request_from_config(changed, MODEL)).fits


def test_method_changes_keep_their_meaning() -> None:
    full = RunConfig().changed({"adapter.method": "full", "quantization.load_in_4bit": False})
    to_lora = full.changed(config_changes({"method": "lora", "quant": "none"}))
    assert to_lora.method == "lora"
    to_qlora = to_lora.changed(config_changes({"method": "qlora", "quant": "nf4-dq"}))
    assert to_qlora.method == "qlora"
    assert to_qlora.quantization.bnb_4bit_use_double_quant


def test_a_smaller_model_is_named_as_the_form_names_it() -> None:
    smaller = catalog.find("qwen3-4b")
    assert config_changes({"model": smaller, "targets": ("all-linear",)}) == {
        "model.name": "Qwen/Qwen3-4B",
        "adapter.target_modules": "all-linear",
    }
