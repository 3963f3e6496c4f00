"""How likely each column finds the trained tokens of a passage, all columns in one pass.

A batch holds passages x sources rows: the same tokens for every source, each row with its own adapter. Rows are padded
on the left, so that the trained tokens, which stand at the end, need few logits: of a row of length L whose first
trained token is at t, the logits from t - 1 on. Long batches are computed part by part on a cache of keys and values,
so that logits never take more than a bounded room whatever vocabulary and length are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from app.engine.batching.adapter_stack import Mix
from app.engine.variants import BASE, VariantSet
from app.evaluation.answers import Source
from app.evaluation.held_out.cases import Passage

# Tokens of one pass, all rows together, and bytes of its logits in float32.
_PASS_TOKENS = 8192
_LOGIT_BYTES = 256 << 20


@dataclass
class Likelihood:
    """Sums over the trained tokens of a passage: log-probabilities and divergences KL(base || source), in nats."""

    logprob: float = 0.0
    divergence: float = 0.0
    tokens: int = 0

    @property
    def loss(self) -> float:
        """Return the mean loss a token."""
        return -self.logprob / self.tokens if self.tokens else 0.0


def likelihoods(
    columns: VariantSet,
    passages: Sequence[Passage],
    sources: Sequence[Source],
    *,
    divergence: bool = False,
    measured: Callable[[int], bool] = lambda count: True,
) -> list[list[Likelihood]] | None:
    """Return the likelihoods of every passage under each source; None when `measured`, told the count, says to stop.

    For divergences the base is computed along, whether or not it is among the sources.
    """
    found = [[Likelihood() for _ in sources] for _ in passages]
    order = sorted(range(len(passages)), key=lambda place: len(passages[place].ids))
    groups = list(_groups(columns, sources))
    done = 0
    for batch in _batches(columns, passages, order, max(map(len, groups)) + 1):
        chosen = [passages[place] for place in batch]
        for group in groups:
            asked = [sources[place] for place in group]
            for row, sums in zip(batch, _batch(columns, chosen, asked, divergence), strict=True):
                for place, one in zip(group, sums, strict=True):
                    found[row][place] = one
        done += len(batch)
        if not measured(done):
            return None
    return found


def _groups(columns: VariantSet, sources: Sequence[Source]) -> Iterator[list[int]]:
    """Yield the places of sources that share a batch, then each one that runs beside it."""
    beside = [isinstance(one, str) and not columns.columns[one].shared for one in sources]
    if not all(beside):
        yield [place for place, alone in enumerate(beside) if not alone]
    yield from ([place] for place, alone in enumerate(beside) if alone)


def _batches(columns: VariantSet, passages: Sequence[Passage], order: Sequence[int], width: int) -> Iterator[list[int]]:
    """Cut passages, in ascending length, into batches of a bounded number of tokens."""
    batch: list[int] = []
    for place in order:
        full = (len(batch) + 1) * width * len(passages[place].ids) > _PASS_TOKENS
        if batch and (full or columns.keeps_state):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _batch(
    columns: VariantSet, passages: Sequence[Passage], sources: Sequence[Source], divergence: bool
) -> list[list[Likelihood]]:
    """Return the likelihoods of one batch: by passage, then by source."""
    sums = [[Likelihood() for _ in sources] for _ in passages]
    base_beside = divergence and BASE not in sources
    beside = isinstance(sources[0], str) and not columns.columns[sources[0]].shared
    # A model of its own shares no batch with the base, which then is computed in a batch before it.
    rows = list(sources) if beside or not base_beside else [BASE, *sources]
    first = len(rows) - len(sources)
    parts = _logits(columns, passages, rows)
    base_parts = _logits(columns, passages, [BASE]) if beside and base_beside else None
    for part in parts:
        logprobs = part.logits.float().log_softmax(-1)
        if base_parts is not None:
            base = next(base_parts).logits.float().log_softmax(-1)
        else:
            base = logprobs[:, rows.index(BASE)][:, None] if divergence else logprobs[:, :0]
        for place, passage in enumerate(passages):
            steps, targets = part.of(place, passage)
            if not steps:
                continue
            here = logprobs[place][:, steps]
            said = here.gather(-1, torch.tensor(targets, device=here.device).expand(len(rows), -1)[..., None]).sum(
                (1, 2)
            )
            told = said.tolist()
            apart = [0.0] * len(rows)
            if divergence:
                own = base[place][:, steps]
                apart = (own.exp() * (own - here)).sum((1, 2)).tolist()
            for number, one in enumerate(sums[place]):
                one.logprob += told[first + number]
                one.divergence += max(0.0, apart[first + number])
                one.tokens += len(steps)
    return sums


@dataclass(frozen=True)
class _Part:
    """Logits (passages, sources, positions, vocabulary) from the position `start` of the padded rows on."""

    logits: torch.Tensor
    start: int
    pads: Sequence[int]

    def of(self, place: int, passage: Passage) -> tuple[list[int], list[int]]:
        """Return which positions of this part predict trained tokens of a passage, and these tokens."""
        pad, end = self.pads[place], self.start + self.logits.shape[2]
        steps, targets = [], []
        for low, high in passage.trained:
            for token in range(max(1, low), high):
                at = pad + token - 1
                if self.start <= at < end:
                    steps.append(at - self.start)
                    targets.append(passage.ids[token])
        return steps, targets


def _logits(columns: VariantSet, passages: Sequence[Passage], rows: Sequence[Source]) -> Iterator[_Part]:
    """Yield the logits that predict trained tokens, part by part from left to right."""
    length, width = max(len(one.ids) for one in passages), len(rows)
    pads = [length - len(one.ids) for one in passages]
    first = min(pad + max(0, one.trained[0][0] - 1) for pad, one in zip(pads, passages, strict=True))
    if columns.keeps_state:
        yield _one_by_one(columns, passages[0], rows, first)
        return
    ids = torch.zeros(len(passages), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, passage in enumerate(passages):
        ids[place, pads[place] :] = torch.tensor(passage.ids)
        mask[place, pads[place] :] = 1
    ids, mask = (one.repeat_interleave(width, 0).to(columns.device) for one in (ids, mask))
    positions = (mask.cumsum(1) - 1).clamp_(min=0)
    sources: list[str | Mix] = list(rows) * len(passages)
    vocabulary = int(columns.model.config.get_text_config(decoder=True).vocab_size)
    cuts = _cuts(length, first, len(sources), vocabulary)
    cache = columns.fresh_cache(len(sources)) if len(cuts) > 1 else None
    for start, stop in cuts:
        last = stop - max(start, min(first, stop - 1))
        logits = columns.sequence_logits(
            sources, ids[:, start:stop], mask[:, :stop], positions[:, start:stop], cache, last
        )
        if stop > first:
            yield _Part(logits.view(len(passages), width, last, -1), stop - last, pads)


def _cuts(length: int, first: int, rows: int, vocabulary: int) -> list[tuple[int, int]]:
    """Return from where to where each part reaches: one where all fits, else as much as its room holds."""
    fitting = max(1, _LOGIT_BYTES // (rows * vocabulary * 4))
    if rows * length <= _PASS_TOKENS and length - first <= fitting:
        return [(0, length)]
    before, behind = max(1, _PASS_TOKENS // rows), max(1, min(fitting, _PASS_TOKENS // rows))
    cuts = [(start, min(start + before, first)) for start in range(0, first, before)]
    return cuts + [(start, min(start + behind, length)) for start in range(first, length, behind)]


def _one_by_one(columns: VariantSet, passage: Passage, rows: Sequence[Source], first: int) -> _Part:
    """Return the logits of one passage, source after source: a state that runs along takes no padding."""
    ids = torch.tensor([passage.ids], device=columns.device)
    positions = torch.arange(len(passage.ids), device=columns.device)[None]
    last = len(passage.ids) - first
    found = [columns.sequence_logits([source], ids, torch.ones_like(ids), positions, None, last) for source in rows]
    return _Part(torch.stack(found, 1), first, [0])
