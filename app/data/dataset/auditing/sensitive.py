"""Find likely secrets and e-mail addresses in rows."""

from __future__ import annotations

import re

from app.redaction import REDACTED, SECRET

_SECRET_HINTS = ("hf_", "sk-", "gh", "AKIA", "AIza", "xox", "glpat-", "PRIVATE KEY")
_EMAIL = re.compile(r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}\b")
# Addresses that stand for none (RFC 2606).
_EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net", ".example", ".test", ".invalid")


def has_secret(text: str) -> bool:
    """Say whether text holds something that looks like a key or token."""
    return any(hint in text for hint in _SECRET_HINTS) and SECRET.search(text) is not None


def find_email(text: str) -> str | None:
    """Return the first e-mail address that is not an example."""
    if "@" not in text:
        return None
    found = (match.group() for match in _EMAIL.finditer(text))
    return next((address for address in found if not address.lower().endswith(_EXAMPLE_DOMAINS)), None)


def redact_secrets(text: str) -> str:
    """Replace what looks like a key or token."""
    return SECRET.sub(REDACTED, text)


def redact_emails(text: str) -> str:
    """Replace e-mail addresses."""
    return _EMAIL.sub(REDACTED, text) if "@" in text else text
