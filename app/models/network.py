"""Whether the hub can be reached: without it, what was fetched before is used, and at once."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from app.catalog import hub
from app.models.names import is_local

_ASKED_OFFLINE = constants.HF_HUB_OFFLINE


def follow_the_network(model: str) -> None:
    """Switch this process's hub libraries offline while the hub cannot be reached, and online again when it can.

    They ask the hub about every file of a model, cached or not, and retry each question: a cached model took more than
    two minutes to load without a network (measured with huggingface_hub 1.x). Local folders ask nothing.
    """
    if is_local(model) or _ASKED_OFFLINE:
        return
    constants.HF_HUB_OFFLINE = False
    constants.HF_HUB_OFFLINE = not _reachable(model)


def why_not_fetched(error: BaseException) -> str:
    """Return in one line why a file of the hub is not here."""
    if constants.is_offline_mode() and not _ASKED_OFFLINE:
        return "it is not among the files fetched before, and the hub cannot be reached from here"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _reachable(hub_id: str) -> bool:
    """Say whether the hub answers; any answer counts, a refusal too."""
    try:
        hub.ask(hub_id)
    except HfHubHTTPError:
        return True
    except Exception:
        # Broad on purpose, as in `hub`: the classes of connection errors are the transport library's. No answer came.
        return False
    return True
