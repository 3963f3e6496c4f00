"""Fields for numbers that are no setting of a run: read exactly, or refused at the field with what may stand there."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import UsageError
from app.ui.components import numbers
from app.ui.components.numbers import Misread
from app.ui.shell.language import Key, Translator


@dataclass(frozen=True)
class NumberField:
    """A field for a number: the id of its control, the key of its label, and what may stand there, both ends in."""

    element_id: str
    label: Key
    low: float
    high: float
    above_low: bool = False
    may_be_empty: bool = False

    def whole(self, value: object) -> int | None:
        """Return the whole number that was typed, None for an empty field that may be so. Raises FieldFault."""
        if self._is_empty(value):
            return None
        try:
            number = numbers.whole(value)
            self._check(number, value)
        except Misread as misread:
            raise FieldFault(self, misread, "wrong.a_whole") from None
        return number

    def real(self, value: object) -> float | None:
        """Return the number that was typed, None for an empty field that may be so. Raises FieldFault."""
        if self._is_empty(value):
            return None
        try:
            number = numbers.real(value)
            self._check(number, value)
        except Misread as misread:
            raise FieldFault(self, misread, "wrong.a_number") from None
        return number

    def _is_empty(self, value: object) -> bool:
        return self.may_be_empty and (value is None or (isinstance(value, str) and not value.strip()))

    def _check(self, number: float, typed: object) -> None:
        if not self.low <= number <= self.high or (self.above_low and number == self.low):
            raise Misread("wrong.outside", typed)


class FieldFault(UsageError):
    """A number's field holds what cannot be used. `said` tells so in a language, for the field itself."""

    def __init__(self, field: NumberField, misread: Misread, wanted: str) -> None:
        self.field, self._misread, self._wanted = field, misread, wanted
        t = Translator()
        super().__init__(f"{t(field.label)}: {t(misread.key, given=misread.given)}", "", self._allowed(t))

    def said(self, t: Translator) -> str:
        """Return what is wrong and what may stand there."""
        return f"{t(self._misread.key, given=self._misread.given)} {self._allowed(t)}"

    def _allowed(self, t: Translator) -> str:
        limits = "wrong.gt_le" if self.field.above_low else "wrong.ge_le"
        ends = {"low": f"{self.field.low:,.10g}", "high": f"{self.field.high:,.10g}"}
        return t(self._wanted, limits=t(limits, **ends))
