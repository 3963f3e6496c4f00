"""Whether the hub can be reached: without it, what was fetched before is used, and at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from app.errors import NetworkError, keyed, one_line
from app.hub import address, client
from app.hub.ids import is_local

# What the hub's libraries raise for a file that they cannot give; transformers lets them through.
FETCH_ERRORS = (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError)
_ASKED_OFFLINE = constants.HF_HUB_OFFLINE


def follow_the_network(model: str) -> None:
    """Switch this process's hub libraries offline while the hub cannot be reached, and online again when it can.

    They ask the hub about every file of a model, cached or not, and retry each question: a cached model took more than
    two minutes to load without a network (measured with huggingface_hub 1.x). Local folders ask nothing.
    """
    if is_local(model) or _ASKED_OFFLINE:
        return
    address.settle()
    constants.HF_HUB_OFFLINE = False
    constants.HF_HUB_OFFLINE = not _reachable(model)


def fetch_folder(hub_id: str, patterns: Sequence[str], what: str, remedy: str, *, fetch: bool = True) -> Path:
    """Return the folder of a hub model's files of these patterns; without `fetch` only what was fetched before counts.

    Raises NetworkError, which says that `what` cannot be fetched, and why.
    """
    from huggingface_hub import snapshot_download

    if fetch:
        follow_the_network(hub_id)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns), local_files_only=not fetch))
    except (*FETCH_ERRORS, OSError) as error:
        raise NetworkError(
            keyed("cannot_be_fetched", "{what} cannot be fetched", what=what), why_not_fetched(error), remedy
        ) from None


def why_not_fetched(error: BaseException) -> str:
    """Return in one line why a file of the hub is not here."""
    if constants.is_offline_mode() and not _ASKED_OFFLINE:
        where = address.current()
        away = where.host if where.is_mirror else "the hub"
        return f"it is not among the files fetched before, and {away} cannot be reached from here"
    return one_line(error)


def _reachable(hub_id: str) -> bool:
    """Say whether the hub answers; any answer counts, a refusal too."""
    try:
        client.ask(hub_id)
    except HfHubHTTPError:
        return True
    except Exception:
        # Broad on purpose, as in `hub`: the classes of connection errors are the transport library's. No answer came.
        return False
    return True
