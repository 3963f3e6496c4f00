"""Where an adapter lies: a folder here, or on the hub, from where its settings, weights and template are fetched."""

from __future__ import annotations

from pathlib import Path

from app.hub.ids import is_local
from app.hub.network import fetch_folder
from app.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from app.models.names import resolve_adapter

_WANTED = (CONFIG_FILE, WEIGHTS_FILE, "tokenizer_config.json", "chat_template.jinja", "workbench.json")


def locate(name: str) -> Path:
    """Return the folder of an adapter, fetched from the hub where it is named there.

    Raises ModelError for what is no name, NetworkError when the hub has no such adapter or cannot be reached.
    """
    resolved = resolve_adapter(name)
    if is_local(resolved):
        return Path(resolved)
    remedy = "check the name and the network, or name a folder on this machine"
    return fetch_folder(resolved, _WANTED, f"The adapter {resolved} is no folder here and", remedy)
