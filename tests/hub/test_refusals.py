"""Whatever the hub's library raises is one refusal, the same for a configuration, a listing and a push."""

from __future__ import annotations

import errno
from typing import Any, Literal

import pytest
from httpx2 import ConnectError, ReadTimeout, Request, Response
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.errors import DataError, ModelError, NetworkError, WorkbenchError
from app.hub import address, client, push, transfer

TOKEN = "secret-of-another-form"


class OddError(Exception):
    """Of no library that is known here."""


def answered(status: int) -> Response:
    return Response(status, request=Request("GET", "https://huggingface.co/api/models/o/n"))


GATED = GatedRepoError("gated", response=answered(403))
UNKNOWN = RepositoryNotFoundError("unknown", response=answered(404))
NO_REVISION = RevisionNotFoundError("no revision", response=answered(404))
NO_FILE = RemoteEntryNotFoundError("no file", response=answered(404))
BROKEN = HfHubHTTPError("broken", response=answered(500))
AWAY = [BROKEN, ConnectError("away"), ReadTimeout("slow"), OfflineModeIsEnabled("off"), FileMetadataError(), OddError()]


@pytest.fixture(autouse=True)
def hub_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(address, "_root", None)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (GATED, NetworkError, "o/n is gated. Its owner asks for consent"),
        (UNKNOWN, ModelError, "o/n is not on the hub. No such model or revision"),
        (NO_REVISION, ModelError, "o/n is not on the hub. No such model or revision"),
        (NO_FILE, ModelError, "o/n has no config.json"),
        (LocalEntryNotFoundError("not here"), ModelError, "o/n has no config.json"),
        *(
            (error, NetworkError, "The configuration of o/n cannot be fetched. The hub cannot be reached")
            for error in AWAY
        ),
    ],
)
def test_a_configuration(
    error: Exception, kind: type[WorkbenchError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(client, "ask", fail)
    with pytest.raises(kind, match=said) as refused:
        client._download("o/n", None)
    assert type(refused.value) is kind and refused.value.__cause__ is error


@pytest.mark.parametrize("what", ["dataset", "model"])
@pytest.mark.parametrize("error", [GATED, UNKNOWN, NO_REVISION, NO_FILE, *AWAY])
def test_a_listing(error: Exception, what: Literal["dataset", "model"]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(WorkbenchError) as refused:
        transfer.asked("o/n", what, fail)
    line = refused.value.line()
    if error is GATED:
        assert "o/n is gated" in line
    elif error in (UNKNOWN, NO_REVISION):
        assert type(refused.value) is (DataError if what == "dataset" else ModelError)
        assert (
            "o/n is not on the hub. " + ("There is no such dataset" if what == "dataset" else "No such model") in line
        )
    else:
        assert ("The dataset o/n" if what == "dataset" else "o/n") + " cannot be fetched. The hub cannot be" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_matter_of_the_hub(number: int) -> None:
    def fail() -> None:
        raise OSError(number, "no room")

    with pytest.raises(OSError, match="no room"):
        transfer.asked("o/n", "model", fail)


def asked_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(HfApi, "whoami", fail)
    push.refuse_token("me/mine", TOKEN)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (HfHubHTTPError("no", response=answered(401)), "The hub does not know the token"),
        (HfHubHTTPError("no", response=answered(403)), "The token may not write to me/mine"),
        (ReadTimeout("slow"), "Nothing was pushed to me/mine. The hub said nothing for 60 s"),
        *(
            (error, "Nothing was pushed to me/mine")
            for error in (BROKEN, ConnectError(f"with {TOKEN}"), OddError(TOKEN))
        ),
    ],
)
def test_a_push(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match=said) as refused:
        asked_with(error, monkeypatch)
    assert TOKEN not in str(refused.value)
    assert refused.value.__suppress_context__ and refused.value.__cause__ is None  # its words may hold the token


def test_too_many_questions_are_no_refusal_and_an_interruption_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_with(HfHubHTTPError("slow down", response=answered(429)), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        asked_with(KeyboardInterrupt(), monkeypatch)
