"""docs/settings.md, made from RunConfig: `python -m app.config.reference` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.config.problems import range_of
from app.config.sections import Section, Sections, settings

FILE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
# The class whose argument a setting of the section is, unless it stands below.
_LIBRARIES = {
    "quantization": "transformers.BitsAndBytesConfig",
    "adapter": "peft.LoraConfig",
    "training": "transformers.TrainingArguments",
}
_LOADING = "transformers.PreTrainedModel.from_pretrained"
# Empty for what no library knows.
_OTHER_NAMES = {
    "model.name": f"{_LOADING}(pretrained_model_name_or_path)",
    "model.revision": f"{_LOADING}(revision)",
    "model.dtype": f"{_LOADING}(dtype)",
    "model.attn_implementation": f"{_LOADING}(attn_implementation)",
    "adapter.method": "",
    "adapter.start_from": "peft.PeftModel.from_pretrained(model_id)",
    "adapter.dtype": "",
    "adapter.loraplus_lr_ratio": "peft.optimizers.create_loraplus_optimizer(loraplus_lr_ratio)",
    "data.max_length": "trl.SFTConfig.max_length",
    "data.packing": "trl.SFTConfig.packing",
    "training.objective": "",
    "training.num_processes": "accelerate launch (--num_processes)",
    "training.beta": "trl.DPOConfig.beta",
    "training.loss_type": "trl.DPOConfig.loss_type",
    "training.sft_weight": "trl.DPOConfig.loss_weights",
    "training.desirable_weight": "trl.KTOConfig.desirable_weight",
    "training.undesirable_weight": "trl.KTOConfig.undesirable_weight",
    "training.precompute_ref_log_probs": "trl.DPOConfig.precompute_ref_log_probs",
    "training.early_stopping_patience": "transformers.EarlyStoppingCallback(early_stopping_patience)",
    "training.early_stopping_threshold": "transformers.EarlyStoppingCallback(early_stopping_threshold)",
    "training.fast_paths": "",
    "quantization.keep_on_disk": "",
    "training.on_divergence": "",
    "training.divergence_factor": "",
    "training.divergence_steps": "",
    "training.sample_prompts": "",
    "training.sample_tokens": "",
    "memory.checkpointing": "transformers.TrainingArguments.gradient_checkpointing",
}
_HEAD = """# Settings of a run

Made from `app/config/sections.py` by `python -m app.config.reference`; change it there. `--set NAME=VALUE`, the YAML of
a run and the presets take these names. What is right alone and wrong together is refused with the reason
(`app/config/rules.py`).
"""


def page() -> str:
    """Write the whole page."""
    return "\n".join([_HEAD, *_sections()])


def library_name(name: str) -> str:
    """Name a setting as the library that takes it does; empty for a setting of the workbench alone."""
    section, _, last = name.partition(".")
    library = _LIBRARIES.get(section, "")
    return _OTHER_NAMES.get(name, f"{library}.{last}" if library else "")


def _sections() -> Iterator[str]:
    for section in Sections.model_fields:
        yield f"## {section}\n"
        yield f"{_section(section).__doc__}\n"
        yield "| setting | default | allowed | unit | what it does | in the library |"
        yield "|---|---|---|---|---|---|"
        for name, field in settings():
            if name.startswith(f"{section}."):
                yield _row(name, field)
        yield ""


def _row(name: str, field: FieldInfo) -> str:
    allowed = range_of(name).removeprefix("allowed: ").removeprefix("one of ")
    if field.annotation is bool:
        allowed = "true, false"
    default = json.dumps(field.get_default(call_default_factory=True))
    library = library_name(name)
    what = f"{_extra(field)['label']}: {field.description}"
    cells = (f"`{name}`", f"`{default}`", allowed, str(_extra(field)["unit"]), what, f"`{library}`" if library else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section(name: str) -> type[Section]:
    kind = Sections.model_fields[name].annotation
    assert isinstance(kind, type) and issubclass(kind, Section)
    return kind


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)  # every setting is declared by `setting`
    return extra


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
