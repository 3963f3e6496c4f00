"""Secrets in what is written or shown: the one place that takes them out of logs, reasons, errors and bundles."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

REDACTED = "[redacted]"
# Prefixes that providers publish for scanners, and the shape of private keys. Every quantifier is bounded.
SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,60}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,200}|gh[pousr]_[A-Za-z0-9]{36,80}"
    r"|github_pat_[A-Za-z0-9_]{50,100}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,80}"
    r"|glpat-[A-Za-z0-9_-]{20,40})(?![A-Za-z0-9])|-----BEGIN (?:[A-Z]{2,10} ){0,3}PRIVATE KEY-----"
)
# The password of an address, and what stands behind the word of an authorisation header.
_PASSWORD = re.compile(r"(?<=://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)")
_BEARER = re.compile(r"\b(bearer\s{1,3})[A-Za-z0-9._~+/=-]{8,4000}", re.IGNORECASE)
# Settings whose values are secrets, as YAML, JSON, Python and environment files write them.
_SETTING = re.compile(
    r"((?:hub_token|hf_token|auth_token|access_token|api_key|access_key|secret_key|client_secret|password|passwd)"
    r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)([^\s\"',;}\]]{8,500})",
    re.IGNORECASE,
)
# Variables whose values are secrets, by the ends of their names.
_SECRET_NAMES = ("TOKEN", "API_KEY", "SECRET", "PASSWORD", "ACCESS_KEY")
_SHORTEST = 8


def hub_token() -> str:
    """Return the hub's token: from the environment, else from the file of `hf auth login`; empty without one."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(name, "").strip():
            return token
    try:
        return _token_file().read_text(encoding="utf-8").strip()
    except (OSError, RuntimeError, ValueError):  # none, no home, or no text
        return ""


def _token_file() -> Path:
    named = os.environ.get("HF_TOKEN_PATH")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(named).expanduser() if named else Path(home).expanduser() / "token"


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replace every secret of this process's environment, the hub's token, and what looks like a key or token."""
    known = {value for name, value in environment.items() if name.upper().endswith(_SECRET_NAMES)} | {hub_token()}
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, REDACTED)
    text = _SETTING.sub(rf"\1{REDACTED}", _PASSWORD.sub(REDACTED, text))
    return SECRET.sub(REDACTED, _BEARER.sub(rf"\1{REDACTED}", text))
