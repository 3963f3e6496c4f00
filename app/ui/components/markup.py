"""HTML that cannot carry foreign markup: every text that enters is escaped, unless it is already Html.

The page shows rows of data sets, names of models, answers and logs; all of them are strangers' text.
"""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is markup already. Only this module and literals of ours make it."""

    __slots__ = ()


_VOID = frozenset({"br", "hr", "img", "input", "line", "rect", "circle", "path", "polyline", "polygon", "stop", "use"})


def escaped(text: object) -> Html:
    """Return any text as inert HTML; Html passes as it is, None is empty."""
    if isinstance(text, Html):
        return text
    return Html("" if text is None else html.escape(_shown(str(text)), quote=True))


def _shown(text: str) -> str:
    """Replace control characters, which would move a terminal's cursor or hide text, by visible ones."""
    if text.isprintable():  # nearly all text, and long paths of curves among it
        return text
    return "".join(
        c if c in "\n\t" or (c >= " " and c not in _HIDDEN and ord(c) not in _HALVES) else _visible(c) for c in text
    )


# Direction overrides and isolates, zero-width characters, the byte order mark: invisible, and used to disguise text.
_HIDDEN = frozenset("\x7f\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")


# A lone half of a pair, left over from bytes of another encoding, can be sent nowhere.
_HALVES = range(0xD800, 0xE000)


def _visible(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return one element. `class_` is class, `data_x` is data-x; attributes that are None or False are left out."""
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        plain = name.rstrip("_").replace("_", "-")
        words.append(plain if value is True else f'{plain}="{escaped(value)}"')
    opening = f"<{' '.join(words)}>"
    if tag in _VOID and not children:
        return Html(f"<{' '.join(words)}/>")
    return Html(opening + joined(children) + f"</{tag}>")


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Return the parts one after another, each escaped."""
    return Html(between.join(escaped(part) for part in parts))


def place(name: str) -> Html:
    """Return an empty block with the room of what will stand there, so that nothing moves when it comes."""
    return element("div", class_=name)
