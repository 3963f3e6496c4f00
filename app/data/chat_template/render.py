"""Render conversations to text, tokens and the loss mask: the one implementation for preview and training.

The rendered text is tokenised once, as a whole. A token belongs to an answer when one of its characters does. At the
border of an answer a token may also cover white space that the template writes (a word with the space before it, or an
end token that swallows the line break after it): it is trained whole, since the model writes it whole. A token that
joins an answer with other writing of the template cannot be trained without training the template: that row is
refused.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.data.chat_template.encoder_decoder import ApartTokens, apart, input_text, only_answer
from app.data.chat_template.layout import Place, Skeleton, leaves_of, shape_of
from app.data.chat_template.layout_finder import SkeletonBuilder
from app.data.chat_template.templates import EndlessTemplateError
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.chat_template.tokens import Tokens
from app.data.formats.conversation import Conversation
from app.errors import TemplateError

TrainOn = Literal["assistant", "last", "all"]
IGNORED = -100
# Of rows that are filled in, every so many-th is rendered too: a proof that was wrong must not go unnoticed.
_COMPARED_EVERY = 64
# Shapes differ by roles and number of turns; rows with tool calls are shapes of their own.
_MAX_SHAPES = 2048


@dataclass(frozen=True)
class Span:
    """Characters of a rendered text that the model writes in one turn."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with the spans to train. `skeleton` and `places` tell which turn wrote what.

    `split` is where the answer's text begins that is tokenised apart from the question's.
    """

    text: str
    spans: tuple[Span, ...]
    conversation: Conversation
    skeleton: Skeleton | None = None
    places: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    split: int | None = None


@dataclass(frozen=True)
class Example:
    """Tokens, the ranges of tokens that are trained, and the text they come from."""

    input_ids: list[int]
    trained: tuple[tuple[int, int], ...]
    rendered: Rendered
    warnings: tuple[str, ...] = ()

    def labels(self) -> list[int]:
        """Return the labels: the token where it is trained, else IGNORED."""
        labels = [IGNORED] * len(self.input_ids)
        for start, end in self.trained:
            labels[start:end] = self.input_ids[start:end]
        return labels

    def trained_count(self) -> int:
        """Return how many tokens are trained."""
        return sum(end - start for start, end in self.trained)


class Renderer:
    """Render and tokenise conversations for one tokenizer."""

    def __init__(self, tokenizer: ModelTokenizer, train_on: TrainOn = "assistant") -> None:
        self.tokenizer = tokenizer
        # A decoder beside an encoder writes one answer; whatever stands before it is read.
        self.train_on: TrainOn = "last" if tokenizer.encoder_decoder else train_on
        self.is_refuted = False
        self._filled = 0
        self._endless: EndlessTemplateError | None = None
        self._builder = SkeletonBuilder(tokenizer)
        self._skeletons: OrderedDict[Any, Skeleton | TemplateError] = OrderedDict()
        self._proven: dict[int, Skeleton] = {}  # by identity; the value keeps the identity from being reused

    @property
    def chat_template(self) -> str:
        """Return the template's source, to be saved with the adapter's tokenizer."""
        return self.tokenizer.template.source

    def render(self, conversation: Conversation) -> Rendered:
        """Render a conversation and find its answers; raise TemplateError where that cannot be done exactly."""
        pairs = self.tokenizer.encoder_decoder
        if conversation.text is not None and pairs is None:
            # All of a plain text is trained, and the end token behind it.
            text, eos = conversation.text, self.tokenizer.eos_token
            whole = text if not eos or text.endswith(eos) else text + eos
            return Rendered(whole, (Span(0, 0, len(whole)),), conversation)
        if conversation.text is not None or (pairs is not None and not pairs.has_template):
            return _render_apart(conversation)
        if self._endless is not None:
            raise self._endless
        try:
            return self._render_turns(conversation)
        except EndlessTemplateError as error:
            self._endless = error
            raise

    def _render_turns(self, conversation: Conversation) -> Rendered:
        leaves = leaves_of(conversation)
        skeleton = self._skeleton(conversation)
        filled = None if self.is_refuted else skeleton.fill(leaves)
        if filled is not None and self._differs(filled, conversation, skeleton, leaves):
            filled = None
        text, places = filled if filled else self._matched(conversation, skeleton, leaves)
        if places is None:
            skeleton = self._builder.build(conversation, only_answers=True)
            text, places = self._matched(conversation, skeleton, leaves)
        if places is None:
            raise TemplateError(
                "The chat template rewrites the text of an answer",
                "What it writes is not what the row says, so the loss mask cannot be proven",
                "Change the row, or choose another chat template",
            )
        spans = self._spans(conversation, skeleton, places)
        return Rendered(text, spans, conversation, skeleton, tuple(places), skeleton.warnings)

    def _differs(
        self,
        filled: tuple[str, list[int]],
        conversation: Conversation,
        skeleton: Skeleton,
        leaves: dict[tuple[int, str], str],
    ) -> bool:
        """Compare a sample of the filled rows with what the template writes; where one differs none is filled again.

        `is_refuted` then says that rows before it may be wrong: a build begins anew.
        """
        self._filled += 1
        if self._filled % _COMPARED_EVERY:
            return False
        self.is_refuted = filled != self._matched(conversation, skeleton, leaves)
        return self.is_refuted

    def _matched(
        self, conversation: Conversation, skeleton: Skeleton, leaves: dict[tuple[int, str], str]
    ) -> tuple[str, list[int] | None]:
        messages = skeleton.dialect.messages(conversation)
        text = self.tokenizer.template.render(messages, list(conversation.tools) or None) + skeleton.appended
        return text, skeleton.match(text, leaves)

    def _skeleton(self, conversation: Conversation) -> Skeleton:
        """Return the skeleton of a shape, from the last ones used where possible."""
        shape = shape_of(conversation)
        known = self._skeletons.get(shape)
        if known is None:
            try:
                known = self._checked(conversation, self._builder.build(conversation))
            except TemplateError as refusal:
                known = refusal
            self._skeletons[shape] = known
            if len(self._skeletons) > _MAX_SHAPES:
                self._skeletons.popitem(last=False)
        if isinstance(known, TemplateError):
            raise known
        return known

    def _checked(self, conversation: Conversation, skeleton: Skeleton) -> Skeleton:
        """Return the skeleton; if its first row is filled in otherwise than it is rendered, all rows are rendered."""
        leaves = leaves_of(conversation)
        filled = skeleton.fill(leaves)
        if filled is None or filled == self._matched(conversation, skeleton, leaves):
            return skeleton
        return replace(skeleton, inspections=None)

    def _spans(self, conversation: Conversation, skeleton: Skeleton, places: list[int]) -> tuple[Span, ...]:
        spans = [
            Span(answer.turn, _char(answer.start, places), _char(answer.end, places))
            for answer in skeleton.answers
            if conversation.turns[answer.turn].trained or self.train_on == "all"
        ]
        return tuple(spans[-1:] if self.train_on == "last" else spans)

    def tokenise(self, rendered: list[Rendered]) -> list[Tokens]:
        """Tokenise rendered texts in one batch. Holds no Python lock meanwhile, so other rows can be rendered."""
        tokens: list[Tokens | None] = [None] * len(rendered)
        for i, one in self._tokenised_apart(rendered):
            tokens[i] = one
        for special in (False, True):
            whole = [i for i, one in enumerate(rendered) if one.split is None]
            indices = [i for i in whole if (rendered[i].skeleton is None) is special]
            batch = self.tokenizer.encoder.encode([rendered[i].text for i in indices], special)
            for i, found in zip(indices, batch, strict=True):
                tokens[i] = found
        return [found for found in tokens if found is not None]

    def _tokenised_apart(self, rendered: list[Rendered]) -> Iterator[tuple[int, ApartTokens]]:
        """Yield the tokens of rows whose question and answer are tokenised apart, with the row's index."""
        model = self.tokenizer.encoder_decoder
        found = [(i, one, one.split) for i, one in enumerate(rendered) if one.split is not None]
        if model is None or not found:
            return
        eos = self._eos()
        asked = self.tokenizer.encoder.encode([one.text[:split] for _, one, split in found], special=True)
        written = self.tokenizer.encoder.encode([one.text[split:] for _, one, split in found], special=True)
        for (i, _, split), question, answer in zip(found, asked, written, strict=True):
            yield i, apart(question, answer, split, eos, model)

    def _eos(self) -> int | None:
        found = self.tokenizer.backend.token_to_id(self.tokenizer.eos_token) if self.tokenizer.eos_token else None
        return None if found is None else int(found)

    def mask(self, rendered: Rendered, tokens: Tokens) -> Example:
        """Return the tokens of a rendered text and which are trained; raise TemplateError where that is not exact."""
        if isinstance(tokens, ApartTokens):
            answer = ((tokens.question_count, len(tokens.ids)),) if rendered.spans else ()
            return Example(tokens.ids, answer, rendered, rendered.warnings)
        if self.train_on == "all" or rendered.skeleton is None:
            return self._whole(rendered, tokens)
        warnings = list(rendered.warnings)
        trained = tuple(_token_span(tokens, rendered.text, span, warnings) for span in rendered.spans)
        example = Example(tokens.ids, trained, rendered, tuple(warnings))
        self._prove_once(rendered.skeleton, rendered, example)
        if self.tokenizer.encoder_decoder and trained:
            return Example(*only_answer(tokens.ids, trained), rendered, tuple(warnings))
        return example

    def example(self, conversation: Conversation) -> Example:
        """Render, tokenise and mask one conversation."""
        rendered = self.render(conversation)
        return self.mask(rendered, self.tokenise([rendered])[0])

    def _whole(self, rendered: Rendered, tokens: Tokens) -> Example:
        """Train everything but what the tokenizer itself puts in front."""
        ids = tokens.ids
        eos = self._eos()
        if rendered.skeleton is None and eos is not None and ids[-2:] == [eos, eos]:
            ids = ids[:-1]
        # The first token has nothing before it to be predicted from; in a packed row its label would reach into the
        # document before.
        start = max(1, tokens.own_count())
        return Example(ids, ((start, len(ids)),), rendered, rendered.warnings)

    def _prove_once(self, skeleton: Skeleton, rendered: Rendered, example: Example) -> None:
        """Prove the first row of every shape; the others are held to it by the match of their texts and offsets."""
        if id(skeleton) in self._proven:
            return
        self.prove(rendered, example)
        if len(self._proven) > _MAX_SHAPES:
            self._proven.clear()
        self._proven[id(skeleton)] = skeleton

    def prove(self, rendered: Rendered, example: Example) -> None:
        """Decode the trained tokens and compare them with the answers, end-of-turn mark included."""
        for span, (start, end) in zip(rendered.spans, example.trained, strict=True):
            wanted = rendered.text[span.start : span.end]
            got = self.tokenizer.decode(example.input_ids[start:end])
            if _same(got, wanted) or not self._is_lossless(rendered.text, example.input_ids):
                continue
            raise TemplateError(
                f"The trained tokens of turn {span.turn + 1} do not decode to its answer",
                f"They decode to {got[:60]!r}, the answer is {wanted[:60]!r}",
                "Choose another chat template",
            )

    def _is_lossless(self, text: str, ids: list[int]) -> bool:
        """Say whether this tokenizer gives texts back as they were; some lower-case or drop spaces."""
        return _same(self.tokenizer.decode(ids), text)


def _render_apart(conversation: Conversation) -> Rendered:
    """Return question and answer one after the other. Raises TemplateError where there are not just these two."""
    if conversation.text is not None or not conversation.answers():
        raise TemplateError(
            "The row has no question",
            "An encoder reads a question, and a decoder beside it writes the answer: plain text is neither",
            "Give rows with a prompt and a completion",
        )
    *before, answer = conversation.turns
    if conversation.tools or any(turn.tool_calls or turn.reasoning for turn in conversation.turns):
        raise TemplateError("The row has tools or thinking", "the model has no chat template to write them", "")
    question = input_text([(turn.role, turn.content) for turn in before])
    spans = (Span(len(before), len(question), len(question) + len(answer.content)),) if answer.trained else ()
    return Rendered(question + answer.content, spans, conversation, split=len(question))


def _char(place: Place, places: list[int]) -> int:
    """Return the character of a place in a matched text."""
    return (places[2 * place.piece - 1] if place.piece else 0) + place.offset


def _token_span(tokens: Tokens, text: str, span: Span, warnings: list[str]) -> tuple[int, int]:
    """Return the tokens of a span of characters, first and behind last; refuse tokens that train the template."""
    cover = tokens.cover(span.start, span.end)
    if cover is None:
        raise TemplateError(
            f"The tokenizer gives no token for the answer of turn {span.turn + 1}", "", "Check the row's characters"
        )
    before, after = cover.before, cover.after
    if before.strip() or after.strip():
        raise TemplateError(
            f"A token at the border of turn {span.turn + 1} joins the answer with the template's own text",
            f"It covers {before + text[span.start]!r}" if before else f"It covers {text[span.end - 1] + after!r}",
            "Put a line break or a special token between them in the chat template",
        )
    if "\n" in before and not text[span.start].isspace():
        warnings.append(f"The first token of turn {span.turn + 1} also holds the template's {before!r}")
    return max(cover.first, 1), cover.last + 1


def _same(got: str, wanted: str) -> bool:
    """Compare texts but for outer white space and for Unicode composition, which tokenizers may change."""
    if got == wanted or got.strip() == wanted.strip():
        return True
    return unicodedata.normalize("NFKC", got).split() == unicodedata.normalize("NFKC", wanted).split()
