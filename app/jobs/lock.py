"""A lock file held by a living process: the exact test of liveness, on POSIX and on Windows.

The operating system frees the lock when its holder dies, however it dies; a stale file is no lock.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from app.errors import JobError

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _look(descriptor: int) -> bool:
        # No shared lock here: a refusal may be another look, which is over at once, so it counts when it lasts.
        if _take(descriptor):
            return True
        time.sleep(0.01)
        return _take(descriptor)

else:
    import fcntl

    def _flock(descriptor: int, how: int) -> bool:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _take(descriptor: int) -> bool:
        return _flock(descriptor, fcntl.LOCK_EX)

    def _look(descriptor: int) -> bool:
        # Shared: looks do not refuse each other. Two looks at once made a dead job seem alive for a moment.
        return _flock(descriptor, fcntl.LOCK_SH)


# Windows keeps a lock with the process that took it; elsewhere it goes along with the descriptor.
CAN_HAND_DOWN = sys.platform != "win32"


class FileLock:
    """An exclusive lock on one file, held until `release` or the end of the process.

    `descriptor` is its open file while it is held. A child process that is given it holds the lock as well, and goes on
    holding it when this process lets go.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Take the lock within `timeout_s` seconds. Return whether it is held now."""
        end = time.monotonic() + timeout_s
        # Not inherited by child processes, else a grandchild would keep the lock of a dead holder.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        while not _take(descriptor):
            if time.monotonic() >= end:
                os.close(descriptor)
                return False
            time.sleep(0.02)
        if not self._is_in_place(descriptor):
            # Its holder removed it after we had opened it: it is nobody's any more, and others take a new one.
            os.close(descriptor)
            return self.acquire(end - time.monotonic())
        self.descriptor = descriptor
        return True

    def _is_in_place(self, descriptor: int) -> bool:
        """Tell whether an open file is still the one at the path, or has moved with its folder."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return not self.path.parent.is_dir()

    def release(self) -> None:
        """Free the lock. Does nothing when it is not held."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def remove(self) -> None:
        """Free the lock and leave no file: for a place where nobody waits. Does nothing when it is not held."""
        if self.descriptor is None:
            return
        if sys.platform == "win32":  # an open file stays, and one that another has opened since then too
            self.release()
            with suppress(OSError):
                self.path.unlink()
        else:  # while it is held, so that it is not the file of the next holder
            self.path.unlink(missing_ok=True)
            self.release()

    def __enter__(self) -> FileLock:
        if not self.acquire(timeout_s=30.0):
            raise JobError("The workspace is busy", f"{self.path} stayed locked for 30 s", "try again in a moment")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def keep(descriptor: int) -> None:
    """Keep a lock that the process which started this one has taken for it; no process started from here gets it."""
    os.set_inheritable(descriptor, False)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock on this file. Any number of processes may ask at once.

    A taker that does not wait can be refused by a look that happens in the same microseconds: who must not miss a free
    lock takes it with a short timeout.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return False
    try:
        return not _look(descriptor)
    finally:
        os.close(descriptor)
