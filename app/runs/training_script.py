"""A run as one self-contained Python script on transformers, peft and trl, which does the same without the workbench.

The script is text made from the RunConfig; nothing heavy is imported here. It reads the Arrow file of tokens, labels
and packed lengths that the run itself read, so that rows, masks and packing are the same by construction. What the
workbench adds without changing a number is left out: the rehearsal of the longest batch, checkpoints that survive a
kill, the ladder, the answers to fixed prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app import catalog
from app.config.objectives import WITH_REFERENCE
from app.config.schema import RunConfig
from app.config.sections import Objective
from app.data.dataset.build import BuiltDataset, recorded
from app.errors import JobError, keyed
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.planner import settled
from app.planner.packing import SEPARATE_ROWS
from app.reading import read_object
from app.runs.submission.submit import config_of
from app.training.memory import oom_fallback
from app.training.trainers.settings import TRL_NAMES, lora_settings, trl_settings

# Modules of whole models outside of their language model.
_TOWERS = r".*(?:vision|visual|audio|projector).*"
_DTYPES = {"bf16": "torch.bfloat16", "fp16": "torch.float16", "fp32": "torch.float32"}


@dataclass(frozen=True)
class _Code:
    """An expression, written as it is."""

    text: str


def recipe(job: JobDirectory) -> str:
    """Return the script of a training run. Raises JobError for other jobs and before the run has read its data."""
    config = oom_fallback.lowered(job, settled.applied(config_of(job), job.path)).settled()
    rows = _rows_of(job)
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    if spec is not None and spec.encodes:
        raise JobError(
            keyed("has_no_script", "{id} has no script", id=job.id),
            keyed(
                "the_script_is_for_decoders", "its base is an encoder with a decoder, and the script trains decoders"
            ),
            keyed("resume_or_repeat_it_here", "repeat the run in the workbench"),
        )
    # Packing was wished and was not to be had: the rows were then grouped by length.
    if config.data.packing and not read_object(job.path / "dataset.json").get("packed", True):
        config = config.changed(SEPARATE_ROWS)
    return script(config, rows, f"The run {job.id}", job.job.get("versions", {}))


def _rows_of(job: JobDirectory) -> BuiltDataset:
    built = recorded(job.path / "dataset.json", job.path.parents[1] / "datasets")
    if built is None:
        raise JobError(
            keyed("has_no_tokenised_rows", "{id} has no tokenised rows", id=job.id),
            keyed("the_script_reads_those_that_the", "the script reads those that the run has read"),
            keyed("start_the_run_first", "start the run first"),
        )
    return built


def _sees(config: RunConfig) -> bool:
    """Tell whether the base has a vision tower, which the workbench leaves out and this script loads."""
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    return spec is not None and spec.sees


def _class_of(config: RunConfig) -> str:
    return "AutoModelForImageTextToText" if _sees(config) else "AutoModelForCausalLM"


def _lora(config: RunConfig) -> dict[str, object]:
    """Return the adapter's settings; in a base that sees, names of modules would reach into the tower."""
    settings: dict[str, object] = dict(lora_settings(config))
    if _sees(config):
        settings["exclude_modules"] = _TOWERS
    return settings


def script(config: RunConfig, rows: BuiltDataset, title: str, versions: dict[str, str]) -> str:
    """Return the script for a config and the rows built for it."""
    packing = config.data.packing
    validation = rows.validation_packed if packing else rows.validation_rows
    parts = [
        _head(config, rows, title, versions),
        _imports(config, validation is not None),
        _constants(config, rows.packed if packing else rows.rows, validation),
        _PICK_DTYPE if config.model.dtype == "auto" else "",
        _base(config),
        "" if config.adapter.method == "full" else _adapter(config),
        _arguments(config, validation is not None),
        _trainer(config, validation is not None),
    ]
    return "\n".join(part for part in parts if part)


def _head(config: RunConfig, rows: BuiltDataset, title: str, versions: dict[str, str]) -> str:
    manifest, data = rows.manifest, config.data
    made = "\n".join(f"    {name} {version}" for name, version in versions.items())
    return f'''"""{title} of LoRA Workbench as one script on transformers, peft and trl.

It reads the rows as the run read them: token ids, labels and, when packed, the lengths of the documents in a row.
The workbench wrote them: {manifest["rows"]} rows of {_quiet(manifest.get("file", ""))},
at most {data.max_length} tokens long, trained on: {data.train_on}.

    python recipe.py [OUTPUT_FOLDER]
    accelerate launch --num_processes 2 recipe.py [OUTPUT_FOLDER]

Versions of the run:
{made}
"""
'''


def _imports(config: RunConfig, validate: bool) -> str:
    """Return the imports that this script needs and no others."""
    full, quantization = config.adapter.method == "full", config.quantization
    early = config.training.early_stopping_patience is not None and validate
    from_transformers = [
        _class_of(config),
        "AutoTokenizer",
        *(["BitsAndBytesConfig"] if quantization.load_in_4bit or quantization.load_in_8bit else []),
        *(["EarlyStoppingCallback"] if early else []),
        *([] if full else ["set_seed"]),
    ]
    optimizer = _optimizer_maker(config)
    module, configuration, trainer = TRL_NAMES[config.training.objective]
    begun = config.adapter.start_from
    from_peft = "LoraConfig, PeftModel" if begun else "LoraConfig, get_peft_model"
    lines = [
        "import json",
        "import os",
        "import sys",
        "",
        "import torch",
        "from accelerate import PartialState",
        "from datasets import Dataset",
        *([] if full else [f"from peft import {from_peft}"]),
        *([f"from peft.optimizers import {optimizer}"] if optimizer else []),
        f"from transformers import {', '.join(from_transformers)}",
        f"from {module} import {configuration}, {trainer}",
    ]
    return "\n".join(lines) + "\n"


def _optimizer_maker(config: RunConfig) -> str:
    """Return the name of PEFT's maker of the optimiser, or nothing where the trainer makes it by its name."""
    if config.training.optim == "lora_fa":
        return "create_lorafa_optimizer"
    return "create_loraplus_optimizer" if config.adapter.loraplus_lr_ratio is not None else ""


def _quiet(text: str) -> str:
    """Return a file's name as it may stand in a docstring."""
    return "".join(letter for letter in text if letter.isprintable() and letter not in '"\\')[:120]


def _constants(config: RunConfig, training: Path, validation: Path | None) -> str:
    lines = {
        "MODEL": resolve(config.model.name),
        "REVISION": config.model.revision,
        "ROWS": str(training),
        "VALIDATION_ROWS": str(validation) if validation else None,
        **({"START": config.adapter.start_from} if config.adapter.start_from else {}),
        "OUTPUT": _Code('sys.argv[1] if len(sys.argv) > 1 else "recipe-output"'),
        "GPU": _Code("torch.accelerator.current_accelerator(check_available=True)  # none on a CPU"),
        "PROCESSES": _Code('int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate launch'),
    }
    return "\n".join(f"{name} = {_text(value)}" for name, value in lines.items()) + "\n"


_PICK_DTYPE = '''
def pick_dtype():
    """bf16 where the GPU can, else fp16; fp32 on a CPU."""
    if GPU is None:
        return torch.float32
    if GPU.type == "mps":
        able = torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        able = torch.get_device_module(GPU).is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if able else torch.float16

'''


def _base(config: RunConfig) -> str:
    attention, quantization = config.model.attn_implementation, _quantization(config)
    made = f"quantization = {quantization}\n" if quantization else ""
    layout = _LAYOUT if config.quantization.load_in_4bit else ""
    made += _EXPERTS if quantization and config.quantization.load_in_4bit and _has_experts(config) else ""
    return f"""DTYPE = {_DTYPES.get(config.model.dtype, "pick_dtype()")}
tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
{made}model = {_class_of(config)}.from_pretrained(
    MODEL,
    revision=REVISION,
    dtype=DTYPE,
    quantization_config={"quantization" if quantization else None},
    attn_implementation={_text(None if attention == "sdpa" else attention)},
    device_map={{"": PartialState(cpu=GPU is None).device}},
    use_safetensors=True,
)
{layout}model.requires_grad_({config.adapter.method == "full"})
"""


# Bytes that the script's user must have, and numbers that come out a little otherwise.
_EXPERTS = """# bitsandbytes leaves this model's experts in 16 bits, where the workbench stores them in 4 too: this
# script needs the memory of the whole of them, and its losses differ a little.
"""


def _has_experts(config: RunConfig) -> bool:
    """Tell whether the base routes tokens to experts, by its formula or by what its configuration says."""
    spec = catalog.find_or_none(config.model.name, config.model.revision)
    if spec is None:
        return False
    values = {**spec.config, **(spec.config.get("text_config") or {})}
    counts = [values.get(name) for name in ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")]
    return spec.experts is not None or any(isinstance(count, int) and count > 1 for count in counts)


def _quantization(config: RunConfig) -> str:
    """Return the call that says how the base is stored, or nothing for 16 bits and more."""
    quantization = config.quantization
    if quantization.load_in_8bit:
        return "BitsAndBytesConfig(load_in_8bit=True)"
    if not quantization.load_in_4bit:
        return ""
    settings = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": quantization.bnb_4bit_quant_type,
        "bnb_4bit_use_double_quant": quantization.bnb_4bit_use_double_quant,
        "bnb_4bit_compute_dtype": _Code(_DTYPES.get(quantization.bnb_4bit_compute_dtype, "DTYPE")),
    }
    return _call("BitsAndBytesConfig", settings)


_LAYOUT = """# On some processors an evaluation would repack the 4-bit weights for a kernel without gradients.
for module in model.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False
"""


def _adapter(config: RunConfig) -> str:
    if config.adapter.start_from:
        return f"""adapter = LoraConfig.from_pretrained(START)
adapter.inference_mode = False
adapter.lora_dropout = {config.adapter.lora_dropout!r}
set_seed({config.training.seed})
model = PeftModel.from_pretrained(model, START, config=adapter, is_trainable=True)
before = {{name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}}
"""
    return f"""adapter = {_call("LoraConfig", _lora(config))}
set_seed({config.training.seed})
model = get_peft_model(model, adapter)
"""


def _arguments(config: RunConfig, validate: bool) -> str:
    training = config.training
    settings = {
        "output_dir": _Code("OUTPUT"),
        "save_strategy": "no",
        "ddp_find_unused_parameters": False,
        **trl_settings(config, dtype="fp32", on_card=False, pinned=False, validate=validate),
        # The effective batch stays, however many processes share it.
        "gradient_accumulation_steps": _Code(f"{training.gradient_accumulation_steps} // PROCESSES"),
        "use_cpu": _Code("GPU is None"),
        "bf16": _Code("DTYPE == torch.bfloat16"),
        "fp16": _Code("DTYPE == torch.float16"),
        "dataloader_pin_memory": _Code('GPU is not None and GPU.type != "mps"'),
    }
    if training.load_best_model_at_end and validate:
        settings |= {"save_strategy": "steps", "save_steps": training.eval_steps, "save_total_limit": 2}
        settings |= {"load_best_model_at_end": True}
    return f"""assert {training.gradient_accumulation_steps} % PROCESSES == 0, "as many processes as share it evenly"
arguments = {_call(TRL_NAMES[config.training.objective][1], settings)}
"""


def _trainer(config: RunConfig, validate: bool) -> str:
    training = config.training
    watching = []
    if training.early_stopping_patience is not None and validate:
        watching.append(
            f"EarlyStoppingCallback({training.early_stopping_patience}, {training.early_stopping_threshold!r})"
        )
    optimizer = _optimizer(config)
    objective = config.training.objective
    ready = _READY.get(objective, "")
    return f"""{ready}{optimizer}trainer = {"ReadyTrainer" if ready else TRL_NAMES[objective][2]}(
    model=model,
    args=arguments,
    train_dataset=Dataset.from_file(ROWS),
    eval_dataset={"Dataset.from_file(VALIDATION_ROWS)" if validate else None},
    processing_class=tokenizer,
    callbacks=[{", ".join(watching)}],
    optimizers=({"optimizer" if optimizer else None}, None),
)
{_cast(config)}trainer.train()
{_save(config)}
tokenizer.save_pretrained(OUTPUT)
if trainer.is_world_process_zero():
    print(json.dumps({{"processes": trainer.args.world_size}}))
    for row in trainer.state.log_history:
        print(json.dumps(row))
"""


_READY: dict[Objective, str] = {
    "dpo": '''class ReadyTrainer(DPOTrainer):
    """Takes rows that are token ids already: prompt_ids, chosen_ids and rejected_ids."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


''',
    "kto": '''class ReadyTrainer(KTOTrainer):
    """Takes rows that are token ids already; puts them into an order by chance once, and pairs them as TRL does."""

    def _prepare_dataset(self, dataset, processing_class, args, name):
        def with_answers_of_others(rows):
            answers = rows["completion_ids"]
            return {**rows, "KL_completion_ids": [answers[-1], *answers[:-1]]}

        if name == "train":
            dataset = dataset.shuffle(seed=args.seed).flatten_indices()
        return dataset.map(with_answers_of_others, batched=True, batch_size=args.per_device_train_batch_size)


''',
    "orpo": '''class ReadyTrainer(ORPOTrainer):
    """Takes rows that are token ids already: prompt_ids, chosen_ids and rejected_ids."""

    def tokenize_row(self, feature, model=None):
        prompt = feature["prompt_ids"]
        row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            answer = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + answer
            row[f"{side}_attention_mask"] = [1] * len(prompt + answer)
            row[f"{side}_labels"] = [-100] * len(prompt) + answer
        return row


''',
}


def _save(config: RunConfig) -> str:
    """Return the line that saves; the copy that TRL holds as reference is left out."""
    if config.adapter.method == "full" or config.training.objective not in WITH_REFERENCE:
        return "trainer.save_model(OUTPUT)"
    return """if trainer.is_world_process_zero():
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(OUTPUT, selected_adapters=["default"])"""


def _optimizer(config: RunConfig) -> str:
    training, adapter, maker = config.training, config.adapter, _optimizer_maker(config)
    if not maker:
        return ""
    settings: dict[str, object] = {"model": _Code("model")}
    if training.optim == "lora_fa":
        settings |= {"r": adapter.r, "lora_alpha": adapter.lora_alpha}
        settings |= {"lr": training.learning_rate, "weight_decay": training.weight_decay}
        return f"optimizer = {_call(maker, settings)}\n"
    settings |= {"optimizer_cls": _Code("kind"), "loraplus_lr_ratio": adapter.loraplus_lr_ratio}
    settings |= {"loraplus_weight_decay": training.weight_decay, "**settings": None}
    trainer = TRL_NAMES[config.training.objective][2]
    return f"""kind, settings = {trainer}.get_optimizer_cls_and_kwargs(arguments, model)
optimizer = {_call(maker, settings)}
"""


def _cast(config: RunConfig) -> str:
    if config.adapter.method == "full":
        return ""
    if config.adapter.start_from:
        return """# TRL rounds what is trained on a quantised base to bf16; the run goes on from the adapter as it was.
for name, parameter in model.named_parameters():
    if name in before:
        parameter.data = before[name]
"""
    dtype = "torch.bfloat16" if config.adapter.dtype == "bf16" else "torch.float32"
    return f"""# TRL casts the adapters of a quantised base to bf16, where small updates round away.
for name, parameter in model.named_parameters():
    if parameter.requires_grad and "lora_magnitude_vector" not in name:
        parameter.data = parameter.data.to({dtype})
"""


def _call(name: str, settings: Mapping[str, object]) -> str:
    """Return a call with one argument a line."""
    lines = [f"    {key}," if key.startswith("**") else f"    {key}={_text(value)}," for key, value in settings.items()]
    return "\n".join([f"{name}(", *lines, ")"])


def _text(value: object) -> str:
    """Return a value as Python source, strings in double quotes."""
    if isinstance(value, _Code):
        return value.text
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(_text(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {_text(each)}' for key, each in value.items())}}}"
    return repr(value)
