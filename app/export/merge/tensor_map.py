"""Where the tensors of a checkpoint belong in its model: transformers renames some and stacks experts while it loads.

A mixture of experts lies in its files as one matrix an expert, and in the model as one tensor of all experts, gate and
up projections above each other (transformers' conversion_mapping). Merging goes the other way: from a parameter of the
model to the stored tensors that are its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)


@dataclass(frozen=True)
class Place:
    """The parameter that a stored tensor belongs to, and which part of it that is.

    expert: its matrix in a stack of them, None where the tensor is the whole parameter. part, parts: the rows of that
    matrix are the `part`-th of `parts` equal shares.
    """

    parameter: str
    expert: int | None = None
    part: int = 0
    parts: int = 1


def places_of(model: PreTrainedModel, names: Iterable[str]) -> dict[str, Place]:
    """Return the place of every stored tensor; one that is converted in another way than by stacking has none."""
    conversions = get_model_conversion_mapping(model)
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    converters = [one for one in conversions if isinstance(one, WeightConverter)]
    known = model.state_dict()
    found = {}
    for name in names:
        plain, _ = rename_source_key(name, renamings, [], model.base_model_prefix, known)
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if name in known and renamed not in known:
            found[name] = Place(name)
        elif pattern is None:
            found[name] = Place(renamed)
        else:
            converter = next(one for one in converters if pattern in one.source_patterns)
            place = _stacked(renamed, plain, pattern, converter)
            if place is not None:
                found[name] = place
    return found


def _stacked(parameter: str, name: str, pattern: str, converter: WeightConverter) -> Place | None:
    """Return the place of one expert's matrix, or None where the conversion does more than stack."""
    operations = [(type(one), getattr(one, "dim", None)) for one in converter.operations]
    expert = re.search(re.escape(pattern).replace(r"\*", r"(\d+)"), name)
    if expert is None or operations not in ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)]):
        return None
    parts = len(converter.source_patterns)
    return Place(parameter, int(expert[1]), list(converter.source_patterns).index(pattern), parts)
