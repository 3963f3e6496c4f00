"""The settings by section: each stands here once, with its default, range, unit, label, help and library name.

The form, the command line, the YAML presets and docs/settings.md derive from it. Inside the sections the names are the
libraries' own: `training.*` as transformers' TrainingArguments, `adapter.*` as PEFT's LoraConfig, `quantization.*` as
BitsAndBytesConfig.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

# By their names in transformers; lora_fa is PEFT's.
Optimizer = Literal[
    "adamw_torch_fused",
    "adamw_torch",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "lion_32bit",
    "lion_8bit",
    "adafactor",
    "sgd",
    "lora_fa",
]
Dtype = Literal["auto", "bf16", "fp16", "fp32"]
Objective = Literal["sft", "dpo", "kto", "orpo"]


def setting(default: Any, help: str, *, label: str = "", unit: str = "", **limits: Any) -> Any:
    """Declare one setting: its default, help, label, unit and limits (`ge`, `gt`, `le`, `lt`, `pattern`)."""
    return Field(default, description=help, json_schema_extra={"label": label, "unit": unit}, **limits)


class Section(BaseModel):
    """A group of settings. Unknown names are refused; values are immutable once built."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` where a number is meant, which would count as 1."""
        if not isinstance(value, bool):
            return value
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = get_args(annotation) or (annotation,)
        if bool not in kinds and (int in kinds or float in kinds):
            raise PydanticCustomError("truth_as_number", "Input should be a number")
        return value


class ModelSection(Section):
    """Which base model, and how it computes."""

    name: str = setting(
        "starter",
        "Catalogue name, local folder or hub id of the base model",
        label="Base model",
        min_length=1,
        max_length=400,
    )
    revision: str | None = setting(
        None, "Hub revision (branch, tag or commit); none is the default branch", label="Revision", max_length=200
    )
    dtype: Dtype = setting(
        "auto",
        "Number format of computation: bf16 where the GPU can, else fp16; on a CPU bf16 where it is measured to pay",
        label="Compute dtype",
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = setting(
        "sdpa", "Attention kernel; flash_attention_2 needs its own package", label="Attention"
    )


class QuantizationSection(Section):
    """How the frozen base is stored. Names as in BitsAndBytesConfig."""

    load_in_4bit: bool = setting(True, "Store the base's linear layers in 4 bits (QLoRA)", label="4-bit base")
    load_in_8bit: bool = setting(False, "Store the base's linear layers in 8 bits", label="8-bit base")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = setting(
        "nf4", "4-bit number format; nf4 suits trained weights", label="4-bit format"
    )
    bnb_4bit_use_double_quant: bool = setting(
        True, "Quantise the scales too: 0.516 instead of 0.5625 bytes a weight", label="Double quantisation"
    )
    bnb_4bit_compute_dtype: Dtype = setting(
        "auto", "Number format the 4-bit layers compute in; auto follows the model", label="4-bit compute dtype"
    )
    keep_on_disk: bool = setting(
        True,
        "Keep the 4-bit weights in the workspace, so that the next run of this base reads them as they are: the same "
        "bits, without quantising them again. At most 40 GB of all bases; 10 GB of the disk stay free",
        label="Keep 4-bit weights",
    )


class AdapterSection(Section):
    """What is trained. Names as in PEFT's LoraConfig."""

    start_from: str = setting(
        "",
        "Folder of an adapter to go on from, whose rank and modules are taken over; dpo and kto hold it as reference",
        label="Start from",
        max_length=4096,
    )
    method: Literal["lora", "full"] = setting(
        "lora", "lora trains a small adapter; full trains every weight", label="Method"
    )
    r: int = setting(16, "Rank of the update; more can learn more and costs more memory", label="Rank", ge=1, le=1024)
    lora_alpha: int = setting(
        32, "Scale of the update; the update is multiplied by alpha / rank", label="Alpha", ge=1, le=8192
    )
    lora_dropout: float = setting(0.0, "Share of adapter inputs dropped while training", label="Dropout", ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = setting(
        "all-linear",
        "Linear layers that get an adapter: all-linear, or names such as q_proj, v_proj; experts mean a mixture's",
        label="Target modules",
    )
    bias: Literal["none", "all", "lora_only"] = setting("none", "Which biases are trained as well", label="Bias")
    use_rslora: bool = setting(False, "Scale by alpha / sqrt(rank): steadier at high rank", label="rsLoRA")
    use_dora: bool = setting(False, "Train direction and magnitude apart; slower, sometimes better", label="DoRA")
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = setting(
        True, "Start of the adapter; every offered start leaves the base untouched", label="Initialisation"
    )
    loraplus_lr_ratio: float | None = setting(
        None,
        "LoRA+: how many times faster the B matrices learn than the A matrices, 16 for instance; none is off",
        label="LoRA+ ratio",
        ge=1,
        le=1000,
    )
    modules_to_save: list[str] = setting(
        [], "Whole modules trained and saved in full, such as lm_head", label="Fully trained modules"
    )
    dtype: Literal["auto", "bf16", "fp32"] = setting(
        "auto",
        "Number format of the adapter; auto is fp32, so that small steps are kept and a resume is exact",
        label="Adapter dtype",
    )


class DataSection(Section):
    """What is trained on, and how rows become tokens."""

    file: str = setting("", "Training file", label="File", max_length=4096)
    format: str = setting("auto", "Row format; auto detects it and says why", label="Format", max_length=40)
    mapping: dict[str, str] = setting({}, "Role of each column for files in a form of their own", label="Mapping")
    max_length: int = setting(
        1024, "Longest row; also the length of a packed row", label="Sequence length", unit="tokens", ge=8, le=1_048_576
    )
    packing: bool = setting(
        True,
        "Put several rows into one packed row, where it was shown that they do not see each other in this model; else "
        "rows are grouped by length",
        label="Packing",
    )
    train_on: Literal["assistant", "last", "all"] = setting(
        "assistant",
        "Tokens that are trained: all assistant turns, the last one only, or everything",
        label="Trained tokens",
    )
    over_length: Literal["auto", "drop", "cut", "split"] = setting(
        "auto",
        "Rows over the length: drop them, cut the oldest turns, or split them; auto splits plain text and drops others",
        label="Rows over the length",
    )
    validation_split: float = setting(
        0.0, "Share of rows kept back for validation, chosen by content", label="Validation share", ge=0, le=0.5
    )
    drop: list[str] = setting([], "Kinds of problem whose rows are left out, such as duplicate", label="Leave out")
    repair: list[str] = setting([], "Kinds of problem that are repaired, such as empty_answer", label="Repair")
    chat_template: str | None = setting(
        None, "Plain template for models that have none", label="Chat template", max_length=40
    )


class TrainingSection(Section):
    """What is learned, how long and how fast. Names as in transformers' TrainingArguments and TRL's configurations."""

    objective: Objective = setting(
        "sft",
        "What is learned: the answers of the rows (sft), the better of two answers (dpo, orpo), or from thumbs up and "
        "down (kto)",
        label="Objective",
    )
    beta: float = setting(
        0.1,
        "How strongly the run is held to its reference (dpo, kto), or the weight of the odds ratio (orpo)",
        label="Beta",
        gt=0,
        le=100,
    )
    loss_type: Literal["sigmoid", "ipo", "sigmoid_norm", "apo_zero"] = setting(
        "sigmoid",
        "Loss of dpo: sigmoid is DPO itself, ipo holds back on easy pairs, sigmoid_norm ignores length, apo_zero "
        "raises the chosen and lowers the rejected",
        label="Preference loss",
    )
    sft_weight: float = setting(
        0.0,
        "Share of plain learning of the chosen answer that is added to the loss of dpo; 0 is off",
        label="SFT share",
        ge=0,
        le=100,
    )
    desirable_weight: float = setting(
        1.0,
        "Weight of answers with thumbs up in kto; raise it where there are few of them",
        label="Weight of up",
        gt=0,
        le=100,
    )
    undesirable_weight: float = setting(
        1.0,
        "Weight of answers with thumbs down in kto; raise it where there are few of them",
        label="Weight of down",
        gt=0,
        le=100,
    )
    precompute_ref_log_probs: bool = setting(
        False,
        "Let the reference read all rows once before dpo or kto begins and keep what it says; a run that is short of "
        "memory does so by itself",
        label="Reference beforehand",
    )
    num_train_epochs: float = setting(
        3.0, "Passes over the data, unless max_steps is set", label="Epochs", gt=0, le=1000
    )
    max_steps: int = setting(
        -1, "Optimiser steps; -1 follows the epochs", label="Steps", unit="steps", ge=-1, le=10_000_000
    )
    learning_rate: float = setting(
        2e-4, "Step size of the optimiser at its highest", label="Learning rate", gt=0, le=1.0
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"] = setting(
        "linear", "How the learning rate falls", label="Schedule"
    )
    warmup_steps: float = setting(
        0.03, "Steps of rising learning rate; below 1 it is a share of all steps", label="Warm-up", ge=0, le=1_000_000
    )
    per_device_train_batch_size: int = setting(
        1, "Rows (packed rows when packing) in one forward pass", label="Micro-batch", unit="rows", ge=1, le=4096
    )
    gradient_accumulation_steps: int = setting(
        8,
        "Micro-batches added up before one optimiser step",
        label="Gradient accumulation",
        unit="micro-batches",
        ge=1,
        le=4096,
    )
    num_processes: int = setting(
        1,
        "Processes that share each step, one a card; they divide the micro-batches of gradient accumulation, so that "
        "the effective batch stays",
        label="Processes",
        ge=1,
        le=64,
    )
    optim: Optimizer = setting(
        "adamw_torch_fused",
        "Optimiser by its transformers name; lora_fa is PEFT's, which trains the B matrices only",
        label="Optimiser",
    )
    weight_decay: float = setting(0.0, "Pull of the weights towards zero", label="Weight decay", ge=0, le=1)
    train_sampling_strategy: Literal["random", "group_by_length"] = setting(
        "random",
        "Order of the rows: by chance, or rows of about one length together, which need less padding",
        label="Order of rows",
    )
    max_grad_norm: float = setting(
        1.0, "Gradients longer than this are shortened to it", label="Gradient clip", gt=0, le=1e6
    )
    neftune_noise_alpha: float | None = setting(
        None, "Noise on the embeddings while training; none is off", label="NEFTune", ge=0, le=100
    )
    seed: int = setting(42, "Start of all random numbers", label="Seed", ge=0, le=2**32 - 1)
    full_determinism: bool = setting(
        False, "Choose kernels that give the same bits each time; slower on a GPU", label="Deterministic"
    )
    fast_paths: bool = setting(
        True,
        "On a CPU: attention by document, logits of trained tokens alone, LoRA in one step with its base; off is the "
        "libraries' own way, which gives the same within rounding",
        label="Fast paths",
    )
    logging_steps: int = setting(
        1, "Steps between two points of the curve", label="Log every", unit="steps", ge=1, le=100_000
    )
    save_steps: int = setting(50, "Steps between two checkpoints", label="Save every", unit="steps", ge=1, le=1_000_000)
    save_total_limit: int = setting(
        3, "Checkpoints kept; older ones are removed", label="Keep checkpoints", ge=1, le=1000
    )
    eval_steps: int = setting(
        50,
        "Steps between two validations, when rows are kept back",
        label="Validate every",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    early_stopping_patience: int | None = setting(
        None,
        "End the run after this many validations without a lower loss; none is off",
        label="Early stopping",
        unit="validations",
        ge=1,
        le=1000,
    )
    early_stopping_threshold: float = setting(
        0.0, "How much lower counts as lower for early stopping", label="Least gain", ge=0, le=100
    )
    load_best_model_at_end: bool = setting(
        False, "Keep the state with the lowest validation loss as the result", label="Keep the best"
    )
    on_divergence: Literal["warn", "stop"] = setting(
        "warn",
        "What a run does whose loss has left its best behind for good; one that is not finite always ends it",
        label="Divergence",
    )
    divergence_factor: float = setting(
        2.0,
        "A smoothed loss above this many times its best counts as diverging",
        label="Divergence factor",
        gt=1,
        le=1e6,
    )
    divergence_steps: int = setting(
        10, "Logged steps in a row that it takes", label="Divergence steps", unit="logged steps", ge=1, le=100_000
    )
    sample_prompts: list[str] = setting(
        [], "Prompts answered at every validation, the same ones each time", label="Fixed prompts", max_length=16
    )

    @field_validator("sample_prompts")
    @classmethod
    def _whole_characters(cls, prompts: list[str]) -> list[str]:
        for number, prompt in enumerate(prompts, 1):
            try:
                prompt.encode()
            except UnicodeEncodeError:
                raise ValueError(f"prompt {number} holds bytes that are no text in UTF-8; write it in UTF-8") from None
        return prompts

    sample_tokens: int = setting(48, "Longest of these answers", label="Answer length", unit="tokens", ge=1, le=1024)
    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = setting(
        [], "Trackers that get the curve as well, by transformers' names", label="Report to"
    )


class MemorySection(Section):
    """How memory is traded against time."""

    spend: Literal["auto", "none"] = setting(
        "auto",
        "Buy speed with memory that is free when the run starts: changes no number, and what is set otherwise stays so",
        label="Spend free memory",
    )
    checkpointing: str = setting(
        "auto",
        "Recompute activations in the backward pass: full, none, or every-N layers; auto is full where no memory is "
        "free to be spent",
        label="Checkpointing",
        pattern=r"^(auto|full|none|every-[1-9][0-9]{0,2})$",
    )
    dequantized_layers: int | None = setting(
        None,
        "Layers whose 4-bit weights are kept in the compute dtype too, which saves dequantising them; none is as many "
        "as memory is free for",
        label="Dequantised layers",
        unit="layers",
        ge=0,
        le=1024,
    )
    vram_gb: float | None = setting(
        None,
        "GPU memory to stay within; none is this machine's GPU",
        label="GPU memory",
        unit="GB",
        gt=0,
        le=4096,
    )
    reserve_gb: float = setting(0.8, "Left free for the desktop", label="Reserve", unit="GB", ge=0, le=64)


class Sections(Section):
    """The six sections together; what a rule between settings looks at, and the base of RunConfig."""

    model: ModelSection = Field(default_factory=ModelSection)
    quantization: QuantizationSection = Field(default_factory=QuantizationSection)
    adapter: AdapterSection = Field(default_factory=AdapterSection)
    data: DataSection = Field(default_factory=DataSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    memory: MemorySection = Field(default_factory=MemorySection)


def section_fields(section: str) -> dict[str, FieldInfo]:
    """List the settings of one section by their names inside it."""
    kind = Sections.model_fields[section].annotation
    assert isinstance(kind, type) and issubclass(kind, Section)
    return kind.model_fields


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as its dotted name and its field (default, limits, help; label and unit in the extra)."""
    for section in Sections.model_fields:
        for name, field in section_fields(section).items():
            yield f"{section}.{name}", field


def choices(name: str) -> list[object]:
    """Return the allowed words of a setting that takes no others, else an empty list."""
    found = list(_literals(dict(settings())[name].annotation))
    return [] if str in found else [value for value in found if isinstance(value, str)]


def _literals(annotation: object) -> Iterator[object]:
    for part in get_args(annotation):
        if get_args(part):
            yield from _literals(part)
        else:
            yield part
