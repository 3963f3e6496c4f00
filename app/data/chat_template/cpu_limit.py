"""Stop Python code that computes for too long, in whichever thread it runs."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

# How often the watch looks at a thread; a rendering that ends at once costs only the start of the watch (0.1 ms).
_LOOK_S = 0.05
# An exception that arrives while Python cleans an object up is swallowed there; so it is put in again.
_AGAIN_S = 1.0


class CpuLimitExceeded(Exception):
    """Say that code computed for longer than it may."""

    def __init__(self, said: str = "It computes without end") -> None:
        super().__init__(said)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise CpuLimitExceeded in the code inside after this much processor time.

    Processor time rather than wall time: a busy machine must not make honest code fail. The main thread of POSIX
    systems is stopped by a timer signal, any other by an exception that is put into it (on Windows after wall time).
    Neither reaches inside one long operation of the C library: whoever waits has to end the process then.
    """
    with _limit()(seconds):
        yield


def _limit() -> Callable[[float], AbstractContextManager[None]]:
    if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        return _by_signal
    return _by_watch


if sys.platform != "win32":

    @contextmanager
    def _by_signal(seconds: float) -> Iterator[None]:
        # User and system time: a template that fills memory spends most of its time in the kernel.
        before = signal.signal(signal.SIGPROF, _raise)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise CpuLimitExceeded


@contextmanager
def _by_watch(seconds: float) -> Iterator[None]:
    watch = _Watch(threading.get_ident(), seconds)
    watch.start()
    try:
        yield
    finally:
        try:
            watch.end()
        except CpuLimitExceeded:  # it arrived here, on the last step
            watch.end()
            raise


class _Watch(threading.Thread):
    """Watch one thread's processor time, and put an exception into it when it has used too much."""

    def __init__(self, watched: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._watched = watched
        self._clock = _clock_of(watched)
        self._until = self._clock() + seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._raised = False

    def run(self) -> None:
        """Look until the code has ended."""
        look_s = _LOOK_S
        while not self._over.wait(look_s):
            with self._lock:
                if not self._over.is_set() and self._clock() > self._until:
                    _put_into(self._watched, CpuLimitExceeded)
                    self._raised = True
                    look_s = _AGAIN_S

    def end(self) -> None:
        """Stop watching; an exception that was put in but not met yet is taken out again."""
        self._over.set()
        with self._lock:
            if self._raised:
                _put_into(self._watched, None)


def _clock_of(thread: int) -> Callable[[], float]:
    """Return the processor time of a thread where the system tells it, else the time of day."""
    if sys.platform == "win32" or not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _put_into(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in another thread at its next step of Python code, or take one back."""
    raised = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
