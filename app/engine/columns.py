"""The base and its adapters as columns: who shares the batch, who runs beside it, and the proof of who is who."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.engine.kv_cache import RowCache
from app.engine.open_model import OpenModel, is_model, open_beside
from app.engine.stack import Mix, Stack
from app.errors import EngineError, ModelError
from app.models.adapters import AdapterFolder
from app.models.identity import base_warning, fingerprint
from app.models.loading import load_base

BASE = "base"
# Digits of a model's hash, as many as an adapter's has.
_HASH_DIGITS = 12


@dataclass(frozen=True)
class Column:
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


class Columns:
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
        self._base, self._load = OpenModel(model), load
        self._models: dict[str, OpenModel] = {}
        self.model, self.tokenizer, self.base_hash = model, tokenizer, base_hash
        self.device = model.get_input_embeddings().weight.device
        self.columns: dict[str, Column] = {BASE: Column(BASE)}
        self._stack = Stack(dict(model.named_modules()), model.dtype)
        self._beside: Any = None  # a PeftModel around the same base, once an adapter needs it
        self._active: str | None = None
        self._probe = self._probe_ids()
        self._exact = not getattr(model, "is_loaded_in_8bit", False)
        self._base_logits = self._logits_of([BASE])

    def opened(self, folder: Path) -> OpenModel | None:
        """Load the model of a folder; None for an adapter's. May be called from any thread: no column is touched.

        Raises EngineError or ModelError.
        """
        return open_beside(folder, self.tokenizer, self._load) if is_model(folder) else None

    def add(self, name: str, folder: Path, opened: OpenModel | None = None) -> Column:
        """Load an adapter, or put a model beside the base, and prove that it is itself.

        `opened` is the folder's model where it is loaded already. Raises EngineError and stays as it was when that
        fails.
        """
        if name in self.columns:
            raise EngineError(f"There is a column {name!r} already", "each name is given once", "choose another name")
        if model := opened or self.opened(folder):
            return self._add_whole(name, folder, model)
        try:
            adapter = AdapterFolder(folder)
            adapter.refuse_changed_base()
            warning = base_warning(adapter.path, self.base_hash)
            column = Column(name, folder, adapter.hash, adapter.stackable, adapter.rank, warning)
            if column.shared:
                self._stack.put(name, adapter.updates())
            else:
                self._load_beside(name, adapter)
        except ModelError as error:
            raise EngineError(error.what, error.why, error.remedy) from None
        self.columns[name] = column
        try:
            self._prove(column, adapter)
        except EngineError:
            self.remove(name)
            raise
        except RuntimeError as error:  # torch's class: the base shapes its batch in a way that rows cannot share
            self.remove(name)
            raise EngineError(f"The base cannot answer with {name!r}", str(error)[:200], "merge the adapter") from None
        return column

    def _add_whole(self, name: str, folder: Path, model: OpenModel) -> Column:
        """Put a model beside the base. The base must answer as before, and the model with numbers."""
        self._models[name] = model
        self.columns[name] = Column(name, folder, fingerprint(str(folder))[:_HASH_DIGITS], shared=False, whole=True)
        same = self._same(self._logits_of([BASE])[0], self._base_logits[0])
        if not same or not bool(self._logits_of([name]).isfinite().all()):
            self.remove(name)
            why = "its answer is not made of numbers" if same else "it changed the base column"
            raise EngineError(f"{folder.name} cannot be a column", why, "use another copy of the model")
        return self.columns[name]

    def remove(self, name: str) -> None:
        """Unload an adapter, or a model beside the base."""
        column = self.columns.pop(name)
        if column.whole:
            del self._models[name]
        elif column.shared:
            self._stack.drop(name)
        else:
            self._activate(None)
            self._beside.delete_adapter(name)

    @property
    def cache_bytes_per_token(self) -> int:
        """Return what one token of one row takes in the cache: keys and values of every layer."""
        config = self.model.config.get_text_config(decoder=True)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize)

    def forward(
        self,
        names: Sequence[str | Mix],
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: RowCache | None,
    ) -> torch.Tensor:
        """Return the logits (rows, vocabulary) behind the last token; each row uses the column of its name, or its mix.

        ids and positions are (rows, new), mask is (rows, past + new). Either all columns share the batch, or all rows
        are of one column that runs beside it.
        """
        return self._select(names).logits(ids, mask, positions, cache)

    def _select(self, names: Sequence[str | Mix]) -> OpenModel:
        """Switch to the columns of a batch and return the model that it runs on."""
        first = names[0]
        if not isinstance(first, Mix) and first in self._models:
            return self._models[first]
        if isinstance(first, Mix) or self.columns[first].shared:
            self._activate(None)
            self._stack.route([None if name == BASE else name for name in names])
        else:
            self._stack.route(None)
            self._activate(first)
        return self._base

    def _activate(self, name: str | None) -> None:
        """Switch PEFT to an adapter that runs beside the batch, or off."""
        if self._beside is None or name == self._active:
            return
        if name is None:
            self._beside.base_model.disable_adapter_layers()
        else:
            if self._active is None:
                self._beside.base_model.enable_adapter_layers()
            self._beside.base_model.set_adapter(name, inference_mode=True)
        self._active = name

    def _load_beside(self, name: str, adapter: AdapterFolder) -> None:
        """Load an adapter that cannot share the batch with PEFT, around the same base."""
        from peft import PeftModel  # slow to import, and most adapters do not need it

        self._refuse_other_base(name, adapter)
        try:
            if self._beside is None:
                self._beside = PeftModel.from_pretrained(self.model, str(adapter.path), adapter_name=name).eval()
                self._active = name
            else:
                self._beside.load_adapter(str(adapter.path), adapter_name=name)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise EngineError(f"The adapter {name!r} does not fit the base", reason, "check its base model") from None
        self._active = self._active or name
        self._activate(None)

    def _refuse_other_base(self, name: str, adapter: AdapterFolder) -> None:
        """Refuse an adapter that would write into the base, which all columns share."""
        if any(parameter.endswith(".bias") for parameter in adapter.whole_tensors):
            raise EngineError(
                f"The adapter {name!r} cannot run beside others",
                "it brings biases of its own, which would change the base of every column",
                "merge it and load the merged model",
            )
        own = dict(self.model.named_parameters())
        for parameter, key in adapter.whole_tensors.items():
            if ".base_layer." not in key:
                continue  # modules_to_save: PEFT keeps them apart from the base
            mine = own.get(parameter)
            theirs = adapter.tensor(key)
            if mine is None or mine.shape != theirs.shape or not torch.equal(mine, theirs.to(mine)):
                raise EngineError(
                    f"The adapter {name!r} was made on another base",
                    f"its {parameter} differs",
                    "load it on its own base",
                )

    def _prove(self, column: Column, adapter: AdapterFolder) -> None:
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
        if torch.equal(plain, own) and _changes_something(adapter):
            raise EngineError(
                f"The column {column.name!r} answers as the base", "its weights are not zero", "check its base model"
            )

    def _prove_alone(self, column: Column, mixed: torch.Tensor) -> None:
        """Prove that a row of a mixed batch is what the adapter answers alone."""
        alone = self._logits_of([column.name])[0].float()
        # float32 differs in the last bits between batch sizes, 16-bit formats in more of them.
        tolerance = 1e-3 if self.model.dtype == torch.float32 and self._exact else 0.1
        if float((alone - mixed.float()).norm()) > tolerance * float(alone.norm()):
            raise EngineError(f"The column {column.name!r} is mixed up with another", "the identity proof failed", "")

    def _same(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Compare logits bit by bit; 8-bit layers look at the whole batch for outliers, so theirs may differ."""
        if self._exact:
            return bool(torch.equal(one, other))
        return float((one.float() - other.float()).norm()) <= 0.1 * float(other.float().norm())

    def _logits_of(self, names: Sequence[str | Mix]) -> torch.Tensor:
        ids = self._probe.repeat(len(names), 1)
        mask = torch.ones_like(ids)
        return self.forward(names, ids, mask, torch.arange(ids.shape[1], device=self.device).expand_as(ids), None)

    def _probe_ids(self) -> torch.Tensor:
        words = self.tokenizer("The quick brown fox jumps over 12 lazy dogs.", add_special_tokens=False)["input_ids"]
        return torch.tensor([words[:32]], device=self.device)


def _changes_something(adapter: AdapterFolder) -> bool:
    """Tell whether any B of an adapter is not zero, or it brings whole tensors."""
    return bool(adapter.whole_tensors) or any(bool(update.b.any()) for update in adapter.updates())
