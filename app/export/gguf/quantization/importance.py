"""The importance matrix: how much each column of a matrix is used on the person's own rows.

A quantiser that knows it spends its few bits where they count. The measure is llama.cpp's: the mean square of what a
column is multiplied by, over all tokens, of a routed expert over those that are sent to it (tools/imatrix).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.makers import outcomes
from app.data.dataset.options import DataOptions
from app.data.reading.readers import read_rows
from app.errors import DataError, ExportError
from app.export.gguf.architecture import linear_attention
from app.export.gguf.architecture.families import family_of
from app.export.gguf.model import Importance
from app.export.gguf.quantization import experts
from app.export.gguf.quantization.llama_cpp import Floats
from app.export.gguf.tensors import Names
from app.export.merge import check
from app.export.merge.base_model import BaseModel

# llama.cpp's own recipes read some 50,000 tokens; the means of a fine-tuned model's narrow rows settle far sooner.
MOST_TOKENS = 16_384
_LONGEST = 512


@dataclass(frozen=True)
class Collected:
    """The importance of each column, (columns) or (experts, columns) by the tensor's name in the file, and of what."""

    columns: Importance
    rows: int
    tokens: int
    sha256: str


def collect(
    model: BaseModel,
    source: Path,
    parameters: int,
    max_ram_bytes: int,
    held_out: frozenset[tuple[int, ...]] = frozenset(),
) -> Collected:
    """Read rows with the 16-bit model and note what goes into each matrix.

    Held-out rows, known by their ids, are passed over. Raises DataError when no row can be used, ExportError when the
    model does not fit into the memory.
    """
    texts = list(_texts(model.folder, source, held_out))
    if not texts:
        raise DataError(f"No row of {source.name} can be read by this model", "", "see what `data check` says of it")
    config = model.config.get_text_config(decoder=True)
    dtype = check.fitting_dtype(parameters, config.vocab_size, max_ram_bytes)
    if dtype is None:
        raise ExportError(
            "The rows cannot be weighed", "the 16-bit model does not fit into the memory", "raise --max-ram"
        )
    names = Names(family_of(model.config), config)
    with check.loaded(model.folder, None, "none", dtype) as network, torch.no_grad():
        sums, orders, hooks, routed = {}, {}, [], []
        for name, module in network.named_modules():
            if experts.can_be_weighed(module):
                routed.append(experts.Inputs(name, module))
                hooks.append(module.register_forward_pre_hook(routed[-1].add))
            called = names.known(f"{name}.weight") if isinstance(module, nn.Linear) else None
            if isinstance(module, nn.Linear) and called and not (name.endswith("lm_head") and model.tied):
                sums[called] = torch.zeros(module.in_features, dtype=torch.float64)
                orders[called] = linear_attention.order_of(f"{name}.weight", config)[1]
                hooks.append(module.register_forward_pre_hook(_adding_to(sums[called])))
        for ids in texts:
            network(input_ids=torch.tensor([ids]), use_cache=False)
        for hook in hooks:
            hook.remove()
    tokens = sum(map(len, texts))
    columns = {name: (total / tokens).to(torch.float32).numpy() for name, total in sums.items()}
    columns |= {name: columns[name][order.numpy()] for name, order in orders.items() if order is not None}
    for layer in routed:
        columns |= layer.means()
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
    return Collected({name: _usable(one) for name, one in columns.items()}, len(texts), tokens, digest)


def _adding_to(place: torch.Tensor) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        place.add_(inputs[0].reshape(-1, len(place)).double().square().sum(0))

    return hook


def _usable(columns: Floats) -> Floats:
    """Return the columns with a floor: one that was never used still has to be stored as something."""
    mean = columns.mean(-1, keepdims=True)
    return np.maximum(columns, np.float32(1e-6) * np.where(mean > 0, mean, np.float32(1)))


def _texts(folder: Path, source: Path, held_out: frozenset[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield rows as token ids, as training would read them, up to the limit."""
    options = DataOptions.checked(max_length=_LONGEST, packing=False)
    renderer = Renderer(load_tokenizer(folder, ""))
    left = MOST_TOKENS
    for outcome in outcomes(read_rows(source), options, renderer):
        for example in outcome.examples:
            if left <= 0:
                return
            if tuple(example.input_ids) in held_out:
                continue
            ids = list(example.input_ids)[:left]
            left -= len(ids)
            yield ids
