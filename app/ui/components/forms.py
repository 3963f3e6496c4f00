"""Controls made from RunConfig's own settings: label, help, limits and choices come from there and nowhere else."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from app.catalog.modules import EXPERTS, attention_names, module_names
from app.catalog.spec import ModelSpec
from app.config.schema import RunConfig
from app.config.sections import choices, settings
from app.errors import ConfigError, Problem
from app.ui.components import messages, numbers
from app.ui.components.handlers import Control, Updates
from app.ui.components.numbers import Misread
from app.ui.shell.language import Key, Translator
from app.ui.shell.translated import TranslatedComponents

ALL_LINEAR = "all-linear"
_CHECKPOINTING = re.compile(r"auto|full|none|every-[1-9][0-9]{0,2}")
# Settings that hold one text a line; other lists are names with commas between.
_LINES = ("training.sample_prompts",)


@lru_cache(maxsize=1)
def fields() -> dict[str, FieldInfo]:
    """Return every setting by its dotted name."""
    return dict(settings())


def control(translated: TranslatedComponents, name: str, **properties: object) -> object:
    """Build the control of one setting, with its default value."""
    texts = {"label": Key(f"setting.{name}.label"), "info": Key(f"setting.{name}.help")}
    kind, own = _kind(name)
    if name in MATTERS_TO:
        own |= {"visible": fields()["training.objective"].default in MATTERS_TO[name]}
    value = shown(name, fields()[name].get_default(call_default_factory=True))
    return translated.make(kind, **{**texts, **own, "value": value, "elem_id": messages.element_id(name), **properties})


def target_choices(spec: ModelSpec | None, t: Translator) -> list[tuple[str, str]]:
    """Return what the target modules of a model can be picked from: all, those of the attention, and each by name."""
    offered = [(ALL_LINEAR, ALL_LINEAR)]
    if spec is not None:
        attention = ", ".join(attention_names(spec))
        offered.append((t("plan.targets.attention", names=attention), attention))
        offered += [(name, name) for name in (*module_names(spec), *([EXPERTS] if spec.experts else []))]
    return offered


def _kind(name: str) -> tuple[type, dict[str, object]]:
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
    if _has_number_field(types_):
        return gr.Number, {"step": 1}
    return gr.Textbox, {"max_lines": 1}


def _has_number_field(types_: set[object]) -> bool:
    """Tell whether a setting's control is a browser's number field, which always holds a number.

    Such a field hides what it cannot read, and rounds or steps over small numbers. The framework writes a 0 into an
    empty one as soon as it is drawn, so that opening a fold would set what is left open.
    """
    return int in types_ and not {float, type(None)} & types_


def _types(name: str) -> set[object]:
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
    if value is None:
        return ""
    types_ = _types(name)
    if bool in types_ or not {int, float} & types_ or _has_number_field(types_):
        return value
    return numbers.written(value)


def parse_value(name: str, value: object) -> object:
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
    if _is_left_open(types_, value):
        return None
    if float in types_:
        return numbers.real(value)
    return numbers.whole(value) if int in types_ else value


def _is_left_open(types_: set[object], value: object) -> bool:
    """Tell whether a setting that may have no value has none."""
    return type(None) in types_ and (value is None or (isinstance(value, str) and not value.strip()))


def fault(name: str, value: Any, t: Translator) -> str:
    """Return what is wrong with a control's value on its own, and what may stand there; empty for nothing."""
    if name == "model.name":
        return "" if str(value or "").strip() else t("wrong.no_model")
    if name == "memory.checkpointing" and not _CHECKPOINTING.fullmatch(str(value)):
        given = numbers.brief(value or "")
        return f"{t('wrong.no_choice', given=given) if given else t('wrong.empty')} {t('wrong.a_checkpointing')}"
    types_ = _types(name)
    if not {int, float} & types_ or _is_left_open(types_, value):
        return ""
    try:
        number = numbers.real(value) if float in types_ else numbers.whole(value)
    except Misread as misread:
        return f"{t(misread.key, given=misread.given)} {_allowed(name, t)}"
    if _inside(name, number):
        return ""
    return f"{t('wrong.outside', given=numbers.brief(value))} {_allowed(name, t)}"


def _limits(name: str) -> dict[str, float]:
    """Return a setting's limits by pydantic's names: ge, gt, le, lt."""
    found = {}
    for limit in fields()[name].metadata:
        kind = type(limit).__name__.lower()
        if kind in ("ge", "gt", "le", "lt"):
            found[kind] = getattr(limit, kind)
    return found


def _inside(name: str, number: float) -> bool:
    limits = _limits(name)
    return (
        number >= limits.get("ge", -math.inf)
        and number <= limits.get("le", math.inf)
        and number > limits.get("gt", -math.inf)
        and number < limits.get("lt", math.inf)
    )


def _allowed(name: str, t: Translator) -> str:
    """Return what may stand in a number's control."""
    limits, types_ = _limits(name), _types(name)
    low, high = ("gt" if "gt" in limits else "ge"), ("lt" if "lt" in limits else "le")
    ends = {"low": f"{limits[low]:,.10g}", "high": f"{limits[high]:,.10g}"}
    said = t("wrong.a_number" if float in types_ else "wrong.a_whole", limits=t(f"wrong.{low}_{high}", **ends))
    return f"{said} {t('wrong.or_empty')}" if type(None) in types_ else said


# What stands open in the Plan tab, and what is folded, by heading. The rest follows from card, method and data.
MAIN = (
    *("adapter.r", "data.max_length", "training.per_device_train_batch_size"),
    *("training.gradient_accumulation_steps", "training.objective", "training.beta"),
)
FOLDED = {
    "objective": (
        "adapter.start_from",
        "training.loss_type",
        "training.sft_weight",
        "training.desirable_weight",
        "training.undesirable_weight",
        "training.precompute_ref_log_probs",
    ),
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
        "training.train_sampling_strategy",
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
        "memory.spend",
        "memory.checkpointing",
        "training.num_processes",
        "memory.dequantized_layers",
        "memory.reserve_gb",
        "training.fast_paths",
        "model.dtype",
        "model.attn_implementation",
        "model.revision",
        "quantization.bnb_4bit_quant_type",
        "quantization.bnb_4bit_use_double_quant",
        "quantization.bnb_4bit_compute_dtype",
        "quantization.keep_on_disk",
    ),
}
# Settings that mean something for these objectives only, and are shown with them.
MATTERS_TO: Mapping[str, tuple[str, ...]] = {
    "training.beta": ("dpo", "kto", "orpo"),
    "training.loss_type": ("dpo",),
    "training.sft_weight": ("dpo",),
    "training.desirable_weight": ("kto",),
    "training.undesirable_weight": ("kto",),
    "training.precompute_ref_log_probs": ("dpo", "kto"),
    "data.packing": ("sft",),
    "data.train_on": ("sft",),
}
# Cards to plan for besides this machine's own, in GB.
CARDS_GB = (6, 8, 12, 16, 24, 48)
ORDER = (*MAIN, *(name for names in FOLDED.values() for name in names))

METHODS: dict[str, dict[str, object]] = {
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
class FormValues:
    """The Plan form as it was filled in: raw values, checked by `config`."""

    model: object
    method: object
    card_gb: object
    values: Mapping[str, object]

    @classmethod
    def showing(cls, config: RunConfig) -> FormValues:
        """Return the form that shows a config."""
        tree = config.as_dict()
        values = {name: shown(name, tree[name.partition(".")[0]][name.partition(".")[2]]) for name in ORDER}
        card = config.memory.vram_gb
        return cls(config.model.name, method_of(config), int(card) if card in CARDS_GB else 0, values)

    def changed(self, **changes: object) -> FormValues:
        """Return this form with other values; settings by their names with __ for the dot."""
        own = {name: value for name, value in changes.items() if name in ("model", "method", "card_gb")}
        values = {name.replace("__", "."): value for name, value in changes.items() if name not in own}
        if set(values) - set(self.values):
            raise LookupError(f"{min(set(values) - set(self.values))} is not on the form")
        return replace(self, **own, values={**self.values, **values})

    def config(self, base: RunConfig) -> RunConfig:
        """Return the RunConfig that the form means; the rest comes from `base`.

        Raises ConfigError with everything that is wrong.
        """
        wrong = self.faults(Translator())
        changes = {name: parse_value(name, value) for name, value in self.values.items() if name not in wrong}
        if str(self.method) in METHODS:
            changes.update(METHODS[str(self.method)])
        else:
            wrong["adapter.method"] = f"{str(self.method)[:40]!r} is no method"
        if "model.name" not in wrong:
            changes["model.name"] = str(self.model).strip()
        changes["memory.vram_gb"] = self._card(wrong)
        problems = [Problem(name, said) for name, said in wrong.items()]
        try:
            config = base.changed(changes, "the form")
        except ConfigError as error:
            problems += [one for one in error.problems if one.field not in wrong]
            raise ConfigError(problems, "the form") from None
        if problems:
            raise ConfigError(problems, "the form")
        return config

    def faults(self, t: Translator) -> dict[str, str]:
        """Return what is wrong with each single value, in the words of a language."""
        found = {name: fault(name, value, t) for name, value in {"model.name": self.model, **self.values}.items()}
        return {name: said for name, said in found.items() if said}

    def _card(self, wrong: dict[str, str]) -> float | None:
        """Return the size of the chosen card, None for this machine's."""
        card = self.card_gb
        if card in (None, 0, ""):
            return None
        if card not in CARDS_GB:
            wrong["memory.vram_gb"] = f"{str(card)[:40]!r} is no card of the list"
            return None
        return float(card)


@dataclass(frozen=True)
class PlanForm:
    """The controls of the Plan form; `settings` are those of ORDER by name."""

    model: Control
    method: Control
    card: Control
    settings: Mapping[str, Control]

    def inputs(self) -> list[Control]:
        """Return all controls."""
        return [self.model, self.method, self.card, *self.settings.values()]

    def read(self, values: Sequence[object]) -> FormValues:
        """Return the filled form."""
        model, method, card_gb, *rest = values
        return FormValues(model, method, card_gb, dict(zip(self.settings, rest, strict=True)))

    def showing(self, filled: FormValues) -> Updates:
        """Return what fills the form."""
        found = Updates({self.model: filled.model, self.method: filled.method, self.card: filled.card_gb})
        return Updates({**found, **{self.settings[name]: value for name, value in filled.values.items()}})
