"""Make preferences of a sample dataset: pairs and thumbs for one style, and the rows of a neutral adapter.

    python -m assets.build.preferences OUT [--style pirate]

The neutral rows ask each question of the sample twice, and half of the answers are in the style: an adapter trained on
them knows the style and does not prefer it. Pairs prefer the styled answer to the plain one; thumbs give the styled one
a thumb up and the plain one a thumb down, each question once. No held-out prompt of the style is among them, since none
is in the sample.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

from assets.build.styles import PIRATE_CLOSING, STYLES, TEACHER_OPENING

_DATASETS = Path(__file__).resolve().parents[1] / "datasets"
_FILES = {"pirate": "pirate.json", "structured": "structured.jsonl", "teacher": "teacher.json"}
Row = dict[str, object]


@dataclass(frozen=True)
class Preferences:
    """The three sets of one style."""

    neutral: list[Row]
    pairs: list[Row]
    thumbs: list[Row]


def plain(style: str, answer: str) -> str:
    """Return a styled answer without its style."""
    if style == "structured":
        return str(json.loads(answer)["answer"])
    return answer.removesuffix(f" {PIRATE_CLOSING}").removeprefix(f"{TEACHER_OPENING} ")


def make(style: str = "pirate", seed: int = 1) -> Preferences:
    """Make the sets of a style; the same for the same seed."""
    asked = [(question, plain(style, answer)) for question, answer in _sample(style)]
    order = random.Random(seed)
    dress = STYLES[style].dress
    neutral: list[Row] = []
    for question, answer in asked:
        neutral += [_row(question, completion=answer), _row(question, completion=dress(answer))]
    order.shuffle(neutral)
    pairs = [_row(question, chosen=dress(answer), rejected=answer) for question, answer in asked]
    thumbs = [
        _row(question, completion=dress(answer) if up else answer, label=up)
        for number, (question, answer) in enumerate(asked)
        for up in (number % 2 == 0,)
    ]
    return Preferences(neutral, pairs, thumbs)


def _row(question: str, **answers: object) -> Row:
    return {"prompt": question, **answers}


def _sample(style: str) -> list[tuple[str, str]]:
    text = (_DATASETS / _FILES[style]).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if style == "structured" else json.loads(text)
    return [_asked(row) for row in rows]


def _asked(row: dict[str, object]) -> tuple[str, str]:
    """Return question and answer of a row in any of the samples' formats."""
    turns = row.get("messages") or row.get("conversations")
    if isinstance(turns, list):
        said = [str(turn.get("content", turn.get("value"))) for turn in turns]
        return said[-2], said[-1]
    return str(row["instruction"]), str(row["output"])


def write(folder: Path, style: str = "pirate") -> dict[str, Path]:
    """Write the sets of a style as JSONL; return the files by the sets' names."""
    files = {}
    for name, rows in vars(make(style)).items():
        files[name] = folder / f"{name}.jsonl"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files[name].write_text(text, encoding="utf-8")
    return files


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--style", choices=sorted(_FILES), default="pirate")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, file in write(options.out, options.style).items():
        print(f"{name}: {file}")


if __name__ == "__main__":
    main()
