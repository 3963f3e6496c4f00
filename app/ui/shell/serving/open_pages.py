"""How many pages are open: many pages together ask hardly more often than two, so that each click is still answered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

POLL_S = 2.0
"""Seconds between two looks of a page while one or two are open."""
# A page that has not asked for this long is closed or hidden. Longer than the pace of a dozen pages.
_GONE_S = 40.0


class OpenPages:
    """Counts the pages that asked lately, by their session. Only a gauge of load: nothing depends on its memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[str, float] = {}

    def pace_s(self, session: str | None) -> float:
        """Note that a page has asked, and return the seconds until it should ask again."""
        now = self._clock()
        self._asked[session or ""] = now
        self._asked = {page: asked for page, asked in self._asked.items() if now - asked < _GONE_S}
        return POLL_S * max(1, math.ceil(len(self._asked) / 2))
