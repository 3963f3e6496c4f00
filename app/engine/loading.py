"""An adapter that cannot share the batch, on a model of its own: new modules around the very weights of the base.

PEFT puts its layers into the model that it is given, and a loading that fails leaves them there. So it is given a copy
of the base's modules that shares its weights and costs no memory; what the adapter brings whole is put beside the
shared weights and never into them. The base is as before whatever becomes of the adapter.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from app.engine.loaded_model import LoadedModel
from app.engine.memory import Memory
from app.errors import EngineError, foreign_code, one_line
from app.models.adapter_files import bare_name
from app.models.adapters import AdapterFolder

# PEFT's name for the one adapter of such a model.
_OWN = "own"
_OWN_PART = re.compile(rf"\.{_OWN}(?=\.|$)")


def shell_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the modules of a model that shares all of its tensors."""
    shared = {id(tensor): tensor for module in model.modules() for tensor in _tensors(vars(module))}
    made: PreTrainedModel = copy.deepcopy(model, shared)
    return made


def own_tensors(adapter: AdapterFolder, model: nn.Module, name: str) -> dict[str, str]:
    """Return the base's parameters for which an adapter brings tensors of its own, with the names of these.

    Copies of the base's own embeddings, which PEFT writes along with updates of them, are left out. Raises EngineError
    for tensors that no such base can take, and for embeddings that are not this base's.
    """
    base = {**dict(model.named_buffers()), **dict(model.named_parameters(remove_duplicate=False))}
    found = {}
    for key in adapter.whole_tensors.values():
        parameter = bare_name(key)
        mine, theirs = base.get(parameter), adapter.finite(key)
        if mine is None:
            raise _misfit(name, f"its tensor {parameter} has no place in this base")
        if mine.shape != theirs.shape:
            raise _misfit(name, _sizes(parameter, theirs, mine))
        if adapter.trains_whole(parameter):
            found[parameter] = key
        elif not _equal(mine, theirs):
            raise EngineError(
                f"The adapter {name!r} was made on another base",
                f"its copy of {parameter} differs from this base's",
                "load it on its own base",
            )
    return found


def open_adapter(
    shell: PreTrainedModel, adapter: AdapterFolder, name: str, memory: Memory | None = None
) -> LoadedModel:
    """Load an adapter with PEFT onto a shell, and prove that every tensor of its file has come to stand in it.

    `memory` is how the shell's class is decoded, where that is known.

    Raises EngineError for whatever goes wrong; the shell is of no use then.
    """
    from peft import PeftModel  # slow to import, and most adapters do not need it

    _check_rows(adapter, shell, name)
    for key in adapter.keys:
        adapter.finite(key)
    _set_apart(shell, {bare_name(key) for key in adapter.whole_tensors.values()})
    # PEFT raises anything from IndexError to AssertionError about a file that it does not like. The warnings are of
    # ties that concern a merge, and of keys, which are held to below.
    no_misfit = torch.OutOfMemoryError
    with foreign_code(lambda error: _misfit(name, one_line(error)), no_misfit), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(shell, str(adapter.path), adapter_name=_OWN).eval()
    _refuse_unread(model, adapter, name)
    return LoadedModel(shell, memory=memory)


def _check_rows(adapter: AdapterFolder, model: PreTrainedModel, name: str) -> None:
    """Refuse replaced rows of an embedding that has no such rows: a card would fail at them for good."""
    wanted: Any = adapter.config.get("trainable_token_indices") or ()
    lists = wanted.values() if isinstance(wanted, dict) else [wanted]
    rows = model.get_input_embeddings().weight.shape[0]
    wrong = [token for tokens in lists for token in tokens if not isinstance(token, int) or not 0 <= token < rows]
    if wrong:
        raise _misfit(name, f"it replaces the row of token {wrong[0]!r:.40}, the base has {rows:,} tokens")


def _set_apart(shell: nn.Module, parameters: set[str]) -> None:
    """Give a shell tensors of its own where the file names one, at every place that shares it."""
    own: dict[int, nn.Parameter] = {}
    named = dict(shell.named_parameters(remove_duplicate=False))
    for parameter in parameters & named.keys():
        old = named[parameter]
        own[id(old)] = nn.Parameter(old.detach().clone(), requires_grad=False)
    for module in shell.modules():
        for slot, held in module._parameters.items():
            if held is not None and id(held) in own:
                module._parameters[slot] = own[id(held)]


def _refuse_unread(model: nn.Module, adapter: AdapterFolder, name: str) -> None:
    """Refuse an adapter of which PEFT has passed over a tensor, missed one, or read another in its place."""
    exact, loose = {}, {}
    open_parts: dict[int, str] = {}
    for key, tensor in model.state_dict().items():
        if ".original_module." not in key:
            plain = _OWN_PART.sub("", key)
            exact[plain] = tensor
            if plain != key or bare_name(plain) not in loose:
                loose[bare_name(plain)] = tensor
            if plain != key:
                open_parts[tensor.data_ptr()] = plain
    for key in adapter.keys:
        held = exact.get(key)
        if held is None:
            held = loose.get(bare_name(key))
        if held is None:
            raise _misfit(name, f"its tensor {key} is none that PEFT reads")
        if not torch.equal(held, adapter.tensor(key).to(held)):
            raise EngineError(f"The column {name!r} has other weights", "the identity proof failed", "")
        open_parts.pop(held.data_ptr(), None)
    if open_parts:
        raise _misfit(name, f"its file lacks {min(open_parts.values())}, which its configuration names")


def _sizes(parameter: str, theirs: torch.Tensor, mine: torch.Tensor) -> str:
    if re.search(r"(embed|wte|lm_head|output)", parameter) and theirs.ndim == mine.ndim == 2:
        return f"its {parameter} has {theirs.shape[0]:,} tokens, the base's {mine.shape[0]:,}"
    return f"its {parameter} is {tuple(theirs.shape)}, the base's {tuple(mine.shape)}"


def _equal(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Compare in the coarser of both formats: either may have been rounded from the other."""
    theirs = theirs.to(mine.device)
    return bool(torch.equal(mine, theirs.to(mine.dtype)) or torch.equal(mine.to(theirs.dtype), theirs))


def _misfit(name: str, why: str) -> EngineError:
    return EngineError(f"The adapter {name!r} does not fit the base", why, "load it on the base that it was trained on")


def _tensors(held: Mapping[str, object], depth: int = 3) -> Iterator[torch.Tensor]:
    """Yield the tensors that a module's attributes hold: parameters, buffers, and the states of quantised layers."""
    for value in held.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            yield from (one for one in value.values() if isinstance(one, torch.Tensor))
        elif depth and type(value).__module__.startswith("bitsandbytes") and hasattr(value, "__dict__"):
            yield from _tensors(vars(value), depth - 1)
