"""The base and its adapters as columns: who shares the batch, who runs beside it, and the proof of who is who."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.engine.batching.adapter_stack import AdapterStack, Mix
from app.engine.batching.kv_cache import Caches, SeparateCaches, bytes_of
from app.engine.loaded_model import LoadedModel, one_by_one, open_beside
from app.engine.loading import open_adapter, own_tensors, shell_of
from app.errors import EngineError, ModelError, foreign_code, one_line
from app.models.adapter_files import is_model
from app.models.adapters import AdapterFolder
from app.models.identity import base_warning
from app.models.loading import load_base
from app.models.moe.experts import stacked_names

BASE = "base"
# Digits of a model's hash, as many as an adapter's has.
_HASH_DIGITS = 12


@dataclass(frozen=True)
class Variant:
    """The base, an adapter, or with `whole` a model of its own beside the base.

    `shared` says whether it is answered in the shared batch, `warning` what a reader of its answers should know.
    """

    name: str
    folder: Path | None = None
    hash: str = ""
    shared: bool = True
    rank: int = 0
    warning: str = ""
    whole: bool = False


class VariantSet:
    """A base model with named adapters, and models beside it. Not safe for threads: the decoder alone calls it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        base_hash: str = "",
        load: Callable[[str], PreTrainedModel] = load_base,
    ) -> None:
        """`base_hash` is the identity of the base's weights, with which those of adapters are compared.

        `load` opens a model beside the base, stored as the base is.
        """
        self._base, self._load = LoadedModel(model), load
        self._models: dict[str, LoadedModel] = {}
        self.model, self.tokenizer, self.base_hash = model, tokenizer, base_hash
        self.device = model.get_input_embeddings().weight.device
        self.columns: dict[str, Variant] = {BASE: Variant(BASE)}
        self._stack = AdapterStack(dict(model.named_modules()), model.dtype)
        words = self.tokenizer("The quick brown fox jumps over 12 lazy dogs.", add_special_tokens=False)["input_ids"]
        self._probe = torch.tensor([words[:32]], device=self.device)
        self._exact = not getattr(model, "is_loaded_in_8bit", False)
        self._routes = any(stacked_names(module) or _has_router(module) for module in model.modules())
        self._base_logits = self._logits_of([BASE])
        self._shell = shell_of(model)  # behind the first answer, at which 8-bit layers settle their weights

    def opened(self, folder: Path) -> LoadedModel | None:
        """Load the model of a folder; None for an adapter's. May be called from any thread: no column is touched.

        Raises EngineError or ModelError.
        """
        return open_beside(folder, self.tokenizer, self._load) if is_model(folder) else None

    def add(self, name: str, folder: Path, opened: LoadedModel | None = None) -> Variant:
        """Load an adapter, or put a model beside the base, and prove that it is itself.

        `opened` is the folder's model where it is loaded already. Raises EngineError, and is as it was before, for
        whatever goes wrong.
        """
        if name in self.columns:
            raise EngineError(f"There is a column {name!r} already", "each name is given once", "choose another name")
        try:
            with foreign_code(partial(_refusal, name), (ModelError, EngineError)), self._unless_it_fails():
                if model := opened or self.opened(folder):
                    self._take_whole(name, folder, model)
                else:
                    self._take_adapter(name, AdapterFolder(folder))
        except (ModelError, EngineError) as error:
            raise EngineError(error.what, error.why, error.remedy) from None
        return self.columns[name]

    @contextmanager
    def _unless_it_fails(self) -> Iterator[None]:
        """Put columns, models and stack back as they were when loading raises anything."""
        columns, models, stack = dict(self.columns), dict(self._models), self._stack.snapshot()

        def put_back() -> None:
            self.columns, self._models = columns, models
            self._stack.restore(stack)

        with ExitStack() as undo:
            undo.callback(put_back)
            yield
            undo.pop_all()

    def _take_adapter(self, name: str, adapter: AdapterFolder) -> None:
        """Load an adapter into the shared batch, or beside it, and prove it."""
        adapter.refuse_changed_base()
        adapter.refuse_unserved()
        _refuse_dora_on_int8(adapter, self.model, self.device)
        first_hash = adapter.hash  # before anything of it is read: the proof asks for it again
        own = own_tensors(adapter, self.model, name)
        shared = adapter.sums_up and not own and self._rows_come_first(adapter)
        if shared:
            self._stack.put(name, adapter.updates())
        else:
            self._models[name] = open_adapter(shell_of(self._shell), adapter, name, self._base.memory)
        warning = base_warning(adapter.path, self.base_hash)
        column = Variant(name, adapter.path, first_hash, shared, adapter.rank, warning)
        self.columns[name] = column
        self._prove(column, adapter)

    def _rows_come_first(self, adapter: AdapterFolder) -> bool:
        """Tell whether the layers of an adapter are given rows one after another, so that each can have its own.

        FSMT and XLNet put the tokens first, and an expert is given whatever tokens were sent to it, of any row.
        """
        if self.keeps_state:
            return True
        modules = dict(self.model.named_modules())
        found: list[bool] = []
        rows, tokens = 2, self._probe.shape[1]

        def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            found.append(output.shape[0] == rows if output.ndim > 2 else output.shape[0] == rows * tokens)

        hooks = [modules[name].register_forward_hook(look) for name in adapter.layers if name in modules]
        try:
            self._logits_of([BASE] * rows)
        finally:
            for hook in hooks:
                hook.remove()
        return all(found)

    def _take_whole(self, name: str, folder: Path, model: LoadedModel) -> None:
        """Put a model beside the base. The base must answer as before, and the model with numbers."""
        self._models[name] = model
        self.columns[name] = Variant(name, folder, model.identity[:_HASH_DIGITS], shared=False, whole=True)
        same = self._same(self._logits_of([BASE])[0], self._base_logits[0])
        if not same or not bool(self._logits_of([name]).isfinite().all()):
            why = "its answer is not made of numbers" if same else "it changed the base column"
            raise EngineError(f"{folder.name} cannot be a column", why, "use another copy of the model")

    def remove(self, name: str) -> None:
        """Unload an adapter, or a model beside the base."""
        column = self.columns.pop(name)
        if column.shared:
            self._stack.drop(name)
        else:
            del self._models[name]

    @cached_property
    def cache_bytes_per_token(self) -> int:
        """Return what one token of one row takes in the cache: what the probe's tokens leave there, for every layer.

        Measured: layers differ in the width and the number of their heads, share keys, or keep a state and no keys.
        """
        ids, cache = self._probe, self.fresh_cache(1)
        self.forward([BASE], ids, torch.ones_like(ids), torch.arange(ids.shape[1], device=self.device)[None], cache)
        taken: int = bytes_of(cache) // ids.shape[1]
        return max(1, taken)

    def forward(
        self,
        names: Sequence[str | Mix],
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Caches | None,
    ) -> torch.Tensor:
        """Return the logits (rows, vocabulary) behind the last token; each row uses the column of its name, or its mix.

        ids and positions are (rows, new), mask is (rows, past + new). Either all columns share the batch, or all rows
        are of one column that runs beside it.
        """
        if isinstance(cache, SeparateCaches):
            return self._one_by_one(names, ids, mask, positions, cache)
        return self._select(names).logits(ids, mask, positions, cache)[:, -1]

    def sequence_logits(
        self,
        names: Sequence[str | Mix],
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Caches | None,
        last: int,
    ) -> torch.Tensor:
        """Return the logits (rows, last, vocabulary) behind each of the last tokens; else as `forward`.

        Rows of a model that keeps a state come one at a time, without padding and without a cache.
        """
        assert not isinstance(cache, SeparateCaches)
        return self._select(names).logits(ids, mask, positions, cache, last)

    def _one_by_one(
        self,
        names: Sequence[str | Mix],
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: SeparateCaches,
    ) -> torch.Tensor:
        """Return the logits of rows that are computed one after another, each without its padding."""
        rows = zip(names, one_by_one(ids, mask, positions), cache.rows, strict=True)
        return torch.cat([self._select([name]).logits(*row, past)[:, -1] for name, row, past in rows])

    @property
    def keeps_state(self) -> bool:
        """Tell whether rows are computed one by one: the base carries a state, or has no memory to be trusted."""
        return self._base.keeps_state

    def prefix_stays(self, name: str) -> bool:
        """Tell whether what a column has read of a text may be gone on from when the text has grown."""
        return not self._base.keeps_state and self._models.get(name, self._base).prefix_stays

    def fresh_cache(self, rows: int) -> Caches:
        """Return a cache without a past for some rows."""
        return self._base.fresh_cache(rows)

    def _select(self, names: Sequence[str | Mix]) -> LoadedModel:
        """Switch to the columns of a batch and return the model that it runs on."""
        first = names[0]
        if not isinstance(first, Mix) and first in self._models:
            return self._models[first]
        self._stack.route([None if name == BASE else name for name in names])
        return self._base

    def _prove(self, column: Variant, adapter: AdapterFolder) -> None:
        """Prove that the base column is still the base, and that the new column is neither the base nor another."""
        if not self._same(self._logits_of([BASE])[0], self._base_logits[0]):
            raise EngineError(f"Loading {column.name!r} changed the base column", "the identity proof failed", "")
        if column.shared and not self._stack.holds(column.name, adapter.updates()):
            raise EngineError(f"The column {column.name!r} has other weights", "the identity proof failed", "")
        if not column.shared:
            plain, own = self._base_logits[0], self._logits_of([column.name])[0]
        else:
            names = [BASE, *(other.name for other in self.columns.values() if other.shared and other.name != BASE)]
            plain_rows = self._logits_of([BASE] * len(names))
            rows = self._logits_of(names)
            if not self._same(rows[0], plain_rows[0]):
                raise EngineError("The base row of a mixed batch is not the base", "the identity proof failed", "")
            place = names.index(column.name)
            plain, own = plain_rows[place], rows[place]
            self._prove_alone(column, own)
        if not bool(own.isfinite().all()):
            raise EngineError(
                f"The column {column.name!r} cannot answer", "its answer is not made of numbers", "use another copy"
            )
        if torch.equal(plain, own) and _changes_something(adapter, self.model, column.name):
            raise EngineError(
                f"The column {column.name!r} answers as the base", "its weights are not zero", "check its base model"
            )
        if AdapterFolder(adapter.path).hash != column.hash:
            raise EngineError(f"{adapter.path} was changed while it was loaded", "", "load it again")

    def _prove_alone(self, column: Variant, mixed: torch.Tensor) -> None:
        """Prove that a row of a mixed batch is what the adapter answers alone."""
        alone = self._logits_of([column.name])[0].float()
        # float32 differs in the last bits between batch sizes, 16-bit formats in more of them.
        tolerance = 1e-3 if self.model.dtype == torch.float32 and self._exact else 0.1
        if float((alone - mixed.float()).norm()) > tolerance * float(alone.norm()):
            raise EngineError(f"The column {column.name!r} is mixed up with another", "the identity proof failed", "")

    def _same(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Compare logits bit by bit; where rows are computed together that other rows choose, last bits may differ.

        8-bit layers look at the whole batch for outliers, and an expert multiplies the tokens of all rows at once.
        """
        if torch.equal(one, other):
            return True
        narrow = self.model.dtype != torch.float32
        allowed = (0.02 if narrow else 1e-4) * self._routes if self._exact else 0.1
        return float((one.float() - other.float()).norm()) <= allowed * float(other.float().norm())

    def _logits_of(self, names: Sequence[str | Mix]) -> torch.Tensor:
        if self.keeps_state and len(names) > 1:  # as they are answered
            return torch.cat([self._logits_of([name]) for name in names])
        ids = self._probe.repeat(len(names), 1)
        mask = torch.ones_like(ids)
        return self.forward(names, ids, mask, torch.arange(ids.shape[1], device=self.device).expand_as(ids), None)


def _refusal(name: str, error: Exception) -> EngineError:
    """Return the error of a folder that makes the libraries raise something, with its reason."""
    if isinstance(error, torch.OutOfMemoryError):
        return EngineError(f"There is no room for {name!r}", one_line(error), "unload another column")
    why = f"{type(error).__name__}: {one_line(error)}"
    return EngineError(f"{name!r} cannot be a column", why, "use another copy, or merge the adapter")


def _has_router(module: nn.Module) -> bool:
    """Tell whether a part of a model chooses experts for its tokens."""
    return isinstance(getattr(module, "experts", None), nn.Module) or any(
        word in type(module).__name__ for word in ("Router", "Gating")
    )


def _refuse_dora_on_int8(adapter: AdapterFolder, model: PreTrainedModel, device: torch.device) -> None:
    """Refuse DoRA where PEFT cannot know the base's weights: on a processor, 8-bit layers that have answered once."""
    if adapter.config.get("use_dora") and getattr(model, "is_loaded_in_8bit", False) and device.type == "cpu":
        raise EngineError(
            f"The DoRA adapter {adapter.path.name} cannot run on an 8-bit base here",
            "on a processor an 8-bit layer cannot tell DoRA its weights",
            "start the engine with --quant nf4 or none",
        )


def _changes_something(adapter: AdapterFolder, model: PreTrainedModel, name: str) -> bool:
    """Tell whether any B of an adapter is not zero and counts (alpha), or it brings tensors of its own."""
    if own_tensors(adapter, model, name) or adapter.token_rows:
        return True
    counting = [parts for module, parts in adapter.layers.items() if adapter.scaling(module, adapter.rank)]
    seconds = [key for parts in counting for part, key in parts.items() if "_B" in part]
    return any(bool(adapter.tensor(key).any()) for key in seconds)
