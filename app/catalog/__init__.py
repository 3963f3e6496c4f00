"""Models: a shipped architecture table, local folders, the hub; config-only inspection."""

from app.catalog.catalogue import Entry, all_models, entries, find, find_or_none, hub_config, search
from app.catalog.modules import LinearModule, layer_modules, total_parameters
from app.catalog.reader import read_config, spec_from_config
from app.catalog.spec import Experts, LatentAttention, Listing, ModelSpec

__all__ = [
    "Entry",
    "Experts",
    "LatentAttention",
    "LinearModule",
    "Listing",
    "ModelSpec",
    "all_models",
    "entries",
    "find",
    "find_or_none",
    "hub_config",
    "layer_modules",
    "read_config",
    "search",
    "spec_from_config",
    "total_parameters",
]
