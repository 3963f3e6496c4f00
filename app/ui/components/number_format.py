"""Numbers as a person reads them: sizes in GB, times in minutes, large counts with separators."""

from __future__ import annotations

import time

from app.hardware import GB
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator

_MB = 1024**2


def gigabytes(size_bytes: float) -> str:
    """Return a size in GB with one decimal; below 0.1 GB in MB, below 0.1 MB in kB."""
    if abs(size_bytes) >= 0.0995 * GB:
        return f"{size_bytes / GB:,.1f} GB"
    if abs(size_bytes) >= 0.1 * _MB:
        value = size_bytes / _MB
        return f"{value:,.0f} MB" if abs(value) >= 10 else f"{value:,.1f} MB"
    return f"{size_bytes / 1024:,.1f} kB"


def size(size_bytes: float) -> Html:
    """Return a size in GB that shows the exact bytes on hover."""
    return element("span", gigabytes(size_bytes), class_="wb-number", title=exactly(size_bytes))


def exactly(size_bytes: float) -> str:
    """Return a size in bytes, with the sign of the unit, which every language has."""
    return f"{count(size_bytes)} B"


def duration(seconds: float) -> str:
    """Return a time as mm:ss, or h:mm:ss from an hour on."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"


def count(number: float) -> str:
    """Return a whole number with separators."""
    return f"{round(number):,}"


def loss(value: object) -> str:
    """Return a loss with three decimals, a small one with two digits that say something, or a dash."""
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def brief(value: float) -> str:
    """Return a number in few characters, for axes: 0.002, 1.5, 120, 12k."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 0.01:
        return f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-")


def moment(seconds_since_epoch: float | None, t: Translator) -> str:
    """Return a point in time in local time, to the minute, in the page's language and not in the system's."""
    if seconds_since_epoch is None:
        return ""
    at = time.localtime(seconds_since_epoch)
    month = t(f"month.{at.tm_mon}")
    return t("unit.moment", day=at.tm_mday, month=month, time=time.strftime("%H:%M", at))
