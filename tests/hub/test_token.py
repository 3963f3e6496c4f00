"""The hub's token out of the system's keyring, by keyring's own interface; the tests that read one need the library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.hub import token, transfer
from app.redaction import hub_token, redact

CANARY = "not-shaped-like-any-token-42"


@pytest.fixture(autouse=True)
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.setenv(name, "x")  # so that what is set on the way is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(token, "_read", None)


@pytest.fixture
def kept() -> Iterator[dict[tuple[str, str], str]]:
    """A keyring in memory, taken by the real library as any backend is."""
    keyring = pytest.importorskip("keyring", reason="pip install keyring")
    entries: dict[tuple[str, str], str] = {}

    class InMemory(keyring.backend.KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            entries[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    yield entries
    keyring.set_keyring(before)


def test_a_token_of_the_keyring_is_used_and_redacted(kept: dict[tuple[str, str], str]) -> None:
    import keyring

    keyring.set_password(token.SERVICE, token.NAME, f"{CANARY}\n")
    assert CANARY in redact(f"it was {CANARY}")  # nobody has read it yet
    assert transfer.asked("a/b", "model", hub_token) == CANARY  # where the hub's library looks for one
    assert token.token() == CANARY
    assert CANARY not in redact(f"it was {CANARY}")


def test_the_environment_goes_before_the_keyring(
    kept: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept[token.SERVICE, token.NAME] = CANARY
    monkeypatch.setenv("HF_TOKEN", "of-the-environment")
    token.provide()
    assert token.token() == os.environ["HF_TOKEN"] == "of-the-environment"


def test_a_keyring_without_the_entry_or_that_fails_is_told(
    kept: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keyring
    from keyring.backends import fail

    assert token.token() == "" and "lora-workbench hub-token" in token.why_none()
    monkeypatch.setattr(token, "_read", None)
    keyring.set_keyring(fail.Keyring())
    assert token.token() == "" and "the keyring cannot be read" in token.why_none()


def test_a_missing_keyring_is_named_and_nothing_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert token.token() == "" and "HF_TOKEN" not in os.environ
    assert "HF_TOKEN is not set" in token.why_none() and "keyring" in token.why_none()
    assert transfer.asked("a/b", "model", hub_token) == ""
