"""Where the hub's token comes from: the environment, the login of the hub's own library, or the system's keyring.

The keyring is read through the library keyring where that is installed, once in a process and only when the hub is
asked; what it holds is put into this process's environment, where the hub's library looks and redaction finds it.
Kept there by `keyring set lora-workbench hub-token`.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from importlib import import_module

from app.errors import one_line
from app.redaction import hub_token, redact

SERVICE, NAME = "lora-workbench", "hub-token"
# A keyring that is locked asks its owner, who may be away.
_WAIT_S = 20.0


@dataclass
class _Keyring:
    """What the keyring said: a token, or why there is none."""

    token: str = ""
    why: str = ""


_lock = threading.Lock()
_read: _Keyring | None = None


def token() -> str:
    """Return the hub's token, empty without one."""
    provide()
    return hub_token()


def provide() -> None:
    """Let the hub's library find a token that only the keyring holds; without one it asks as anybody."""
    if not hub_token() and (found := _keyring().token):
        os.environ["HF_TOKEN"] = found


def why_none() -> str:
    """Return why there is no token, with the state of every place where one may be."""
    return f"HF_TOKEN is not set, nobody has logged in with `hf auth login`, and {_keyring().why}"


def _keyring() -> _Keyring:
    """Read the keyring once; a process that outlives a change of it is started anew."""
    global _read
    with _lock:
        if _read is None:
            _read = _asked()
        return _read


def _asked() -> _Keyring:
    found = _Keyring(why=f"the keyring did not answer in {_WAIT_S:.0f} s")

    def ask() -> None:
        try:
            keyring = import_module("keyring")
        except ImportError:
            found.why = "the package keyring, which would read the system's keyring, is not installed"
            return
        try:
            found.token = (keyring.get_password(SERVICE, NAME) or "").strip()
            found.why = f"the keyring holds nothing under {SERVICE} {NAME}"
        except Exception as error:  # whatever a backend raises: locked, refused, or none for this machine
            found.why = f"the keyring cannot be read ({redact(one_line(error))})"

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_WAIT_S)
    return found
