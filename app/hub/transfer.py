"""What every download from the hub shares: errors in one line, and a stop that is heard inside a file."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from app.errors import DiskError, keyed
from app.files import disk_free_bytes
from app.hub import address, mirror
from app.jobs.child import JobChild

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

Answer = TypeVar("Answer")

_STOP_SEEN_S = 0.3
# What stays free beside what is fetched, for the rest of the machine.
_SPARE_BYTES = 1 << 30
_REMEDY = "Connect to the network, or download the files elsewhere and name their folder"


@dataclass(frozen=True)
class Listing:
    """What the hub says of a repository: newest revision, licence (empty where unnamed), files as (path, bytes)."""

    revision: str
    licence: str
    files: list[tuple[str, int]]


def listing_of(info: DatasetInfo | ModelInfo) -> Listing:
    """Return the listing that an answer of the hub holds."""
    named = getattr(info.card_data, "license", None) or ""
    licence = ", ".join(map(str, named)) if isinstance(named, list) else str(named)
    return Listing(str(info.sha), licence, [(one.rfilename, int(one.size or 0)) for one in info.siblings or []])


def ended(download: Callable[[], object], child: JobChild, look: Callable[[], None] = lambda: None) -> bool:
    """Run a download beside a look at the stop request; say whether it came to its end.

    `look` is called about three times a second meanwhile. Raises what the download raises.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            download()
        except Exception as error:  # whatever it is, it is raised where it can be said
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)  # a stopped download dies with the process
    thread.start()
    while thread.is_alive():
        thread.join(_STOP_SEEN_S)
        look()
        if child.stop_requested():
            return False
    if failed:
        raise failed[0]
    return True


def expect_room(hub_id: str, missing_bytes: int, folder: Path, remedy: str) -> None:
    """Raise DiskError where what is to be fetched does not fit beside what the rest of the machine needs."""
    free_bytes = disk_free_bytes(folder)
    if missing_bytes > 0 and free_bytes < missing_bytes + _SPARE_BYTES:
        raise DiskError(
            keyed("has_no_room_on_this_disk", "{hub_id} has no room on this disk", hub_id=hub_id),
            keyed(
                "gb_are_to_be_fetched_gb_are_free", "{missing} GB are to be fetched, {free} GB are free",
                missing=f"{missing_bytes / 1e9:.1f}", free=f"{free_bytes / 1e9:.1f}",
            ),
            remedy,
        )  # fmt: skip


def asked(hub_id: str, what: Literal["dataset", "model"], ask: Callable[[], Answer]) -> Answer:
    """Ask the hub; turn what goes wrong into one line for a person."""
    where = address.settle()
    the_set = keyed("the_dataset_cannot_be_fetched", "The dataset {hub_id} cannot be fetched", hub_id=hub_id)
    cannot = the_set if what == "dataset" else keyed("cannot_be_fetched", "{what} cannot be fetched", what=hub_id)
    try:
        return ask()
    except Exception as error:  # broad on purpose: see `mirror.refusal`. A full disk is said by the job as what it is.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise mirror.refusal(error, hub_id, where, cannot, _REMEDY, what) from error
