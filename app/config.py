"""RunConfig: the one typed object that says what a run does.

Every setting lives here once, with its default, range, unit, label and help; the form, the command line, the YAML
presets and the documentation derive from it. Inside the sections the names are the libraries' own: `training.*` as
transformers' TrainingArguments, `adapter.*` as PEFT's LoraConfig, `quantization.*` as BitsAndBytesConfig.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from app.combinations import refused_starts, refused_together
from app.errors import ConfigError, Problem

Dtype = Literal["auto", "bf16", "fp16", "fp32"]

# Names that people carry over from the libraries, and what they are called here.
_KNOWN_ELSEWHERE = {
    "gradient_checkpointing": "memory.checkpointing",
    "activation_checkpointing": "memory.checkpointing",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "batch_size": "training.per_device_train_batch_size",
    "micro_batch": "training.per_device_train_batch_size",
    "epochs": "training.num_train_epochs",
    "lr": "training.learning_rate",
    "rank": "adapter.r",
    "alpha": "adapter.lora_alpha",
    "lora_r": "adapter.r",
    "dropout": "adapter.lora_dropout",
    "targets": "adapter.target_modules",
    "seq_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "optimizer": "training.optim",
    "warmup_ratio": "training.warmup_steps",
}

# A name such as q_proj or layers.0.mlp; what is none, such as a prompt, is not cut at its commas.
_NAME = re.compile(r"[\w.-]+")
# 1e-4 is a text to YAML 1.1, which wants 1.0e-4.
_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")


def setting(default: Any, help: str, *, label: str = "", unit: str = "", **limits: Any) -> Any:
    """Declare one setting: its default, help, label, unit and limits (`ge`, `gt`, `le`, `lt`, `pattern`)."""
    return Field(default, description=help, json_schema_extra={"label": label, "unit": unit}, **limits)


class Section(BaseModel):
    """A group of settings. Unknown names are refused; values are immutable once built."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


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
        "auto", "Number format of computation: bf16 where the card can, else fp16; fp32 on a CPU", label="Compute dtype"
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


class AdapterSection(Section):
    """What is trained. Names as in PEFT's LoraConfig."""

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
        "Linear layers that get an adapter: all-linear, or a list of names such as q_proj, v_proj",
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
    packing: bool = setting(True, "Put several rows into one packed row; they do not see each other", label="Packing")
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
    """How long and how fast it learns. Names as in transformers' TrainingArguments."""

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
    optim: Literal[
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
    ] = setting(
        "adamw_torch_fused",
        "Optimiser by its transformers name; lora_fa is PEFT's, which trains the B matrices only",
        label="Optimiser",
    )
    weight_decay: float = setting(0.0, "Pull of the weights towards zero", label="Weight decay", ge=0, le=1)
    max_grad_norm: float = setting(
        1.0, "Gradients longer than this are shortened to it", label="Gradient clip", gt=0, le=1e6
    )
    neftune_noise_alpha: float | None = setting(
        None, "Noise on the embeddings while training; none is off", label="NEFTune", ge=0, le=100
    )
    seed: int = setting(42, "Start of all random numbers", label="Seed", ge=0, le=2**32 - 1)
    full_determinism: bool = setting(
        False, "Choose kernels that give the same bits each time; slower on a card", label="Deterministic"
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
    sample_tokens: int = setting(48, "Longest of these answers", label="Answer length", unit="tokens", ge=1, le=1024)
    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = setting(
        [], "Trackers that get the curve as well, by transformers' names", label="Report to"
    )


class MemorySection(Section):
    """How memory is traded against time."""

    checkpointing: str = setting(
        "full",
        "Recompute activations in the backward pass: full, none, or every-N layers",
        label="Checkpointing",
        pattern=r"^(full|none|every-[1-9][0-9]{0,2})$",
    )
    vram_gb: float | None = setting(
        None,
        "Size of the card to stay within; none is this machine's card",
        label="Card size",
        unit="GB",
        gt=0,
        le=4096,
    )
    reserve_gb: float = setting(0.8, "Left free for the desktop", label="Reserve", unit="GB", ge=0, le=64)


class RunConfig(Section):
    """Everything that decides a run. Two equal RunConfigs on one machine give the same adapter."""

    model: ModelSection = Field(default_factory=ModelSection)
    quantization: QuantizationSection = Field(default_factory=QuantizationSection)
    adapter: AdapterSection = Field(default_factory=AdapterSection)
    data: DataSection = Field(default_factory=DataSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    memory: MemorySection = Field(default_factory=MemorySection)

    @model_validator(mode="after")
    def _pairs_fit(self) -> RunConfig:
        found = list(refused_together(self))
        if found:
            raise ConfigError(found)
        return self

    @property
    def method(self) -> Literal["qlora", "lora", "full"]:
        """Return the method in the words of the planner."""
        if self.adapter.method == "full":
            return "full"
        return "qlora" if self.quantization.load_in_4bit or self.quantization.load_in_8bit else "lora"

    @property
    def effective_batch(self) -> int:
        """Return rows (packed rows when packing) in one optimiser step."""
        return self.training.per_device_train_batch_size * self.training.gradient_accumulation_steps

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested data, as it stands in YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the YAML that `from_yaml` reads back to an equal RunConfig."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)

    def changed(self, changes: Mapping[str, Any], source: str = "the changes") -> RunConfig:
        """Return a copy with dotted names set, for example `{"adapter.r": 8}`.

        Raises ConfigError with every wrong name and value.
        """
        tree = self.as_dict()
        unknown = []
        for name, value in changes.items():
            section, _, key = name.partition(".")
            if key and section in RunConfig.model_fields and key in _section_fields(section):
                tree[section][key] = value
            else:
                unknown.append(_unknown(name))
        try:
            changed = parse(tree, source)
        except ConfigError as error:
            raise ConfigError(unknown + error.problems, source) from None
        if unknown:
            raise ConfigError(unknown, source)
        return changed


def _section_fields(section: str) -> dict[str, FieldInfo]:
    kind = RunConfig.model_fields[section].annotation
    assert isinstance(kind, type) and issubclass(kind, Section)
    return kind.model_fields


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as its dotted name and its field (default, limits, help; label and unit in the extra)."""
    for section in RunConfig.model_fields:
        for name, field in _section_fields(section).items():
            yield f"{section}.{name}", field


def choices(name: str) -> list[Any]:
    """Return the allowed words of a setting that takes no others, else an empty list."""
    found = list(_literals(dict(settings())[name].annotation))
    return [] if str in found else [value for value in found if isinstance(value, str)]


def _literals(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        if get_args(part):
            yield from _literals(part)
        else:
            yield part


def nearest_name(name: str) -> str:
    """Return the dotted setting that a wrong name most likely meant, or an empty string."""
    names = [known for known, _ in settings()]
    last = name.rsplit(".", 1)[-1].lower()
    if last in _KNOWN_ELSEWHERE:
        return _KNOWN_ELSEWHERE[last]
    by_last = [known for known in names if known.rsplit(".", 1)[-1] == last]
    if by_last:
        return by_last[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    short = {known.rsplit(".", 1)[-1]: known for known in names}
    close = difflib.get_close_matches(last, list(short), n=1, cutoff=0.6)
    return short[close[0]] if close else ""


def _unknown(name: str) -> Problem:
    near = nearest_name(name)
    return Problem(name, "no such setting", f"did you mean {near}?" if near else "see `train --help` for the names")


def parse(tree: Any, source: str = "the settings") -> RunConfig:
    """Build a RunConfig from nested data. Raises ConfigError that lists every problem with field, limit and remedy."""
    if not isinstance(tree, Mapping):
        raise ConfigError(
            [
                Problem(
                    "(top)",
                    f"expected sections, found {type(tree).__name__}",
                    f"use the sections {', '.join(RunConfig.model_fields)}",
                )
            ],
            source,
        )
    try:
        return RunConfig.model_validate(dict(tree))
    except ConfigError as error:
        raise ConfigError(error.problems, source) from None
    except ValidationError as error:
        raise ConfigError(_problems_of(error), source) from None


def _problems_of(error: ValidationError) -> list[Problem]:
    found: dict[str, Problem] = {}
    for item in error.errors(include_url=False, include_context=True):
        name = _dotted(item["loc"])
        if name in found:
            continue
        if item["type"] == "extra_forbidden":
            found[name] = _unknown(name)
        elif name == "adapter.init_lora_weights" and str(item["input"]).lower() in refused_starts():
            found[name] = Problem(name, refused_starts()[str(item["input"]).lower()], _range_of(name))
        else:
            found[name] = Problem(name, f"{item['msg'].lower()}, found {_short(item['input'])}", _range_of(name))
    return list(found.values())


def _dotted(location: tuple[int | str, ...]) -> str:
    """Name the setting that a validation error is about; the parts behind it belong to pydantic's union branches."""
    return ".".join(str(part) for part in location[:2]) or "(top)"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _range_of(name: str) -> str:
    field = dict(settings()).get(name)
    if field is None:
        return ""
    words = {"Ge": "at least {}", "Gt": "more than {}", "Le": "at most {}", "Lt": "less than {}"}
    parts = []
    for limit in field.metadata:
        form = words.get(type(limit).__name__)
        if form:
            parts.append(form.format(getattr(limit, type(limit).__name__.lower())))
    if not parts and choices(name):
        return "one of " + ", ".join(str(value) for value in choices(name))
    return "allowed: " + " and ".join(parts) if parts else ""


def from_yaml(text: str, source: str = "the file") -> RunConfig:
    """Read a RunConfig from YAML text. Raises ConfigError; nothing in the text is executed."""
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"line {line + 1}" if line is not None else "(file)"
        raise ConfigError([Problem(where, "is not YAML", "check indentation and quotes")], source) from None
    return parse({} if tree is None else tree, source)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Read `--set name=value` words; values are YAML, and `1e-4` is a number. Raises ConfigError for all wrong ones."""
    changes: dict[str, Any] = {}
    problems = []
    for word in assignments:
        name, separator, text = word.partition("=")
        if not separator:
            problems.append(Problem(word, "has no '='", "write --set name=value"))
            continue
        changes[name.strip()] = value_of(name.strip(), text.strip())
    if problems:
        raise ConfigError(problems, "--set")
    return changes


def value_of(name: str, text: str) -> Any:
    """Return what a word means for a setting; a list may be written as names with commas or plus signs.

    Nothing is checked: that is done when the setting is used.
    """
    if _takes_list(name) and not text.startswith("["):
        parts = [part.strip() for part in re.split(r"[,+]", text) if part.strip()]
        if text in _words(name):
            return text
        return parts if all(_NAME.fullmatch(part) for part in parts) else [text]
    try:
        return float(text) if _EXPONENT.fullmatch(text) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text


def _takes_list(name: str) -> bool:
    annotation = dict(settings())[name].annotation if name in dict(settings()) else None
    return any(get_origin(kind) is list for kind in (annotation, *get_args(annotation)))


def _words(name: str) -> list[Any]:
    """Return the words that a setting takes in place of a list, such as all-linear."""
    kinds = get_args(dict(settings())[name].annotation)
    return [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
