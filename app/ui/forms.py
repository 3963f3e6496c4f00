"""Controls made from RunConfig's own settings: label, help, limits and choices come from there and nowhere else."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from app.catalog.modules import attention_names, module_names
from app.catalog.spec import ModelSpec
from app.config import RunConfig, choices, settings
from app.ui.language import Key, Speech
from app.ui.wording import Wording

ALL_LINEAR = "all-linear"
# Settings that hold one text a line; other lists are names with commas between.
_LINES = ("training.sample_prompts",)


@lru_cache(maxsize=1)
def fields() -> dict[str, FieldInfo]:
    """Return every setting by its dotted name."""
    return dict(settings())


def control(wording: Wording, name: str, **properties: Any) -> Any:
    """Build the control of one setting, with its default value."""
    texts = {"label": Key(f"setting.{name}.label"), "info": Key(f"setting.{name}.help")}
    kind, own = _kind(name)
    value = shown(name, fields()[name].get_default(call_default_factory=True))
    return wording.make(kind, **{**texts, **own, "value": value, "elem_id": element_id(name), **properties})


def target_choices(spec: ModelSpec | None, say: Speech) -> list[tuple[str, str]]:
    """Return what the target modules of a model can be picked from: all, those of the attention, and each by name."""
    offered = [(ALL_LINEAR, ALL_LINEAR)]
    if spec is not None:
        attention = ", ".join(attention_names(spec))
        offered.append((say("plan.targets.attention", names=attention), attention))
        offered += [(name, name) for name in module_names(spec)]
    return offered


def element_id(name: str) -> str:
    """Return the id of a setting's control in the page."""
    return "set-" + name.replace(".", "-").replace("_", "-")


def _kind(name: str) -> tuple[type, dict[str, Any]]:
    """Return the class of a setting's control and its limits."""
    types_ = _types(name)
    if name == "adapter.init_lora_weights":
        return gr.Dropdown, {"choices": ["true", "gaussian", "orthogonal"]}
    if name == "adapter.target_modules":
        return gr.Dropdown, {"choices": [ALL_LINEAR], "multiselect": True, "allow_custom_value": True}
    if name in _LINES:
        return gr.Textbox, {"lines": 3}
    if list in types_ and choices(name):
        return gr.Dropdown, {"choices": choices(name), "multiselect": True}
    if list in types_ or dict in types_:
        return gr.Textbox, {"max_lines": 1}
    if choices(name):
        return gr.Dropdown, {"choices": [str(choice) for choice in choices(name)]}
    if bool in types_:
        return gr.Checkbox, {}
    if int in types_ or float in types_:
        return gr.Number, {"precision": 0} if int in types_ and float not in types_ else {}
    return gr.Textbox, {"max_lines": 1}


def _types(name: str) -> set[Any]:
    annotation = fields()[name].annotation
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return {get_origin(part) or part for part in parts}


def shown(name: str, value: Any) -> Any:
    """Return a setting's value as its control shows it."""
    if name == "adapter.init_lora_weights":
        return value if isinstance(value, str) else str(value).lower()
    if name == "adapter.target_modules":
        return [value] if isinstance(value, str) else list(value)
    if name in _LINES:
        return "\n".join(value)
    if isinstance(value, (list, tuple)):
        return list(value) if choices(name) else ", ".join(str(item) for item in value)
    return "" if value is None and not {int, float} & _types(name) else value


def meant(name: str, value: Any) -> Any:
    """Return what a control's value means for RunConfig, which then checks it."""
    types_ = _types(name)
    if name == "adapter.init_lora_weights":
        return {"true": True, "false": False}.get(str(value), value)
    if name in _LINES and isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    if list in types_ and isinstance(value, (str, list)):
        # A pick may stand for several names, such as those of the attention.
        parts = [part for item in ([value] if isinstance(value, str) else value) for part in str(item).split(",")]
        names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
        return ALL_LINEAR if names == [ALL_LINEAR] else names
    if type(None) in types_ and value == "":
        return None
    if int in types_ and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


# What stands open in the Plan tab, and what is folded, by heading. The rest follows from card, method and data.
MAIN = ("adapter.r", "data.max_length", "training.per_device_train_batch_size", "training.gradient_accumulation_steps")
FOLDED = {
    "adapter": (
        "adapter.lora_alpha",
        "adapter.lora_dropout",
        "adapter.target_modules",
        "adapter.use_rslora",
        "adapter.use_dora",
        "adapter.loraplus_lr_ratio",
        "adapter.bias",
        "adapter.init_lora_weights",
        "adapter.modules_to_save",
        "adapter.dtype",
    ),
    "training": (
        "training.learning_rate",
        "training.num_train_epochs",
        "training.max_steps",
        "training.lr_scheduler_type",
        "training.warmup_steps",
        "training.optim",
        "training.weight_decay",
        "training.max_grad_norm",
        "training.neftune_noise_alpha",
        "training.seed",
        "training.full_determinism",
        "training.logging_steps",
        "training.save_steps",
        "training.save_total_limit",
    ),
    "guards": (
        "training.eval_steps",
        "data.validation_split",
        "training.early_stopping_patience",
        "training.early_stopping_threshold",
        "training.load_best_model_at_end",
        "training.on_divergence",
        "training.divergence_factor",
        "training.divergence_steps",
        "training.sample_prompts",
        "training.sample_tokens",
        "training.report_to",
    ),
    "data": (
        "data.packing",
        "data.train_on",
        "data.chat_template",
    ),
    "memory": (
        "memory.checkpointing",
        "memory.reserve_gb",
        "model.dtype",
        "model.attn_implementation",
        "model.revision",
        "quantization.bnb_4bit_quant_type",
        "quantization.bnb_4bit_use_double_quant",
        "quantization.bnb_4bit_compute_dtype",
    ),
}
# Cards to plan for besides this machine's own, in GB.
CARDS_GB = (6, 8, 12, 16, 24, 48)
ORDER = (*MAIN, *(name for names in FOLDED.values() for name in names))

METHODS: dict[str, dict[str, Any]] = {
    "qlora": {
        "adapter.method": "lora",
        "quantization.load_in_4bit": True,
        "quantization.load_in_8bit": False,
    },
    "qlora8": {
        "adapter.method": "lora",
        "quantization.load_in_4bit": False,
        "quantization.load_in_8bit": True,
    },
    "lora": {
        "adapter.method": "lora",
        "quantization.load_in_4bit": False,
        "quantization.load_in_8bit": False,
    },
    "full": {
        "adapter.method": "full",
        "quantization.load_in_4bit": False,
        "quantization.load_in_8bit": False,
    },
}


def method_of(config: RunConfig) -> str:
    """Return which of METHODS a config is."""
    return "qlora8" if config.quantization.load_in_8bit else config.method


@dataclass(frozen=True)
class Filled:
    """The Plan form as it was filled in: raw values, checked by `config`."""

    model: Any
    method: Any
    card_gb: Any
    values: Mapping[str, Any]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Filled:
        """Read the values of the whole form: model, method, card, then the settings in ORDER."""
        model, method, card_gb, *rest = values
        return cls(model, method, card_gb, dict(zip(ORDER, rest, strict=True)))

    def config(self, base: RunConfig) -> RunConfig:
        """Return the RunConfig that the form means; the rest comes from `base`. Raises ConfigError."""
        changes = {name: meant(name, value) for name, value in self.values.items()}
        changes.update(METHODS.get(str(self.method), METHODS["qlora"]))
        changes["model.name"] = str(self.model or "").strip()
        card = self.card_gb
        changes["memory.vram_gb"] = float(card) if isinstance(card, (int, float)) and card > 0 else None
        return base.changed(changes, "the form")


def filling(config: RunConfig) -> list[Any]:
    """Return the values of the form for a config: model, method, card, then ORDER."""
    tree = config.as_dict()
    values = [shown(name, tree[name.partition(".")[0]][name.partition(".")[2]]) for name in ORDER]
    card = config.memory.vram_gb
    return [config.model.name, method_of(config), int(card) if card in CARDS_GB else 0, *values]
