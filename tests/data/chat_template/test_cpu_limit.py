"""Code that computes without end is stopped, in the main thread and in any other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.data.chat_template.cpu_limit import CpuLimitExceeded, cpu_limit


def loop() -> None:
    while True:
        sum(range(100))


def in_thread(work: Callable[[], Any]) -> list[Any]:
    """Run work in a thread; return its result or its error."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except CpuLimitExceeded as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return found


def limited(seconds: float, work: Callable[[], Any]) -> Any:
    with cpu_limit(seconds):
        return work()


def test_the_main_thread_is_stopped() -> None:
    with pytest.raises(CpuLimitExceeded, match="without end"):
        limited(0.1, loop)


def test_another_thread_is_stopped_and_goes_on_unharmed() -> None:
    def work() -> Any:
        with pytest.raises(CpuLimitExceeded, match="without end"):
            limited(0.1, loop)
        return sum(range(1_000_000))

    assert in_thread(work) == [sum(range(1_000_000))]


@pytest.mark.parametrize("run", [lambda work: [work()], in_thread], ids=["main", "other"])
def test_honest_code_is_left_alone(run: Callable[[Callable[[], Any]], list[Any]]) -> None:
    assert run(lambda: [limited(5, time.thread_time) > 0 for _ in range(50)]) == [[True] * 50]
    assert run(lambda: limited(0.05, lambda: time.sleep(0.3))) == [None]  # waiting is not computing
