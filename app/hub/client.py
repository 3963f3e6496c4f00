"""Fetch a config.json or tokenizer files from the Hugging Face hub: the only place of this room with the network."""

from __future__ import annotations

from pathlib import Path

from app.errors import ModelError, WorkbenchError, foreign_code, keyed
from app.hub import address, mirror

_PROBE_TIMEOUT_S = 8.0
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*config.json",
)


def fetch_config(hub_id: str, revision: str | None = None) -> Path:
    """Return the local path of a hub model's config.json; what is cached is taken without asking the hub."""
    return cached_file(hub_id, "config.json", revision) or _download(hub_id, revision)


def ask(hub_id: str, revision: str | None = None) -> None:
    """Ask the hub one short question about a model, without a retry.

    Raises HfHubHTTPError when it answers with a refusal, and the transport library's errors when no answer comes.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    address.settle()
    get_hf_file_metadata(hf_hub_url(hub_id, "config.json", revision=revision), timeout=_PROBE_TIMEOUT_S)


def cached_file(hub_id: str, name: str, revision: str | None = None) -> Path | None:
    """Return a file of a hub model when it was fetched before, without asking the hub."""
    # Imported here, as below: it costs start-up time, and most callers never need the network.
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_tokenizer(hub_id: str, revision: str | None = None) -> Path | None:
    """Return the folder of a hub model's tokenizer when it was fetched before, without asking the hub."""
    found = cached_file(hub_id, "tokenizer.json", revision)
    return found.parent if found else None


def fetch_tokenizer(hub_id: str, revision: str | None = None) -> Path:
    """Return the folder of a hub model's tokenizer files, fetched where they are not here. Raises the hub's errors."""
    from huggingface_hub import snapshot_download

    address.settle()
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(_TOKENIZER_FILES)))


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    where = address.settle()

    def refusal(error: Exception) -> WorkbenchError:
        if isinstance(error, EntryNotFoundError):
            return ModelError(
                keyed("has_no_config_json", "{hub_id} has no config.json", hub_id=hub_id),
                keyed("it_is_not_in_the_transformers", "it is not in the transformers format"),
            )
        cannot = keyed("no_configuration", "The configuration of {name} cannot be fetched", name=hub_id)
        remedy = keyed("connect", "Connect to the network, choose a catalogue name, or give a local folder")
        return mirror.refusal(error, hub_id, where, cannot, remedy, "model")

    with foreign_code(refusal):
        # hf_hub_download retries an unreachable hub for 20 s and more; one short question first fails at once.
        ask(hub_id, revision)
        return Path(hf_hub_download(hub_id, "config.json", revision=revision))
