"""Proxies of the environment: those that the transport library cannot use would end every verb that imports it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def settle(environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Drop the proxies and certificate files that httpx refuses, for this process and its children.

    Return the names that were dropped. Their values are not returned: a proxy's address may hold a password.
    """
    proxies = [name for name in environment if name.lower() in _PROXIES and environment[name]]
    dropped = [name for name in proxies if not _is_usable(environment[name])]
    # OpenSSL itself takes an absent file in silence; httpx ends with it.
    dropped += [name for name in _CERTIFICATES if environment.get(name) and not _is_there(environment[name])]
    for name in dropped:
        del environment[name]
    return sorted(dropped)


def _is_usable(address: str) -> bool:
    """Ask httpx whether it can use a proxy; it is imported only where one is set."""
    import httpx

    try:
        httpx.Client(proxy=address if "://" in address else f"http://{address}", verify=False, trust_env=False).close()
    except (ValueError, ImportError, httpx.InvalidURL, UnicodeError):
        return False
    return True


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
