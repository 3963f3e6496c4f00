"""Data as the page shows it: one sentence, rows, tokens, lengths, problems. Every text of a row is inert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from app.config import RunConfig
from app.data.options import DROPPABLE, REPAIRABLE
from app.ui import figures, notices
from app.ui.bars import histogram
from app.ui.language import Speech
from app.ui.look import Look, ShownRow
from app.ui.markup import Html, element, joined

Answer = dict[str, Any]
_LONGEST_CELL = 600
# Tokens drawn of one row; a longer row goes on in `data show`.
_MOST_TOKENS = 3000
_MOST_PROBLEMS = 60


def sentence(answer: Answer, look: Look, say: Speech) -> Html:
    """Return what would be trained, in one sentence."""
    check = answer["check"]
    said = say("data.sentence.rows", count=check["rows"], rows=figures.count(check["rows"]), name=look.label)
    kind = say.known(f"format.{check['format']}", check["format"])
    parts: list[object] = [said, " ", element("span", kind, title=check["why"]), ". "]
    tokens = check["tokens"]
    if tokens.get("total"):
        share = 100 * tokens["trained"] / tokens["total"]
        parts.append(say("data.sentence.tokens", percent=f"{share:.0f}", total=figures.count(tokens["total"])))
        parts.append(" ")
    wrong = check["rows"] - check["usable"]
    if wrong:
        parts.append(
            element("span", say("data.sentence.wrong", count=wrong, rows=figures.count(wrong)), class_="wb-warn")
        )
    else:
        parts.append(element("span", say("data.sentence.well"), class_="wb-good"))
    return notices.sentence(element("span", *parts))


def rows_table(rows: Sequence[ShownRow], say: Speech) -> Html:
    """Return rows as a table: line, then who says what."""
    header = element("tr", *(element("th", say(key), scope="col") for key in ("data.row", "data.line", "data.turns")))
    body = [
        element(
            "tr",
            element("td", row.number, class_="wb-number"),
            element("td", row.line, class_="wb-number"),
            element("td", _turns(row)),
        )
        for row in rows
    ]
    return element("div", element("table", element("thead", header), element("tbody", *body)), class_="wb-table")


def _turns(row: ShownRow) -> Html:
    if row.conversation is None:
        return element("span", row.problem, class_="wb-warn")
    if row.conversation.text is not None:
        return element("span", _cut(row.conversation.text), class_="wb-cell")
    turns = [
        element(
            "div", element("span", turn.role, class_="wb-role"), element("span", _cut(turn.content), class_="wb-cell")
        )
        for turn in row.conversation.turns
    ]
    return element("div", *turns, class_="wb-turns")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"


def tokens(shown: Answer, say: Speech) -> Html:
    """Return the tokens of one row: trained ones tinted, turns apart, special tokens small, ids on hover."""
    drawn = shown["tokens"][:_MOST_TOKENS]
    turns = [
        element(
            "div",
            element("span", role, class_="wb-role"),
            element("span", *(_token(token) for token in group), class_="wb-tokens"),
            class_="wb-turn",
        )
        for (_, role), group in groupby(drawn, key=lambda token: (token["turn"], token["role"]))
    ]
    facts = say(
        "data.tokens_facts",
        row=shown["row"],
        line=shown["line"],
        trained=figures.count(shown["trained_tokens"]),
        total=figures.count(shown["total_tokens"]),
    )
    warnings = [element("li", warning) for warning in shown["warnings"]]
    more = say("data.tokens_more", shown=figures.count(_MOST_TOKENS)) if len(shown["tokens"]) > _MOST_TOKENS else ""
    key = element(
        "span",
        element("span", say("data.trained"), class_="wb-token wb-trained"),
        " ",
        element("span", say("data.not_trained"), class_="wb-token"),
        class_="wb-legend",
    )
    return element(
        "div",
        element("div", element("span", facts), key, class_="wb-chart-head"),
        element("ul", *warnings, class_="wb-notes") if warnings else "",
        *turns,
        notices.note(more) if more else "",
        class_="wb-token-view",
    )


def _token(token: Answer) -> Html:
    text = str(token["text"])
    special = len(text) > 2 and ((text[0] == "<" and text[-1] == ">") or (text[0] == "[" and text[-1] == "]"))
    kinds = ["wb-token"] + ["wb-trained"] * bool(token["trained"]) + ["wb-special"] * special
    breaks = text.count("\n")
    shown = text.replace("\n", "⏎") if breaks else text
    token_ = element("span", shown, class_=" ".join(kinds), title=f"id {token['id']}")
    return joined([token_, *[element("br")] * breaks])


def lengths(answer: Answer, config: RunConfig, say: Speech) -> Html:
    """Return the lengths of the rows in tokens against the limit, and what packing makes of them."""
    check, limit = answer["check"], config.data.max_length
    tokens_ = check["tokens"]
    if not answer["histogram"]:
        return notices.empty(say("data.no_tokens.title"), say("data.no_tokens.text", model=config.model.name))
    bins = [(int(one["up_to"]), int(one["rows"])) for one in answer["histogram"]]
    drawn = histogram(
        bins,
        limit,
        title=say("data.lengths"),
        unit=say("unit.tokens"),
        limit_label=say("data.limit", length=figures.count(limit)),
    )
    facts = [
        say("data.middle", length=figures.count(tokens_["p50"])),
        say("data.most", length=figures.count(tokens_["p95"])),
        say("data.longest", length=figures.count(tokens_["max"])),
        say("data.over", count=tokens_["over_limit"], rows=figures.count(tokens_["over_limit"])),
    ]
    packing = check["packing"]
    if config.data.packing and packing.get("fill"):
        facts.append(say("data.packed", percent=f"{100 * packing['fill']:.0f}"))
    return element("div", drawn, element("ul", *(element("li", fact) for fact in facts), class_="wb-facts-list"))


def problems(answer: Answer, look: Look, say: Speech) -> Html:
    """Return what is wrong by kind, with what can be done in one click, and the lines it was found on."""
    check = answer["check"]
    kinds = {**check["problem_counts"], **dict.fromkeys((*look.drop, *look.repair), 0), **check["problem_counts"]}
    if not kinds:
        return notices.empty(say("data.no_problems.title"), say("data.no_problems.text"))
    groups = [
        element("div", _kind(kind, number, look, say), class_="wb-problem-kind") for kind, number in kinds.items()
    ]
    body = [
        element(
            "tr",
            element("td", problem["line"], class_="wb-number"),
            element("td", say.known(f"problem.{problem['kind']}", problem["kind"])),
            element("td", _cut(str(problem["message"]))),
            element("td", problem["fix"]),
        )
        for problem in check["problems"][:_MOST_PROBLEMS]
    ]
    names = ("data.line", "data.kind", "data.message", "data.fix")
    header = element("tr", *(element("th", say(key), scope="col") for key in names))
    table = element("table", element("thead", header), element("tbody", *body))
    return element("div", *groups, element("div", table, class_="wb-table") if body else "")


def _kind(kind: str, number: int, look: Look, say: Speech) -> Html:
    buttons = [
        element(
            "button",
            say(f"data.{action}_undo" if kind in chosen else f"data.{action}_action"),
            type="button",
            class_="wb-small",
            data_pick=json.dumps({"action": action, "kind": kind}),
        )
        for action, known, chosen in (("drop", DROPPABLE, look.drop), ("repair", REPAIRABLE, look.repair))
        if kind in known
    ]
    name = element("b", say.known(f"problem.{kind}", kind))
    count = element("span", say("data.count", count=number, rows=figures.count(number)), class_="wb-number wb-muted")
    return element("span", name, " ", count, " ", *buttons)
