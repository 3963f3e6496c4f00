"""Tell whether a base was ever taught the script that the data are written in, by what its vocabulary makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from app.data.reading.rows import RowProblem
from app.errors import keyed

# Runs of what no Latin alphabet has: Greek, Cyrillic and all behind them, without punctuation, symbols and pictures.
_BEYOND_LATIN = re.compile(
    r"[\u0370-\u1fff\u2c00-\u2dff\u3041-\ua4cf\ua500-\ud7ff\uf900-\ufaff\ufb50-\ufdff\ufe70-\ufefc\uff66-\uffdc"
    r"\U00010000-\U0001cfff\U00020000-\U0003ffff]+"
)
# So many characters show what a vocabulary makes of a script; the rest of the file is only counted.
_SAMPLE_CHARS = 20_000
_FEWEST_CHARS = 20
_SMALLEST_SHARE = 0.05
# Tokens for each UTF-8 byte. A vocabulary that has learned a script has tokens for its characters or words, which take
# 2 to 4 bytes each: 0.1 to 0.5. One that has not falls back to single bytes: 1.
_BYTE_BY_BYTE = 0.8


@dataclass
class ScriptAudit:
    """Gathers what is written beyond Latin; `judge` at the end asks the vocabulary about it."""

    chars: int = 0
    beyond: int = 0
    _sample: list[str] = field(default_factory=list)
    _sampled: int = 0

    def add(self, text: str) -> None:
        """Count a row's text."""
        self.chars += len(text)
        if text.isascii():
            return
        for run in _BEYOND_LATIN.findall(text):
            self.beyond += len(run)
            if self._sampled < _SAMPLE_CHARS:
                self._sample.append(run[: _SAMPLE_CHARS - self._sampled])
                self._sampled += len(self._sample[-1])

    def judge(self, backend: Any) -> RowProblem | None:
        """Return the problem of a script that a `tokenizers.Tokenizer` has no tokens for, None where it has some."""
        share = self.beyond / max(1, self.chars)
        if self.beyond < _FEWEST_CHARS or share < _SMALLEST_SHARE or _knows(backend, " ".join(self._sample)):
            return None
        message = keyed(
            "script_is_unknown",
            "{share} % of the text is in a script of which this base's vocabulary has no tokens, only single bytes: "
            "it was not taught the language",
            share=f"{100 * share:.0f}",
        )
        return RowProblem(
            None, "unknown_script", message, keyed("choose_a_base", "Choose a base that knows the language")
        )


def _knows(backend: Any, sample: str) -> bool:
    """Tell whether a vocabulary has tokens for a text's characters: not bytes alone, and not its unknown token."""
    ids = backend.encode(sample, add_special_tokens=False).ids
    kept = set(backend.decode(ids, skip_special_tokens=True)) & set(sample)
    return len(ids) < _BYTE_BY_BYTE * len(sample.encode()) and 2 * len(kept) > len(set(sample))
