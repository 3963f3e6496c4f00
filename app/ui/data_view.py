"""Data as the page shows it: one sentence, rows, tokens, lengths, problems. Every text of a row is inert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from app.config import RunConfig
from app.data.conversation import ToolCall, Turn
from app.data.options import DROPPABLE, REPAIRABLE
from app.ui import figures, notices
from app.ui.bars import histogram
from app.ui.language import Speech
from app.ui.look import OVER_LENGTH, Look, ShownRow
from app.ui.markup import Html, element, joined

Answer = dict[str, Any]
_LONGEST_CELL = 600
# Tokens drawn of one row; a longer row goes on in `data show`.
_MOST_TOKENS = 3000
# Rows listed of one kind of problem; a kind with few rows stands open.
_MOST_OF_A_KIND = 20
_OPENED_UP_TO = 5


def sentence(answer: Answer, look: Look, say: Speech) -> Html:
    """Return what would be trained, in one sentence."""
    check = answer["check"]
    kind = say.known(f"format.{check['format']}", check["format"])
    rows = figures.count(check["rows"])
    said = say("data.sentence.rows", count=check["rows"], rows=rows, name=look.label, format=kind)
    parts: list[object] = [element("span", said, title=check["why"]), " "]
    tokens = check["tokens"]
    if tokens.get("total"):
        share = 100 * tokens["trained"] / tokens["total"]
        parts.append(say("data.sentence.tokens", percent=f"{share:.0f}", total=figures.count(tokens["total"])))
        parts.append(" ")
    chosen = left_out_by_choice(answer, look)
    needing = check["rows"] - check["usable"] - chosen
    if needing:
        text = say("data.sentence.wrong", count=needing, rows=figures.count(needing))
        parts.append(element("span", text, class_="wb-warn"))
    elif not chosen:
        parts.append(element("span", say("data.sentence.well"), class_="wb-good"))
    if chosen:
        parts += [" ", say("data.sentence.chosen", count=chosen, rows=figures.count(chosen))]
    if check["format"] == "unknown":
        parts += [" ", say("data.sentence.unknown")]
    return notices.sentence(element("span", *parts))


def left_out_by_choice(answer: Answer, look: Look) -> int:
    """Return how many rows are left out because a person said so."""
    kinds = {*look.drop, *(["over_limit"] if look.over_length else [])}
    return sum(int(rows) for kind, rows in answer["left_out"].items() if kind in kinds)


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
        element("div", element("span", turn.role, class_="wb-role"), element("span", *_said(turn), class_="wb-cell"))
        for turn in row.conversation.turns
    ]
    return element("div", *turns, class_="wb-turns")


def _said(turn: Turn) -> list[Html]:
    """Return what a turn holds, in its order: thinking, text, calls of tools."""
    thought = [element("span", _cut(turn.reasoning), class_="wb-thought wb-cell")] if turn.reasoning else []
    text = [element("span", _cut(turn.content))] if turn.content or not turn.tool_calls else []
    calls = [element("span", _cut(_call(call)), class_="wb-call") for call in turn.tool_calls]
    return [*thought, *text, *calls]


def _call(call: ToolCall) -> str:
    said = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    return f"{call.name}({said})"


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
        element("ul", *warnings, class_="wb-facts-list wb-warn") if warnings else "",
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


def problems(answer: Answer, look: Look, over_length: str, say: Speech) -> Html:
    """Return what is wrong by kind: how many rows, what can be done in one click, and the rows that it would touch."""
    counts = answer["check"]["problem_counts"]
    kinds = {**counts, **dict.fromkeys({*look.drop, *look.repair} - set(counts), 0)}
    if not kinds:
        return notices.empty(say("data.no_problems.title"), say("data.no_problems.text"))
    listed: dict[str, list[tuple[Answer, str]]] = {}
    for problem, excerpt in zip(answer["check"]["problems"], answer["excerpts"], strict=True):
        listed.setdefault(problem["kind"], []).append((problem, excerpt))
    cards = [
        element(
            "section",
            element(
                "div",
                element("b", say.known(f"problem.{kind}", kind)),
                element(
                    "span", say("data.count", count=number, rows=figures.count(number)), class_="wb-number wb-muted"
                ),
                _state(kind, number, answer, look, say),
                element("span", *_actions(kind, look, over_length, say), class_="wb-problem-actions"),
                class_="wb-problem-head",
            ),
            _found(listed.get(kind, []), number, say),
            class_="wb-problem",
        )
        for kind, number in sorted(kinds.items(), key=lambda item: -item[1])
    ]
    return element("div", _choices(answer, look, say), *cards)


def _choices(answer: Answer, look: Look, say: Speech) -> Html:
    """Return how many rows are not trained, and the way back where something was chosen."""
    left = sum(answer["left_out"].values())
    said = say("data.left_out", count=left, rows=figures.count(left)) if left else say("data.none_left_out")
    chosen = bool(look.drop or look.repair or look.over_length)
    back = [_button(say("data.undo_all"), "undo", "", False)] if chosen else []
    return element("div", element("span", said), *back, class_="wb-problem-head")


def _state(kind: str, number: int, answer: Answer, look: Look, say: Speech) -> Html:
    """Return what becomes of the rows of a kind: left out, repaired, or trained as they are."""
    left = int(answer["left_out"].get(kind, 0))
    if kind in look.repair:
        return element("span", say("data.state.repaired"), class_="wb-state wb-good")
    if not left:
        return element("span", say("data.state.used"), class_="wb-state")
    said = "data.state.left_out" if left >= number else "data.state.part"
    return element("span", say(said, rows=figures.count(left)), class_="wb-state wb-warn")


def _actions(kind: str, look: Look, over_length: str, say: Speech) -> list[Html]:
    """Return the buttons of a kind; what is chosen stays marked and is taken back by a second click."""
    if kind == "over_limit":
        return [_button(say(f"data.length.{way}"), "length", way, way == over_length) for way in OVER_LENGTH]
    return [
        _button(say(f"data.{action}_{'undo' if kind in chosen else 'action'}"), action, kind, kind in chosen)
        for action, known, chosen in (("repair", REPAIRABLE, look.repair), ("drop", DROPPABLE, look.drop))
        if kind in known
    ]


def _button(text: str, action: str, kind: str, chosen: bool) -> Html:
    pick = json.dumps({"action": action, "kind": kind})
    pressed = "true" if chosen else "false"
    return element("button", text, type="button", class_="wb-small", data_pick=pick, aria_pressed=pressed)


def _found(listed: list[tuple[Answer, str]], number: int, say: Speech) -> Html:
    """Return the rows on which a kind was found: line, what is wrong, and how the row begins."""
    if not listed:
        return Html("")
    shown = listed[:_MOST_OF_A_KIND]
    # Kinds that are found when all rows were seen come without the rows' texts.
    quoted = any(excerpt for _, excerpt in shown)
    keys = ("data.line", "data.message", *(["data.text"] if quoted else []))
    header = element("tr", *(element("th", say(key), scope="col") for key in keys))
    body = [
        element(
            "tr",
            element("td", problem["line"], class_="wb-number"),
            element("td", _cut(str(problem["message"]))),
            element("td", excerpt, class_="wb-excerpt") if quoted else "",
        )
        for problem, excerpt in shown
    ]
    table = element("div", element("table", element("thead", header), element("tbody", *body)), class_="wb-table")
    more = notices.note(say("data.first_listed", shown=len(shown))) if number > len(shown) else ""
    fix = notices.note(str(listed[0][0]["fix"]))
    few = number <= _OPENED_UP_TO
    return element("details", element("summary", say("data.show_rows")), fix, table, more, open=few)
