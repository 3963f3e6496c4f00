"""The numbers in a text, as people of many countries write them."""

from __future__ import annotations

import math
import re

# Blanks and signs that part thousands wherever they stand between three digits and three: a plain blank may as well
# part two numbers, but hardly two of which the later has exactly three digits.
_GAPS = " \u00a0\u2009\u202f'\u2019_"
_SIGN = r"[-+\u2212]"
_EXPONENT = rf"(?:[eE]{_SIGN}?\d+(?!\w))?"
_NUMBER = re.compile(
    # A sign behind a digit or a letter is a hyphen (10-15, 2020-12-31, GPT-4) or a minus between two numbers.
    rf"(?:(?<![\w.,%)]){_SIGN})?"
    rf"(?:\d{{1,3}}(?:[{_GAPS}]\d{{3}}(?!\d))+(?:[.,]\d+)?"  # 1 234 567,8
    r"|\d+(?:[.,]\d+)+|\d*\.\d+|\d+)" + _EXPONENT
)
# A quotient of two whole numbers, but no date and no path.
_QUOTIENT = re.compile(rf"(?<![\w/.,])({_SIGN}?\d+)\s?[/\u2044]\s?([1-9]\d*)(?![\w/]|[.,]\d)")


def last_number(text: str) -> float | None:
    """Return the last number in a text, None where there is none.

    Read are thousands parted by commas, points, blanks or apostrophes, a comma before decimals, an exponent, and a
    quotient such as 3/4. Of three digits behind one comma are thousands, behind one point decimals. A percent sign or a
    unit is left alone. Digits in a word (CO2, m2) count where the text has no other number.
    """
    found = [*_NUMBER.finditer(text)]
    alone = [one for one in found if not text[one.start() - 1 : one.start()].isalpha()] or found
    if not alone:
        return None
    quotient = [one for one in _QUOTIENT.finditer(text) if one.end() >= alone[-1].end()]
    number = _quotient(quotient[-1]) if quotient else float(_plain(alone[-1][0]))
    return number if math.isfinite(number) else None


def _quotient(found: re.Match[str]) -> float:
    try:
        return int(found[1].replace("\u2212", "-")) / int(found[2])
    except (OverflowError, ValueError):  # more digits than a float or Python's own limit takes
        return math.inf


def _plain(word: str) -> str:
    """Return a number as Python reads it."""
    word = re.sub(f"[{_GAPS}]", "", word.replace("\u2212", "-"))
    mantissa, mark, exponent = re.fullmatch(r"([^eE]*)([eE]?)(.*)", word).groups()  # type: ignore[union-attr]
    first, *others = re.split(r"[.,]", mantissa)
    marks = re.findall(r"[.,]", mantissa)
    if not marks:
        return word
    decimal = marks[-1]
    if marks.count(decimal) > 1 and len(set(marks)) == 1 and len(others[-1]) != 3:
        return others[-1] + mark + exponent  # a list without blanks, or a version: 1,2,3
    bare = first.lstrip("+-")
    is_thousands = len(others[-1]) == 3 and (
        marks.count(decimal) > 1 or (decimal == "," and marks == [","] and bare.lstrip("0") == bare and len(bare) < 4)
    )
    if is_thousands:
        return first + "".join(others) + mark + exponent
    return first + "".join(others[:-1]) + "." + others[-1] + mark + exponent
