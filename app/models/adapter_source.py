"""Where an adapter lies: a folder here, or on the hub, from where its settings, weights and template are fetched."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from app.errors import NetworkError
from app.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from app.models.names import is_local, resolve_adapter
from app.models.network import follow_the_network, why_not_fetched

_WANTED = (CONFIG_FILE, WEIGHTS_FILE, "tokenizer_config.json", "chat_template.jinja", "workbench.json")


def locate(name: str) -> Path:
    """Return the folder of an adapter, fetched from the hub where it is named there.

    Raises ModelError for what is no name, NetworkError when the hub has no such adapter or cannot be reached.
    """
    resolved = resolve_adapter(name)
    if is_local(resolved):
        return Path(resolved)
    follow_the_network(resolved)
    try:
        return Path(snapshot_download(resolved, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        why = why_not_fetched(error)
        remedy = "check the name and the network, or name a folder on this machine"
        raise NetworkError(f"The adapter {resolved} is no folder here and cannot be fetched", why, remedy) from None
