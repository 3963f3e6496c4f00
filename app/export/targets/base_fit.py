"""Whether an adapter that leaves without its base fits the base that it names, as far as that can be told here."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import ExportError, ModelError, NetworkError, OtherBaseError
from app.export.merge.base_model import find_base
from app.export.merge.job import doubts
from app.export.merge.plan import make_plan
from app.export.merge.shards import SHARD_BYTES
from app.models.adapters import AdapterFolder
from app.models.identity import noted_base


@dataclass(frozen=True)
class BaseFit:
    """`doubts` says why the base is probably another one, `untold` what could not be compared; both empty for a fit."""

    doubts: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def fit_of(adapter: AdapterFolder, base: str | None) -> BaseFit:
    """Compare an adapter with its base by layers, shapes and the note of its training; nothing is fetched for it.

    Raises OtherBaseError where it does not fit, ModelError where it is damaged.
    """
    try:
        model = find_base(adapter, base, fetch=False)
    except (NetworkError, ModelError, ExportError):  # their words may name folders of this machine
        return BaseFit(untold=("its 16-bit base is not on this machine, so nothing was compared with it",))
    try:
        make_plan(model, adapter, None, SHARD_BYTES)
    except OtherBaseError:
        raise
    except ExportError:  # it cannot be merged, which is not asked for
        return BaseFit(untold=("its base stores layers in a form that cannot be compared with the adapter here",))
    found = tuple(doubts(adapter, model.folder))
    untold = () if noted_base(adapter.path) else ("the adapter has no note of the base that it was trained on",)
    return BaseFit(found, untold)
