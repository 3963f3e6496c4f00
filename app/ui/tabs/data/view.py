"""Data as the page shows it: one sentence, rows, tokens, lengths, problems. Every text of a row is inert."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby

from app.config.schema import RunConfig
from app.data.dataset.options import DROPPABLE, REPAIRABLE
from app.data.formats.conversation import ToolCall, Turn
from app.data.messages import CheckAnswer, Problem, RowTokens, ShownToken
from app.planner.phrases import Phrase
from app.runs.dataset_selection import OVER_LENGTH, DatasetSelection, RowPage, ShownRow
from app.ui.components import messages, number_format
from app.ui.components.bars import histogram
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Translator

_LONGEST_CELL = 600
# Tokens drawn of one row; a longer row goes on in `data show`.
_MOST_TOKENS = 3000
# Rows listed of one kind of problem; a kind with few rows stands open.
_MOST_OF_A_KIND = 20
_OPENED_UP_TO = 5
ROWS_A_PAGE = 20


def sentence(answer: CheckAnswer, look: DatasetSelection, t: Translator) -> Html:
    """Return what would be trained, in one sentence."""
    check = answer.check
    kind = t.known(f"format.{check.format}", check.format)
    rows = number_format.count(check.rows)
    said = t("data.sentence.rows", count=check.rows, rows=rows, name=look.label, format=kind)
    parts: list[object] = [element("span", said, title=_reason(check.why, t)), " "]
    tokens = check.tokens
    if tokens.total:
        share = 100 * (tokens.trained or 0) / tokens.total
        parts.append(t("data.sentence.tokens", percent=f"{share:.0f}", total=number_format.count(tokens.total)))
        parts.append(" ")
    chosen = left_out_by_choice(answer, look)
    needing = check.rows - check.usable - chosen
    if needing:
        text = t("data.sentence.wrong", count=needing, rows=number_format.count(needing))
        parts.append(element("span", text, class_="wb-warn"))
    elif not chosen:
        parts.append(element("span", t("data.sentence.well"), class_="wb-good"))
    if chosen:
        parts += [" ", t("data.sentence.chosen", count=chosen, rows=number_format.count(chosen))]
    if check.format == "unknown":
        parts += [" ", t("data.sentence.unknown")]
    return messages.sentence(element("span", *parts))


def _reason(why: str, t: Translator) -> str:
    """Return why a format was chosen, in the page's language; of a mixed file there is a reason for each format."""
    return "; ".join(t.heard(one) for one in re.split(r"; (?=[\d,]+ rows are )", why))


def left_out_by_choice(answer: CheckAnswer, look: DatasetSelection) -> int:
    """Return how many rows are left out because a person said so."""
    kinds = {*look.drop, *(["over_limit"] if look.over_length else [])}
    return sum(rows for kind, rows in answer.left_out.items() if kind in kinds)


# In an HTML block: a field with data-find sends its words with Enter, beside what is clicked.
FIND_JS = """
element.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || !event.target.matches("[data-find]")) return;
  const total = Number(event.target.dataset.find) || null;
  trigger("select", { value: JSON.stringify({ start: 0, words: event.target.value, total }) });
});
"""


# The texts of a row that is opened to be written on, drawn in the browser: what is saved goes to the server.
EDIT_JS = """
const close = () => element.querySelectorAll(".wb-row-form").forEach((form) => form.remove());
element.addEventListener("click", (event) => {
  const open = event.target.closest("[data-edit]");
  if (event.target.closest("[data-edit-cancel]")) return close();
  if (event.target.closest("[data-edit-save]")) {
    const form = event.target.closest(".wb-row-form");
    const fields = [...form.querySelectorAll("textarea")].map((one) => [one.dataset.column, one.value]);
    const texts = Object.fromEntries(fields);
    return trigger("select", { value: JSON.stringify({ act: "edit", row: Number(form.dataset.row), texts }) });
  }
  if (!open) return;
  close();
  const form = document.createElement("tr"), cell = document.createElement("td");
  form.className = "wb-row-form";
  form.dataset.row = open.dataset.row;
  cell.colSpan = 4;
  for (const [column, text] of Object.entries(JSON.parse(open.dataset.edit))) {
    const label = document.createElement("label"), name = document.createElement("code");
    const field = document.createElement("textarea");
    name.textContent = column;
    Object.assign(field, { value: text, rows: Math.min(8, 1 + Math.ceil(text.length / 90)) });
    field.dataset.column = column;
    label.append(name, field);
    cell.append(label);
  }
  for (const [key, words] of [["editSave", open.dataset.save], ["editCancel", open.dataset.cancel]]) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "wb-small", textContent: words });
    button.dataset[key] = "";
    cell.append(button);
  }
  form.append(cell);
  open.closest("tr").after(form);
  form.querySelector("textarea")?.focus();
});
"""
# A row with more text than this is changed in a program of one's own.
_LONGEST_EDIT = 20_000


def rows_page(page: RowPage, t: Translator, *, is_changed: bool = False) -> Html:
    """Return a page of rows below a field that searches all of them, with the ways to the pages beside it.

    Each row can be changed or dropped; where something `is_changed` already, that can be taken back.
    """
    field = element(
        "input", type="search", value=page.words, placeholder=t("data.find"), aria_label=t("data.find"),
        data_find=page.total or 0, class_="wb-find-rows",
    )  # fmt: skip
    first, last = page.start + 1, page.start + len(page.rows)
    place = t("data.page", first=number_format.count(first), last=number_format.count(last)) if page.rows else ""
    if page.rows and page.total:
        place = t("data.page_of", place=place, total=number_format.count(page.total))
    ways = [
        _way(t(f"data.page.{name}"), start, page, is_there)
        for name, start, is_there in [
            ("before", max(0, page.start - ROWS_A_PAGE), page.start > 0),
            ("next", page.start + ROWS_A_PAGE, page.more),
        ]
    ]
    said = element("span", place or t("data.no_row_found"), class_="wb-number wb-muted", role="status")
    undo: Html | str = ""
    if is_changed:
        pick = json.dumps({"act": "undo"})
        undo = element("button", t("data.row_undo"), type="button", class_="wb-small", data_pick=pick)
    bar = element("div", field, said, undo, *ways, class_="wb-pager")
    return element("div", bar, rows_table(page.rows, t, can_change=True))


def _way(label: str, start: int, page: RowPage, is_there: bool) -> Html:
    pick = json.dumps({"start": start, "words": page.words, "total": page.total})
    return element("button", label, type="button", class_="wb-small", data_pick=pick, disabled=not is_there)


def rows_table(rows: Sequence[ShownRow], t: Translator, *, can_change: bool = False) -> Html:
    """Return rows as a table: line, then who says what, and where they `can_change` what does so."""
    keys = ("data.row", "data.line", "data.turns", *(("data.row_change",) if can_change else ()))
    header = element("tr", *(element("th", t(key), scope="col") for key in keys))
    body = [
        element(
            "tr",
            element("td", row.number, class_="wb-number"),
            element("td", row.line, class_="wb-number"),
            element("td", _turns(row, t)),
            element("td", *_changes(row, t), class_="wb-row-acts") if can_change else "",
        )
        for row in rows
    ]
    return element(
        "div", element("table", element("thead", header), element("tbody", *body)), class_="wb-table", tabindex="0"
    )


def _changes(row: ShownRow, t: Translator) -> list[Html]:
    """Return what opens a row to be written on, and what drops it."""
    if row.number is None:
        return []
    plain: dict[str, object] = {"type": "button", "class_": "wb-small"}
    drop_label, edit_label = t("data.row_drop", row=row.number), t("data.row_edit", row=row.number)
    pick = json.dumps({"act": "drop", "row": row.number})
    drop = element("button", "✕", data_pick=pick, title=drop_label, aria_label=drop_label, **plain)
    if not row.texts or sum(map(len, row.texts.values())) > _LONGEST_EDIT:
        return [drop]
    words = {"data_save": t("data.row_save"), "data_cancel": t("data.row_cancel"), "data_row": row.number}
    texts = json.dumps(dict(row.texts), ensure_ascii=False)
    edit = element("button", "✎", data_edit=texts, title=edit_label, aria_label=edit_label, **words, **plain)
    return [edit, drop]


def _turns(row: ShownRow, t: Translator) -> Html:
    if row.conversation is None:
        return element("span", _heard(row.problem, t), class_="wb-warn")
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


def tokens(shown: RowTokens, t: Translator) -> Html:
    """Return the tokens of one row: trained ones tinted, turns apart, special tokens small, ids on hover."""
    if shown.prompt_tokens is None:
        turns = _token_turns(shown.tokens[:_MOST_TOKENS])
    else:
        turns = _sides(shown, shown.prompt_tokens, t)
    facts = t(
        "data.tokens_facts",
        row=shown.row,
        line=shown.line,
        trained=number_format.count(shown.trained_tokens),
        total=number_format.count(shown.total_tokens),
    )
    warnings = [element("li", _heard(warning, t)) for warning in shown.warnings]
    more = t("data.tokens_more", shown=number_format.count(_MOST_TOKENS)) if len(shown.tokens) > _MOST_TOKENS else ""
    key = element(
        "span",
        element("span", t("data.trained"), class_="wb-token wb-trained"),
        " ",
        element("span", t("data.not_trained"), class_="wb-token"),
        class_="wb-legend",
    )
    return element(
        "div",
        element("div", element("span", facts), key, class_="wb-chart-head"),
        element("ul", *warnings, class_="wb-facts-list wb-warn") if warnings else "",
        *turns,
        messages.note(more) if more else "",
        class_="wb-token-view",
        tabindex="0",
    )


def _token_turns(tokens: Sequence[ShownToken]) -> list[Html]:
    return [
        element(
            "div",
            element("span", role, class_="wb-role"),
            element("span", *(_token(token) for token in group), class_="wb-tokens"),
            class_="wb-turn",
        )
        for (_, role), group in groupby(tokens, key=lambda token: (token.turn, token.role))
    ]


def _sides(shown: RowTokens, prompt_tokens: int, t: Translator) -> list[Html]:
    """Return the prompt once, and each answer to it under what was said of it."""
    prompt, said = shown.tokens[:prompt_tokens], shown.tokens[prompt_tokens:]
    one = "data.side.chosen" if shown.rejected else "data.side.up" if shown.label else "data.side.down"
    found = _token_turns(prompt[:_MOST_TOKENS])
    for key, answer in ((one, said), ("data.side.rejected", shown.rejected)):
        if answer:
            found.append(element("p", t(key), class_="wb-heading", data_side=key.rpartition(".")[2]))
            found += _token_turns(answer[:_MOST_TOKENS])
    return found


def _token(token: ShownToken) -> Html:
    text = token.text
    special = len(text) > 2 and ((text[0] == "<" and text[-1] == ">") or (text[0] == "[" and text[-1] == "]"))
    kinds = ["wb-token"] + ["wb-trained"] * bool(token.trained) + ["wb-special"] * special
    breaks = text.count("\n")
    shown = text.replace("\n", "⏎") if breaks else text
    token_ = element("span", shown, class_=" ".join(kinds), title=f"id {token.id}")
    return joined([token_, *[element("br")] * breaks])


def lengths(answer: CheckAnswer, config: RunConfig, t: Translator, unpacked: Phrase | None = None) -> Html:
    """Return the lengths of the rows in tokens against the limit, and what packing makes of them.

    `unpacked` says why the rows of this model are not packed.
    """
    check, limit = answer.check, config.data.max_length
    tokens_ = check.tokens
    if not answer.histogram:
        return messages.empty(t("data.no_tokens.title"), t("data.no_tokens.text", model=config.model.name))
    bins = [(one.up_to, one.rows) for one in answer.histogram]
    drawn = histogram(
        bins,
        limit,
        title=t("data.lengths"),
        unit=t("unit.tokens"),
        limit_label=t("data.limit", length=number_format.count(limit)),
    )
    over = tokens_.over_limit or 0
    facts = [
        t("data.middle", length=number_format.count(tokens_.p50 or 0)),
        t("data.most", length=number_format.count(tokens_.p95 or 0)),
        t("data.longest", length=number_format.count(tokens_.max or 0)),
        t("data.over", count=over, rows=number_format.count(over)),
    ]
    fill = check.packing.fill
    if unpacked is not None:
        facts.append(t.planned(unpacked))
    elif config.data.packing and fill:
        facts.append(t("data.packed", percent=f"{100 * fill:.0f}"))
    return element("div", drawn, element("ul", *(element("li", fact) for fact in facts), class_="wb-facts-list"))


def problems(answer: CheckAnswer, look: DatasetSelection, over_length: str, t: Translator) -> Html:
    """Return what is wrong by kind: how many rows, what can be done in one click, and the rows that it would touch."""
    counts = answer.check.problem_counts
    kinds = {**counts, **dict.fromkeys({*look.drop, *look.repair} - set(counts), 0)}
    if not kinds:
        return messages.empty(t("data.no_problems.title"), t("data.no_problems.text"), "check")
    listed: dict[str, list[tuple[Problem, str]]] = {}
    for problem, excerpt in zip(answer.check.problems, answer.excerpts, strict=True):
        listed.setdefault(problem.kind, []).append((problem, excerpt))
    cards = [
        element(
            "section",
            element(
                "div",
                element("b", t.known(f"problem.{kind}", kind)),
                element(
                    "span",
                    t("data.count", count=number, rows=number_format.count(number)),
                    class_="wb-number wb-muted",
                ),
                _state(kind, number, answer, look, t),
                element("span", *_actions(kind, look, over_length, t), class_="wb-problem-actions"),
                class_="wb-problem-head",
            ),
            _found(listed.get(kind, []), number, t),
            class_="wb-problem",
        )
        for kind, number in sorted(kinds.items(), key=lambda item: -item[1])
    ]
    return element("div", _choices(answer, look, t), *cards)


def _choices(answer: CheckAnswer, look: DatasetSelection, t: Translator) -> Html:
    """Return how many rows are not trained, and the way back where something was chosen."""
    left = sum(answer.left_out.values())
    said = t("data.left_out", count=left, rows=number_format.count(left)) if left else t("data.none_left_out")
    chosen = bool(look.drop or look.repair or look.over_length)
    back = [_button(t("data.undo_all"), "undo", "", False)] if chosen else []
    return element("div", element("span", said), *back, class_="wb-problem-head")


def _state(kind: str, number: int, answer: CheckAnswer, look: DatasetSelection, t: Translator) -> Html:
    """Return what becomes of the rows of a kind: left out, repaired, or trained as they are."""
    left = answer.left_out.get(kind, 0)
    if kind in look.repair:
        return element("span", t("data.state.repaired"), class_="wb-state wb-good")
    if not left:
        return element("span", t("data.state.used"), class_="wb-state")
    said = "data.state.left_out" if left >= number else "data.state.part"
    return element("span", t(said, rows=number_format.count(left)), class_="wb-state wb-warn")


def _actions(kind: str, look: DatasetSelection, over_length: str, t: Translator) -> list[Html]:
    """Return the buttons of a kind; what is chosen stays marked and is taken back by a second click."""
    if kind == "over_limit":
        return [_button(t(f"data.length.{way}"), "length", way, way == over_length) for way in OVER_LENGTH]
    return [
        _button(t(f"data.{action}_{'undo' if kind in chosen else 'action'}"), action, kind, kind in chosen)
        for action, known, chosen in (("repair", REPAIRABLE, look.repair), ("drop", DROPPABLE, look.drop))
        if kind in known
    ]


def _button(text: str, action: str, kind: str, chosen: bool) -> Html:
    pick = json.dumps({"action": action, "kind": kind})
    pressed = "true" if chosen else "false"
    return element("button", text, type="button", class_="wb-small", data_pick=pick, aria_pressed=pressed)


def _heard(message: str, t: Translator) -> str:
    """Return a message in the page's language, also one with the name of its file in front."""
    said = t.heard(message)
    if said != message:
        return said
    file, colon, rest = message.partition(": ")
    return f"{file}{colon}{t.heard(rest)}"


def _found(listed: list[tuple[Problem, str]], number: int, t: Translator) -> Html:
    """Return the rows on which a kind was found: line, what is wrong, and how the row begins."""
    if not listed:
        return Html("")
    shown = listed[:_MOST_OF_A_KIND]
    # Kinds that are found when all rows were seen come without the rows' texts.
    quoted = any(excerpt for _, excerpt in shown)
    keys = ("data.line", "data.message", *(["data.text"] if quoted else []))
    header = element("tr", *(element("th", t(key), scope="col") for key in keys))
    body = [
        element(
            "tr",
            element("td", problem.line, class_="wb-number"),
            element("td", _cut(_heard(problem.message, t))),
            element("td", excerpt, class_="wb-excerpt") if quoted else "",
        )
        for problem, excerpt in shown
    ]
    table = element(
        "div", element("table", element("thead", header), element("tbody", *body)), class_="wb-table", tabindex="0"
    )
    more = messages.note(t("data.first_listed", shown=len(shown))) if number > len(shown) else ""
    fix = messages.note(t.heard(listed[0][0].fix))
    few = number <= _OPENED_UP_TO
    return element("details", element("summary", t("data.show_rows")), fix, table, more, open=few)
