"""Look for reference cycles seldom while millions of rows go by."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python looks after every 700 objects more than were freed. A batch of rows is some ten thousand, held for a moment.
_SELDOM = (100_000, 50, 1000)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Let Python search for cycles a hundred times less often: rows make none, and looking took a fifth of a build."""
    before = gc.get_threshold()
    if before[0]:  # 0: somebody has switched the search off
        gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
