"""The playground as the page shows it: one column for the base and one for each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.ui.language import Speech
from app.ui.markup import Html, element


@dataclass
class Column:
    """One column while its answer comes in. `facts` are the engine's own about a finished answer."""

    name: str
    title: str
    detail: str = ""
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    done: bool = False


def columns(prompt: str, shown: Sequence[Column], say: Speech) -> Html:
    """Return the prompt and all columns."""
    asked = element("div", element("span", say("play.prompt"), class_="wb-role"), prompt, class_="wb-asked")
    cards = [_column(column, say) for column in shown]
    return element("div", asked, element("div", *cards, class_="wb-answers"))


def _column(column: Column, say: Speech) -> Html:
    facts = column.facts
    figures: list[Html] = []
    if facts.get("adapter_hash"):
        figures.append(element("span", str(facts["adapter_hash"])[:8], class_="wb-mono", title=facts["adapter_hash"]))
    if facts.get("tokens_per_s"):
        pace = say("play.pace", pace=f"{facts['tokens_per_s']:,.0f}", tokens=facts.get("tokens", 0))
        figures.append(element("span", pace, class_="wb-number"))
    if "batched" in facts:
        figures.append(element("span", say("play.batched" if facts["batched"] else "play.alone")))
    body: object = column.text
    if column.error:
        body = element("span", column.error, class_="wb-bad")
    elif not column.text:
        body = element("span", say("play.empty_answer" if column.done else "play.waiting"), class_="wb-muted")
    head = element(
        "header",
        element("b", column.title),
        element("span", column.detail, class_="wb-muted") if column.detail else "",
        element("span", *figures, class_="wb-answer-facts"),
    )
    busy = "" if column.done or column.error else " wb-busy"
    return element(
        "article",
        head,
        element("div", body, class_="wb-answer"),
        class_="wb-column-card" + busy,
        data_column=column.name,
    )
