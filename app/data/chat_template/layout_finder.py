"""Find where the turns lie in what a chat template writes, without help from the template.

A template is rendered once more with every text replaced by a private mark. What stands between the marks is the
template's own writing, and is the same for every conversation of that shape. From it follow, for each assistant turn,
the character where the model begins to write and the end-of-turn mark it has to learn. A real rendering is then matched
piece by piece against this skeleton; what does not match is refused, so that nothing is ever masked by guesswork.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import replace

from app.data.chat_template.layout import AnswerPlace, Leaf, Place, Skeleton
from app.data.chat_template.message_style import Dialect, dialects_for, holds_thinking, split_thinking
from app.data.chat_template.templates import EndlessTemplateError, RenderingError, rendering
from app.data.chat_template.text_probe import Inspections, inspect
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.formats.conversation import Conversation, Turn
from app.errors import TemplateError

# Private-use characters: no template trims, splits, capitalises or escapes them.
_MARK_OPEN, _MARK_CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_MARK_OPEN}(\\d{{6}}){_MARK_CLOSE}")
_MARK_LENGTH = 8
_SPARE_NUMBER = 999_999
_PRINTED_PARTS = re.compile(r"""['"]type['"]: ?['"](?:text|thinking)['"]""")
_THINK_OPENING = re.compile(r"<think>\s*\Z")
# Ends of turns that models of today are trained with, for tokenizers that do not name theirs.
_KNOWN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|eot|>",
    "<|tool_response>",
    "<|endoftext|>",
    "</s>",
)
_MARKER = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>")


class SkeletonBuilder:
    """Build skeletons for one tokenizer's template."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = tokenizer.template
        known = [mark for mark in _KNOWN_ENDS if mark in self._template.source or mark in tokenizer.end_tokens]
        marks = dict.fromkeys([*tokenizer.end_tokens, *known])
        self._ends = re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)) or r"(?!)")

    def build(self, conversation: Conversation, only_answers: bool = False) -> Skeleton:
        """Return the skeleton of a conversation's shape, trying the dialects in turn.

        With `only_answers` the other turns keep their texts, for templates that look into them.
        """
        refusals: list[TemplateError] = []
        place = self._thinking_place if holds_thinking(conversation) else ""
        for dialect in dialects_for(conversation, place):
            try:
                return self._build(conversation, dialect, only_answers)
            except EndlessTemplateError:
                raise
            except TemplateError as refusal:
                refusals.append(refusal)
        raise next((refusal for refusal in refusals if not isinstance(refusal, RenderingError)), refusals[0])

    def _build(self, conversation: Conversation, dialect: Dialect, only_answers: bool) -> Skeleton:
        marked, leaves = _marked(conversation, only_answers)
        text = self._render(marked, dialect)
        literals, found = _cut(text, leaves)
        if (dialect.parts or dialect.thinking_as_part) and any(_PRINTED_PARTS.search(literal) for literal in literals):
            raise RenderingError("The chat template prints a list of parts as it stands", "", "Choose another template")
        _refuse_missing(conversation, leaves, found)
        skeleton = Skeleton(tuple(literals), tuple(found), (), dialect)
        answers, appended = self._answers(marked, skeleton, text)
        if appended:
            literals[-1] += appended
        warnings = _warnings(leaves, found, appended, dialect)
        skeleton = replace(skeleton, literals=tuple(literals), answers=answers, appended=appended, warnings=warnings)
        return replace(skeleton, inspections=self._inspections(conversation, skeleton))

    def _inspections(self, conversation: Conversation, skeleton: Skeleton) -> Inspections | None:
        """Return what the template asks about plain texts, None where rows of this shape have to be rendered."""
        plain = all(
            turn == Turn(turn.role, turn.content, trained=turn.trained, weight=turn.weight)
            for turn in conversation.turns
        )
        whole = not any("</think>" in turn.content or not turn.content.strip() for turn in conversation.turns)
        if not (plain and whole) or conversation.tools or skeleton.dialect != Dialect():
            return None
        own = (*skeleton.literals[:-1], skeleton.literals[-1].removesuffix(skeleton.appended))
        messages, order = conversation.as_messages(), [leaf.turn for leaf in skeleton.leaves]
        try:
            with rendering():
                return inspect(self._template.source, self._template.special_tokens, messages, own, order)
        except RenderingError:  # it does not like the odd texts: its rows are then rendered as usual
            return None

    def _render(self, conversation: Conversation, dialect: Dialect, generation_prompt: bool = False) -> str:
        tools = list(conversation.tools) or None
        return self._template.render(dialect.messages(conversation), tools, generation_prompt)

    def _answers(self, marked: Conversation, skeleton: Skeleton, text: str) -> tuple[tuple[AnswerPlace, ...], str]:
        """Return the places of all answers, and the end-of-turn text to append where the template writes none."""
        answers: list[AnswerPlace] = []
        appended = ""
        for index, turn in enumerate(marked.turns):
            if turn.role != "assistant" or not (turn.tool_calls or index in skeleton.pieces_of_turn):
                continue
            start = self._start(marked, index, skeleton, text)
            end, mark = self._end(marked, index, skeleton, start)
            _refuse_lost_calls(turn, index, skeleton, start, end)
            if end is None:
                appended = mark
                end = Place(len(skeleton.leaves), len(skeleton.literals[-1]) + len(mark))
            answers.append(AnswerPlace(index, start, end, mark))
        return tuple(answers), appended

    def _start(self, marked: Conversation, index: int, skeleton: Skeleton, text: str) -> Place:
        """Return where the model begins to write a turn.

        That is the answer's first character. Thinking and tool calls need what the template writes around them too,
        as far as the generation prompt does not already give it.
        """
        turn = marked.turns[index]
        own = skeleton.pieces_of_turn.get(index, [])
        if own and skeleton.leaves[own[0]].part == "content":
            return Place(own[0], len(skeleton.literals[own[0]]))
        prompt = self._prompt(marked, index, skeleton.dialect)
        if own:
            opening = _opening_tag(turn, skeleton.dialect)
            given = prompt if self._cue else self._longer_prompt(marked, index, skeleton.dialect, text, prompt)
            return self._thinking_start(own[0], skeleton, text, given, opening)
        at = self._call_start(marked, index, skeleton.dialect, text)
        if at is None and prompt is not None and text.startswith(prompt):
            at = len(prompt)
        if at is None:
            raise TemplateError(
                f"The place of turn {index + 1} ({'tool calls' if turn.tool_calls else turn.role}) cannot be found",
                "The chat template writes it differently each time",
                "Choose another chat template",
            )
        return _place_of(at, skeleton)

    def _prompt(self, marked: Conversation, index: int, dialect: Dialect) -> str | None:
        """Return what the model is given before it writes a turn, None where the template refuses to say."""
        if index == 0:
            return None
        try:
            return self._render(replace(marked, turns=marked.turns[:index]), dialect, generation_prompt=True)
        except TemplateError:
            return None

    def _longer_prompt(
        self, marked: Conversation, index: int, dialect: Dialect, text: str, prompt: str | None
    ) -> str | None:
        """Return what stands before a thinking turn and before a plain one alike: the template tells of no cue."""
        at = self._call_start(marked, index, dialect, text)
        before = [one for one in (prompt, text[:at] if at else None) if one is not None and text.startswith(one)]
        return max(before, key=len, default=None)

    @functools.cached_property
    def _cue(self) -> str:
        """Return what the template writes to ask for an answer, such as `<|im_start|>assistant` and a line break."""
        asked = Conversation((Turn("user", _mark(0)),))
        try:
            without, with_cue = self._render(asked, Dialect()), self._render(asked, Dialect(), generation_prompt=True)
        except TemplateError:
            return ""
        return with_cue.removeprefix(without) if with_cue.startswith(without) else ""

    @functools.cached_property
    def _thinking_place(self) -> str:
        """Return how the template takes thinking: as a "field", as a "part" of the content, or nowhere ("")."""
        asked = Conversation((Turn("user", _mark(0)), Turn("assistant", _mark(1), reasoning=_mark(2))))
        for place, dialect in (("field", Dialect()), ("part", Dialect(thinking_as_part=True))):
            try:
                text = self._render(asked, dialect)
                if _mark(2) in text and not _PRINTED_PARTS.search(text):
                    return place
            except EndlessTemplateError:
                raise
            except TemplateError:
                continue
        return ""

    def _thinking_start(self, first: int, skeleton: Skeleton, text: str, prompt: str | None, opening: str) -> Place:
        """Return where thinking begins: at the row's own tag, else behind what the generation prompt gives."""
        literal, cue = skeleton.literals[first], self._cue
        own = len(literal) - len(opening) if opening and literal.endswith(opening) else 0
        if prompt is not None and text.startswith(prompt):
            place = _place_of(len(prompt), skeleton)
            if place.piece == first:
                given = place.offset + len(cue) * literal.startswith(cue, place.offset)
                return Place(first, max(own, given))
        if cue and cue in literal:
            return Place(first, max(own, literal.rindex(cue) + len(cue)))
        tag = _THINK_OPENING.search(literal)
        return Place(first, own or (tag.start() if tag else len(literal)))

    def _call_start(self, marked: Conversation, index: int, dialect: Dialect, text: str) -> int | None:
        """Return where a turn of tool calls alone begins: where it parts from the same turn with a plain answer."""
        plain = Turn("assistant", _mark(_SPARE_NUMBER))
        turns = marked.turns[:index]
        for rest in (marked.turns[index + 1 :], ()):
            try:
                other = self._render(replace(marked, turns=(*turns, plain, *rest)), dialect)
            except TemplateError:
                continue
            if plain.content in other:
                return self._whole_word(text, _common_prefix(text, other[: other.index(plain.content)]))
        return None

    def _whole_word(self, text: str, at: int) -> int:
        """Move back from the middle of a tag or word to where it begins, at most to the end of the cue."""
        tag = text.rfind("<", 0, at)
        if tag >= 0 and ">" not in text[tag:at]:
            return tag
        cue = text.rfind(self._cue, 0, at) if self._cue else -1
        in_word = not text[at - 1 : at].isspace() and text[at - 1 : at] not in (">", "]")
        return cue + len(self._cue) if in_word and cue >= 0 else at

    def _end(self, marked: Conversation, index: int, skeleton: Skeleton, start: Place) -> tuple[Place | None, str]:
        """Return the place behind the end-of-turn mark and the mark; no place where it has to be appended."""
        turn = marked.turns[index]
        own = skeleton.pieces_of_turn.get(index, [])
        piece = own[-1] + 1 if own else start.piece
        offset = 0 if own else start.offset
        literal = skeleton.literals[piece]
        found = list(self._ends.finditer(literal, offset))
        if found:
            mark = found[-1] if turn.tool_calls else found[0]
            if own and not turn.tool_calls and skeleton.leaves[own[-1]].part == "content":
                _refuse_addition(literal[offset : mark.start()], index)
            return Place(piece, mark.end()), mark.group()
        if piece < len(skeleton.leaves) and marked.turns[skeleton.leaves[piece].turn].role == "assistant":
            return Place(piece, 0), ""  # merged with the next turn, which carries the mark
        if fallback := self._next_marker(literal, offset, turn):
            return Place(piece, fallback.end()), fallback.group()
        if piece == len(skeleton.leaves) and index == len(marked.turns) - 1 and self._tokenizer.eos_token:
            return None, self._tokenizer.eos_token
        raise TemplateError(
            f"The chat template writes no end of turn after the answer of turn {index + 1}",
            "The model would never learn to stop",
            "Choose another chat template",
        )

    def _next_marker(self, literal: str, offset: int, turn: Turn) -> re.Match[str] | None:
        """Return the special token right behind an answer, which then is what the model stops at."""
        markers = [m for m in _MARKER.finditer(literal, offset) if m.group() in self._tokenizer.added_tokens]
        if turn.tool_calls:
            return markers[-1] if markers else None
        return next((m for m in markers if not literal[offset : m.start()].strip()), None)


def _opening_tag(turn: Turn, dialect: Dialect) -> str:
    """Return the tag before the thinking that the row or the dialect writes, empty where the template writes it."""
    if dialect.thinking_in_content:
        return "<think>\n"
    return "" if dialect.tags_as_thinking else split_thinking(turn.role, turn.content)[0]


def _mark(number: int) -> str:
    return f"{_MARK_OPEN}{number:06d}{_MARK_CLOSE}"


def _marked(conversation: Conversation, only_answers: bool) -> tuple[Conversation, list[Leaf]]:
    """Replace the texts by marks; return the marked conversation and what each mark stands for."""
    leaves: list[Leaf] = []

    def mark(index: int, part: str, text: str) -> str:
        if not text.strip() or (only_answers and conversation.turns[index].role != "assistant"):
            return text
        leaves.append(Leaf(index, part))
        return _mark(len(leaves) - 1)

    turns = []
    for index, turn in enumerate(conversation.turns):
        opening, thinking, closing, answer = split_thinking(turn.role, turn.content)
        reasoning = mark(index, "reasoning", turn.reasoning) if turn.reasoning else ""
        thinking = mark(index, "reasoning", thinking) if not reasoning else thinking
        content = opening + thinking + closing + mark(index, "content", answer)
        turns.append(replace(turn, content=content, reasoning=reasoning))
    return replace(conversation, turns=tuple(turns)), leaves


def _cut(text: str, leaves: list[Leaf]) -> tuple[list[str], list[Leaf]]:
    """Cut a marked rendering into the template's own writing and the leaves between."""
    pieces = _MARK.split(text)
    numbers = [int(number) for number in pieces[1::2]]
    if any(number >= len(leaves) for number in numbers):
        raise TemplateError(
            "A text of the row holds the private characters that mark texts", "", "Remove U+E0F0 and U+E0F1 from it"
        )
    return pieces[::2], [leaves[number] for number in numbers]


def _refuse_missing(conversation: Conversation, leaves: list[Leaf], found: list[Leaf]) -> None:
    """Refuse templates that leave a turn out or write an answer twice; the thinking of earlier turns may go."""
    last_answer = max((i for i, turn in enumerate(conversation.turns) if turn.role == "assistant"), default=-1)
    counts = Counter(found)
    for leaf in leaves:
        turn, count = conversation.turns[leaf.turn], counts[leaf]
        if count == 0 and (leaf.part == "content" or leaf.turn == last_answer):
            what = "thinking" if leaf.part == "reasoning" else "text"
            raise TemplateError(
                f"The chat template leaves out the {turn.role} {what} of turn {leaf.turn + 1}",
                "It has no place for such a turn" + (" beside a tool call" if turn.tool_calls else ""),
                "Remove that text from the rows, or choose another chat template",
            )
        if count > 1 and turn.role == "assistant":
            raise TemplateError(
                f"The chat template writes the answer of turn {leaf.turn + 1} {count} times",
                "It is not clear which of them the model should learn",
                "Choose another chat template",
            )


def _refuse_addition(between: str, index: int) -> None:
    """Refuse templates that add words of their own to an answer: the model would be trained to say them."""
    if _MARKER.sub("", between).strip():
        raise TemplateError(
            f"The chat template adds {between.strip()[:40]!r} behind the answer of turn {index + 1}",
            "It would be trained as if the row said it",
            "Choose another chat template",
        )


def _refuse_lost_calls(turn: Turn, index: int, skeleton: Skeleton, start: Place, end: Place | None) -> None:
    """Refuse templates that leave tool calls out, or write them apart from the rest of their turn."""
    last = end.piece if end else len(skeleton.literals) - 1
    written = "".join(skeleton.literals[start.piece : last + 1])[start.offset :]
    written = written[: len(written) - len(skeleton.literals[last]) + end.offset] if end else written
    for call in turn.tool_calls:
        if call.name not in written:
            raise TemplateError(
                f"The chat template leaves out the tool call {call.name} of turn {index + 1}, or writes it elsewhere",
                "It has no place for such a turn",
                "Remove the rows with tool calls, or choose another chat template",
            )


def _warnings(leaves: list[Leaf], found: list[Leaf], appended: str, dialect: Dialect) -> tuple[str, ...]:
    warnings = []
    if dialect.thinking_in_content:
        warnings.append("The template has no place for thinking; it is written between <think> tags in the answer")
    if not set(leaves) <= set(found):
        warnings.append("The template leaves the thinking of earlier turns out, so it is not trained")
    if appended:
        warnings.append(f"The template writes no end of turn after the last answer; {appended} is appended")
    return tuple(warnings)


def _place_of(at: int, skeleton: Skeleton) -> Place:
    """Return the place of a character of the marked text; inside a mark it is the mark's own start."""
    position = 0
    for piece, literal in enumerate(skeleton.literals):
        if at <= position + len(literal):
            return Place(piece, at - position)
        position += len(literal) + _MARK_LENGTH
    raise AssertionError("a place behind the text's end")


def _common_prefix(left: str, right: str) -> int:
    limit = min(len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)
