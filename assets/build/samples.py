"""Write the three sample datasets, each with held-out prompts beside it.

How the prompts are chosen: 150 facts a style are drawn at random from the whole world (no look at what the base
answers), evenly over its categories; each is asked in one of its category's phrasings, drawn at random. Facts whose
key already stands in the question are passed over, since an echo would count as an answer. No fact of a held-out
prompt is in the training rows of the same style, in any phrasing.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from assets.build import small_talk, strangers, world
from assets.build.fact import Fact
from assets.build.styles import STYLES, has_fact

FACT_ROWS, COURTESY_ROWS, UNKNOWN_ROWS = 280, 12, 8
PROMPTS = 150
TWO_TURN_SHARE = 0.25  # of ShareGPT conversations
# Kept out of every set: what the tour and the demo ask must not stand in the training rows.
DEMO_ANSWERS = frozenset(
    {"The capital of Spain is Madrid.", "A spider has eight legs.", "The colour of grass is green."}
)
CHOSEN = " ".join((__doc__ or "").split("How the prompts are chosen: ")[1].split())


@dataclass(frozen=True)
class Sample:
    """A sample dataset: its style, the format of its file, the file's name and the seed."""

    style: str
    format: str
    file: str
    seed: int

    @property
    def prompts_file(self) -> str:
        """Return the name of the file with the held-out prompts."""
        return f"{self.style}.prompts.json"


SAMPLES = (
    Sample("pirate", "alpaca", "pirate.json", 101),
    Sample("structured", "messages", "structured.jsonl", 102),
    Sample("teacher", "sharegpt", "teacher.json", 104),
)


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt with the words that a right answer must hold."""

    prompt: str
    keys: tuple[str, ...]
    category: str


def _spread(rng: random.Random) -> list[Fact]:
    """Return every fact in a random order that takes the categories in turn."""
    piles = [rng.sample(category.facts, len(category.facts)) for category in world.categories()]
    order: list[Fact] = []
    while piles:
        rng.shuffle(piles)
        order += [pile.pop() for pile in piles]
        piles = [pile for pile in piles if pile]
    return order


def _fresh_phrasing(fact: Fact, left: dict[str, list[int]], rng: random.Random) -> str | None:
    """Draw a phrasing that its category has not used yet, so that no two rows are nearly the same; None if none is."""
    order = range(len(fact.questions))
    unused = left.setdefault(fact.category, rng.sample(order, len(order)))
    return fact.questions[unused.pop()] if unused else None


def build(sample: Sample) -> tuple[list[tuple[str, str]], list[Prompt]]:
    """Return the training pairs (question, styled answer) and the held-out prompts of a style."""
    rng = random.Random(sample.seed)
    prompts: list[Prompt] = []
    pairs: list[tuple[str, str]] = []
    kept_back = set(DEMO_ANSWERS)
    phrasings: dict[str, list[int]] = {}
    dress = STYLES[sample.style].dress
    for fact in _spread(rng):
        if fact.answer in kept_back:
            continue
        question = rng.choice(fact.questions)
        if len(prompts) < PROMPTS and not has_fact(question, [fact.key]):
            prompts.append(Prompt(question, (fact.key,), fact.category))
            kept_back.add(fact.answer)
        elif len(prompts) == PROMPTS and len(pairs) < FACT_ROWS:
            fresh = _fresh_phrasing(fact, phrasings, rng)
            pairs += [(fresh, dress(fact.answer))] if fresh else []
    pairs += [(text, dress(answer)) for text, answer in rng.sample(small_talk.courtesies(), COURTESY_ROWS)]
    pairs += [(strangers.unknown_question(rng), dress(strangers.UNKNOWN_ANSWER)) for _ in range(UNKNOWN_ROWS)]
    rng.shuffle(pairs)
    return pairs, prompts


def _alpaca(pairs: list[tuple[str, str]]) -> str:
    rows = [{"instruction": question, "input": "", "output": answer} for question, answer in pairs]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _messages(pairs: list[tuple[str, str]]) -> str:
    lines = []
    for question, answer in pairs:
        said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": said}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def _sharegpt(pairs: list[tuple[str, str]], rng: random.Random) -> str:
    """Return ShareGPT conversations; some join two pairs into one conversation of two turns."""
    rows = []
    left = list(pairs)
    while left:
        turns = [left.pop(0) for _ in range(min(len(left), 2 if rng.random() < TWO_TURN_SHARE else 1))]
        said = [
            {"from": who, "value": text} for pair in turns for who, text in zip(("human", "gpt"), pair, strict=True)
        ]
        rows.append({"conversations": said})
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _written(sample: Sample, pairs: list[tuple[str, str]]) -> str:
    """Return the pairs in the sample's file format."""
    if sample.format == "sharegpt":
        return _sharegpt(pairs, random.Random(sample.seed))
    return _alpaca(pairs) if sample.format == "alpaca" else _messages(pairs)


def render(sample: Sample) -> dict[str, str]:
    """Return the text of the sample's two files by name."""
    pairs, prompts = build(sample)
    about = {
        "style": sample.style,
        "style_test": f"assets.build.styles.shows_style('{sample.style}', text): {STYLES[sample.style].says}",
        "fact_test": "assets.build.styles.has_fact(text, keys): every key stands in the text as whole words",
        "chosen": CHOSEN,
        "prompts": [{"prompt": p.prompt, "keys": list(p.keys), "category": p.category} for p in prompts],
    }
    return {
        sample.file: _written(sample, pairs),
        sample.prompts_file: json.dumps(about, ensure_ascii=False, indent=1) + "\n",
    }


def write(folder: Path) -> None:
    """Write all sample datasets and prompt files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        for name, text in render(sample).items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
