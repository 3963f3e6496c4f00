"""Text from tokens, piece by piece: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# A token may end within a character; the decoder shows that as this one.
_BROKEN = "\ufffd"
# Longest run of tokens that one character is waited for; no character takes more bytes.
_LONGEST_CHARACTER = 8


class TextStream:
    """The growing text of one row."""

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._start = 0
        self._shown = 0
        self.text = ""
        self._sent = 0
        self.stopped = False

    def push(self, token: int) -> str:
        """Take in a token and return the text that can be shown now."""
        self._ids.append(token)
        self._read(final=False)
        return self._release(final=False)

    def end(self) -> str:
        """Return what was held back."""
        self._read(final=True)
        return self._release(final=True)

    def _read(self, *, final: bool) -> None:
        """Decode the newest tokens together with those before them, which decide about spaces."""
        before = self._decode(self._ids[self._start : self._shown])
        now = self._decode(self._ids[self._start :])
        waiting = len(self._ids) - self._shown
        if now.endswith(_BROKEN) and not final and waiting < _LONGEST_CHARACTER:
            return
        self.text += now[len(before) :]
        self._start, self._shown = self._shown, len(self._ids)

    def _release(self, *, final: bool) -> str:
        """Cut at the first stop string, and hold back an end that may become one."""
        if self.stopped:
            return ""
        found = [place for stop in self._stops if (place := self.text.find(stop, max(0, self._sent - len(stop)))) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True
        held = 0 if final or self.stopped else max((_overlap(self.text, stop) for stop in self._stops), default=0)
        piece = self.text[self._sent : len(self.text) - held]
        self._sent += len(piece)
        return piece


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` begin `stop`."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
