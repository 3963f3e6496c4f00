"""Numbers as people type them, read exactly or refused with the reason; nothing is rounded or guessed."""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal

_PLAIN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?")
_ONE_COMMA = re.compile(r"([+-]?[0-9]*),([0-9]+)(e[+-]?[0-9]+)?")
_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
_LONGEST_SHOWN = 24
# Whole numbers up to here are exact as floating point numbers, which is what a browser's number field sends.
_EXACT = 2**53


class Misread(ValueError):
    """A text that is no number of the wanted kind. `key` names the reason, one of the page's texts."""

    def __init__(self, key: str, given: object = "") -> None:
        super().__init__(key)
        self.key = key
        self.given = brief(given)


def brief(value: object) -> str:
    """Return what was typed, short enough to be said again."""
    text = f"{value:.10g}" if isinstance(value, float) and abs(value) < _EXACT else str(value).strip()
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def real(value: object) -> float:
    """Return the number that a field holds: 0.0002, 2e-4 or 0,0002. It may be infinite. Raises Misread."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _of_number(value)
    text = _plain_text(value)
    if _GROUPS.fullmatch(text):
        raise Misread("wrong.comma", value)
    return float(_with_point(text, value))


def whole(value: object) -> int:
    """Return the whole number that a field holds: 1024, 1,024 or 1e3. Raises Misread, also for 1.5."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _of_number(value)
        if math.isfinite(number) and not number.is_integer():
            raise Misread("wrong.whole", value)
        return int(value) if math.isfinite(number) else _EXACT
    text = _plain_text(value)
    text = text.replace(",", "") if _GROUPS.fullmatch(text) else _with_point(text, value)
    number = float(text)
    if abs(number) >= _EXACT:  # further than any setting goes, however it is written
        return _EXACT if number > 0 else -_EXACT
    exact = Decimal(text)
    if exact != exact.to_integral_value():
        raise Misread("wrong.whole", value)
    return int(exact)


def _of_number(value: float) -> float:
    if isinstance(value, int) and abs(value) > _EXACT:
        return math.inf if value > 0 else -math.inf
    if math.isnan(value):
        raise Misread("wrong.number", value)
    return float(value)


def _plain_text(value: object) -> str:
    """Return a text in ASCII: an input method may write full-width digits, and a copied minus may be typographic."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Misread("wrong.empty")
    if not isinstance(value, str):
        raise Misread("wrong.number", value)
    return unicodedata.normalize("NFKC", value).replace("\u2212", "-").strip().lower()


def _with_point(text: str, given: object) -> str:
    """Return a number's text with a decimal point, where it may have a decimal comma."""
    comma = _ONE_COMMA.fullmatch(text)
    if comma:
        text = f"{comma[1]}.{comma[2]}{comma[3] or ''}"
    if not _PLAIN.fullmatch(text):
        raise Misread("wrong.number", given)
    return text


def written(value: float) -> str:
    """Return a number as a field shows it, so that reading it gives the same number: 0.0002, 3, 1e-07."""
    text = repr(value)
    return text.removesuffix(".0")
