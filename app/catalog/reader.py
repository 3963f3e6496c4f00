"""Turn a config.json into a ModelSpec: by numbers only, never by running what the folder brings along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.catalog.families import FAMILIES, Numbers, Reader
from app.catalog.fields import ConfigFields, OtherLayoutError
from app.catalog.general import numbers
from app.catalog.spec import ModelSpec
from app.catalog.vision import FIELD, vision_parameters
from app.errors import ModelError
from app.reading import file_size, parsed_json

_ARCHITECTURES = Path(__file__).with_name("architectures.json")
_MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_PARAMETERS = 10**13
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# Multimodal wrappers whose language model is one of ours under another name, or without any.
_TEXT_INSIDE = {"gemma3": "gemma3_text", "llava": "llama", "qwen2_5_vl": "qwen2"}


@lru_cache(maxsize=1)
def known_architectures() -> frozenset[str]:
    """Return every model type of the pinned transformers, which a test holds against the library."""
    return frozenset(json.loads(_ARCHITECTURES.read_text(encoding="utf-8")))


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json, or raise ModelError."""
    try:
        if file_size(path) > _MAX_CONFIG_BYTES:
            raise ModelError(
                f"{path.name} is too large for a model configuration", f"it has over {_MAX_CONFIG_BYTES:,} bytes"
            )
        content = parsed_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read", error.strerror or str(error), "Check the path and its rights"
        ) from error
    except ValueError as error:
        raise ModelError(
            f"{path} is not valid JSON", str(error)[:200], "Restore the model's own config.json"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a model configuration", "it does not hold a JSON object")
    return content


def _language_part(config: Mapping[str, Any], source: str) -> tuple[str, Mapping[str, Any], bool]:
    """Return model type and fields of the language model, and whether it is wrapped in a multimodal one."""
    family = config.get("model_type")
    if not isinstance(family, str) or not family:
        raise ModelError(
            f"The configuration of {source} cannot be used",
            "field model_type: is missing",
            "Use a model in the transformers format",
        )
    inner = config.get("text_config")
    if family not in FAMILIES and isinstance(inner, dict):
        for part in (inner.get("model_type"), _TEXT_INSIDE.get(family)):
            if isinstance(part, str) and part in FAMILIES:
                return part, inner, True
    return family, config, False


def spec_from_config(config: Mapping[str, Any], name: str) -> ModelSpec:
    """Return the ModelSpec of a parsed config.json; raise ModelError for a broken one.

    A family without a reader, or in a layout that its reader does not know, is planned by a trace of its class, which
    also says where there is none.
    """
    family, values, wrapped = _language_part(config, name)
    reader = FAMILIES.get(family)
    if reader is None and family not in known_architectures():
        raise ModelError(
            f"The architecture '{family[:60]}' of {name} is not supported",
            "the pinned release of transformers has no such architecture",
            "Choose a model that transformers knows",
        )
    inner = values.get("text_config") or values.get("decoder")
    fields = ConfigFields(inner if reader is None and isinstance(inner, dict) else values, name)
    dtype = _DTYPES.get(fields.text("dtype") or fields.text("torch_dtype"), "bf16")
    spec = ModelSpec(
        name=name, family=family, dtype=dtype, config=dict(values) | {"model_type": family}, **_numbers(fields, reader)
    )
    if wrapped:
        vision = vision_parameters(config, spec.hidden, name)
        spec = replace(spec, unplanned=vision or 0, uncounted=FIELD if vision is None else "")
    _check_size(spec, fields)
    return spec


def _numbers(fields: ConfigFields, reader: Reader | None) -> Numbers:
    """Read by a family's reader, and in general where it has none or its layers lie otherwise than it can say."""
    try:
        return (reader or numbers)(fields)
    except OtherLayoutError:
        return numbers(fields)


def _check_size(spec: ModelSpec, fields: ConfigFields) -> None:
    """Refuse numbers that are fine one by one but absurd together."""
    from app.catalog.modules import total_parameters

    if total_parameters(spec) > _MAX_PARAMETERS:
        raise fields.fail("hidden_size", "the numbers together describe more than 10 trillion parameters")
