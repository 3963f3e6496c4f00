"""Where the hub is: its own address, the one in HF_ENDPOINT, or a mirror that this workspace was told.

A mirror is a machine of somebody else. This machine's hub token is sent to huggingface.co alone, and to another address
only where a person said so of that very address.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from app.errors import UsageError, WorkspaceError, keyed
from app.files import replace_file
from app.hub import token
from app.reading import read_object
from app.redaction import redact
from app.workspace import Workspace, default_root

HUB = "https://huggingface.co"
_FILE = "hub.json"
_LONGEST = 300
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?")
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_YES, _NO = ("1", "ON", "YES", "TRUE"), ("0", "OFF", "NO", "FALSE")
_WITHHELD = "HF_HUB_DISABLE_IMPLICIT_TOKEN"


@dataclass(frozen=True)
class Address:
    """The hub's URL without a slash at its end, and whether this machine's hub token is sent there."""

    url: str = HUB
    sends_token: bool = True

    @property
    def host(self) -> str:
        """Return the host, with its port where one is named: what a person is told."""
        return urlsplit(self.url).netloc

    @property
    def is_mirror(self) -> bool:
        """Tell whether it is another address than the hub's own."""
        return self.url != HUB


_root: Path | None = None
_pinned: Address | None = None


def checked(text: str, sends_token: bool = False) -> Address:
    """Return the address that a person typed. Raises UsageError for what is none, and for a token in the open."""
    parts = _split(text.strip().rstrip("/"))
    if parts is None:
        shown = redact(text.strip().rpartition("@")[2])  # what stands before it may be a secret
        raise UsageError(
            keyed("is_no_address_of_a_hub", "{text} is no address of a hub", text=f"{shown!r:.120}"),
            keyed(
                "an_address_begins_with_http", "it is http:// or https://, a host, and no name, password or question"
            ),
            keyed("write_for_example_a_mirror", "write for example https://hub.example.org"),
        )
    scheme = parts.scheme.lower()
    url = f"{scheme}://{parts.netloc.lower()}{parts.path}"
    if url == HUB:
        return Address()
    if sends_token and scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            keyed(
                "the_token_is_not_sent_over_http", "The hub token is not sent to {host} over http", host=parts.netloc
            ),
            keyed("everybody_on_the_way_could_read_it", "everybody on the way could read it"),
            keyed("name_an_https_address", "name an https address, or do not send it the token"),
        )
    return Address(url, sends_token)


def _split(url: str) -> SplitResult | None:
    """Return the parts of a web address without a name, a password or a question, None for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None
    is_web = parts.scheme.lower() in ("http", "https") and bool(_HOST.fullmatch(parts.netloc.lower())) and port != 0
    is_plain = bool(_PATH.fullmatch(parts.path)) and not set("?#") & set(url) and len(url) <= _LONGEST
    return parts if is_web and is_plain else None


def use(root: Path | None) -> None:
    """Let this process ask the hub where the workspace of this folder says it is; None is the default workspace."""
    global _root
    _root = root


def pin(address: Address) -> None:
    """Let this process ask one address, whatever the workspace says by now: that of the job that it is."""
    global _pinned
    _pinned = address


def current() -> Address:
    """Return where this process asks the hub: what is pinned, the workspace's mirror, HF_ENDPOINT, or the hub's own."""
    return _pinned or _kept(_root or _default_root()) or of_environment()


def of(workspace: Workspace) -> Address:
    """Return where a workspace finds the hub."""
    return mirror_of(workspace) or of_environment()


def mirror_of(workspace: Workspace) -> Address | None:
    """Return the mirror that a workspace was told, None without one."""
    return _kept(workspace.root)


def keep(workspace: Workspace, address: Address | None) -> None:
    """Let a workspace find the hub at an address from now on; None goes back to HF_ENDPOINT or the hub's own."""
    file = workspace.root / _FILE
    if address is None:
        file.unlink(missing_ok=True)
    else:
        replace_file(file, json.dumps(as_config(address)) + "\n")


def as_config(address: Address) -> dict[str, object]:
    """Return an address as a job's settings carry it."""
    return {"hub": address.url, "sends_token": address.sends_token}


def of_config(config: Mapping[str, Any]) -> Address | None:
    """Return the address that a job carries; None for one from before there were mirrors, or with none that holds."""
    try:
        return checked(str(config["hub"]), config.get("sends_token") is True)
    except (KeyError, UsageError):
        return None


def _kept(root: Path | None) -> Address | None:
    try:
        return of_config(read_object(root / _FILE)) if root else None
    except (OSError, ValueError):
        return None


def _default_root() -> Path | None:
    try:
        return default_root()
    except WorkspaceError:  # this user has no home
        return None


def of_environment() -> Address:
    """Return the address in HF_ENDPOINT, the variable of huggingface_hub, else the hub's own. Raises UsageError.

    HF_HUB_DISABLE_IMPLICIT_TOKEN=0 beside it says that the token is sent there.
    """
    named = os.environ.get("HF_ENDPOINT", "").strip()
    return checked(named, os.environ.get(_WITHHELD, "").strip().upper() in _NO) if named else Address()


def settle() -> Address:
    """Let the hub's library of this process ask `current`, with a token where it may have one; return the address."""
    import huggingface_hub.hf_api as library
    from huggingface_hub import constants

    address = current()
    if address.sends_token:
        token.provide()
    withheld = os.environ.get(_WITHHELD, "").strip().upper() in _YES
    constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = withheld or not address.sends_token
    # The library writes its address into these three when it is loaded; transformers asks through the last one.
    constants.ENDPOINT = address.url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = address.url + "/{repo_id}/resolve/{revision}/{filename}"
    library.api.endpoint = address.url
    return address
