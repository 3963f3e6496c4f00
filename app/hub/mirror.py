"""Whether a hub answers at an address: asked once, when a person names it, and without a token."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from app.errors import DataError, Keyed, ModelError, NetworkError, UsageError, WorkbenchError, foreign_code, keyed
from app.hub.address import Address, checked

if TYPE_CHECKING:
    from httpx2 import Response

_TIMEOUT_S = 8.0
_BROKEN = 500
# The list of models, which a mirror may not keep, and one that every mirror has.
_QUESTIONS = ("/api/models?limit=1", "/api/models/openai-community/gpt2")


def named(text: str, sends_token: bool = False) -> Address:
    """Return the address of a mirror that was named, once a hub has answered there.

    Raises UsageError for what is no address, NetworkError where nobody or something else than a hub answers.
    """
    address = checked(text, sends_token)
    if address.is_mirror:
        refuse(address)
    return address


def refuse(address: Address) -> None:
    """Ask an address one short question of the hub's API. Raises as `named` does."""
    from huggingface_hub.utils import get_session

    _refuse_link_local(address)
    silence = NetworkError(
        _is_away(address), keyed("nothing_answers_at", "nothing answers at {url}", url=address.url), _check()
    )
    with foreign_code(lambda _: silence):
        answers = [get_session().get(f"{address.url}{question}", timeout=_TIMEOUT_S) for question in _QUESTIONS]
    if not any(map(_is_a_hubs, answers)):
        why = keyed("it_answers_otherwise", "it answers, but not as the hub does")
        raise NetworkError(_is_no_hub(address), why, _check())


def _is_a_hubs(answer: Response) -> bool:
    """Tell whether a hub answered so: with what was asked for, or with a refusal in its own words."""
    is_data = "json" in answer.headers.get("content-type", "") and answer.status_code in (200, 401, 403, 429)
    return is_data or "x-error-code" in answer.headers


def refusal(
    error: Exception, hub_id: str, address: Address, cannot: Keyed, remedy: str, kind: Literal["dataset", "model"]
) -> WorkbenchError:
    """Return what is said when a question about a repository came to nothing, whatever the hub's library raised.

    `cannot` says what was wanted, `remedy` what to do without a network. Connection errors come in the classes of the
    library's transport, which changed twice (requests, httpx, httpx2): what is no refusal means that nobody answered.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return _gated(hub_id, address)
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        no_dataset = keyed("there_is_no_such_dataset", "there is no such dataset")
        no_model = keyed("no_such_model_or_revision", "no such model or revision")
        unknown, why = (DataError, no_dataset) if kind == "dataset" else (ModelError, no_model)
        return unknown(_not_there(hub_id, address), why, keyed("check_the_spelling", "Check the spelling"))
    if address.is_mirror:
        return _failed(cannot, address, error)
    return NetworkError(cannot, keyed("hub_away", "the hub cannot be reached from here"), remedy)


def _failed(what: Keyed, address: Address, error: Exception) -> NetworkError:
    """Return what is said when a question to a mirror came to nothing: silence, a refusal, or no hub at all."""
    from huggingface_hub.errors import FileMetadataError

    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0))
    if response is not None and (status >= _BROKEN or _is_a_hubs(response)):
        return NetworkError(
            what,
            keyed("answered_with", "{host} answered with {status}", host=address.host, status=status),
            keyed("try_later_or_without_the_mirror", "try again later, or leave the mirror empty"),
        )
    is_there = status or isinstance(error, (ValueError, FileMetadataError))
    return NetworkError(what, (_is_no_hub if is_there else _is_away)(address), _check())


def _is_away(address: Address) -> Keyed:
    return keyed("mirror_away", "{host} cannot be reached from here", host=address.host)


def _is_no_hub(address: Address) -> Keyed:
    return keyed("is_no_hub", "{host} is no hub", host=address.host)


def _check() -> Keyed:
    return keyed("check_the_mirror", "check the address of the mirror, or leave it empty")


def _gated(hub_id: str, address: Address) -> NetworkError:
    """Return what is said of a repository that is given to those alone whom its owner knows."""
    what = keyed("is_gated", "{hub_id} is gated", hub_id=hub_id)
    if address.sends_token:
        return NetworkError(
            what,
            keyed("its_owner_asks_for_consent_before", "its owner asks for consent before download"),
            keyed("accept_its_terms_on_the_hub", "Accept its terms on the hub and log in"),
        )
    return NetworkError(
        what,
        keyed("the_token_is_not_sent_to", "the hub token is not sent to {host}", host=address.host),
        keyed("fetch_it_without_the_mirror", "fetch it without the mirror"),
    )


def _not_there(hub_id: str, address: Address) -> Keyed:
    """Return what is said of a repository that nobody knows."""
    if address.is_mirror:
        return keyed("is_not_at", "{hub_id} is not at {host}", hub_id=hub_id, host=address.host)
    return keyed("is_not_on_the_hub", "{hub_id} is not on the hub", hub_id=hub_id)


def _refuse_link_local(address: Address) -> None:
    """Refuse an address where a cloud keeps its secrets, whatever name it has."""
    parts = urlsplit(address.url)
    try:
        found = {
            entry[4][0] for entry in socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        }
    except (OSError, UnicodeError):
        return  # behind a proxy a name may be known to the proxy alone
    if any(ipaddress.ip_address(str(one).partition("%")[0]).is_link_local for one in found):
        raise UsageError(
            keyed("is_not_asked", "{host} is not asked", host=address.host),
            keyed("link_local_addresses_can_hold_a", "link-local addresses can hold a machine's secrets"),
            "",
        )
