"""What the planner says, as text in English that remembers its key and values, so that a page can say it otherwise.

A phrase is an ordinary string: the command line prints it and JSON holds it. The page looks the key up in its language
and fills in the values; a value may be a phrase itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ENGLISH = {
    "planner.seq_len": "sequence length {value:,}",
    "planner.rank": "rank {value}",
    "planner.micro_batch": "micro-batch {value}",
    "planner.gradient_accumulation": "gradient accumulation {value}",
    "planner.optimizer": "optimiser {value}",
    "planner.columns": "{value} columns",
    "planner.one_column": "one column",
    "planner.adapter_dtype": "adapter in {value}",
    "planner.dtype": "computing in {value}",
    "planner.attn": "{value} attention",
    "planner.checkpointing": "recomputing all layers",
    "planner.dora": "plain LoRA instead of DoRA",
    "planner.model": "the smaller model {value}",
    "planner.method": "{value} instead of {before}",
    "planner.method.qlora": "QLoRA",
    "planner.method.lora": "LoRA",
    "planner.method.full": "full fine-tuning",
    "planner.quant.nf4": "a 4-bit base",
    "planner.quant.nf4-dq": "a 4-bit base with double quantisation",
    "planner.quant.int8": "an 8-bit base",
    "planner.quant.none": "an unquantised base",
    "planner.nothing.weights": "No setting makes it fit: the weights alone take {size:.1f} GB at the leanest",
    "planner.nothing.peak": "No setting makes it fit: it takes {size:.1f} GB at the leanest",
    "planner.corrected": "Corrected by the last {count} measurements on this machine: {error:+.1f} % on average",
    "planner.corrected.one": "Corrected by the last measurement on this machine: {error:+.1f} % on average",
    "planner.corrected_process": (
        "Corrected by the last {count} measurements of the process's memory on this machine: {error:+.1f} % on average"
    ),
    "planner.corrected_process.one": (
        "Corrected by the last measurement of the process's memory on this machine: {error:+.1f} % on average"
    ),
    "planner.note.uncounted": "{model}: only its language model is loaded and counted, without what {field} describes",
    "planner.note.vision": (
        "{model}: its vision part ({parameters:,} parameters) is not loaded; a run trains on text alone"
    ),
    "planner.note.simulated": "{model}: measured by simulation of its own class, {seconds} s",
    "planner.note.nearly_simulated": "Simulated for another batch or other row lengths; plan these settings for more",
    "planner.note.own_linear": (
        "{model}: its own linear class is not quantised by bitsandbytes; the weights stay 16-bit"
    ),
    "planner.note.experts": "{model}: routed experts are no linear modules and stay 16-bit",
    "planner.note.mixture": "Mixture-of-experts activations assume tokens spread evenly over the experts; unmeasured",
    "planner.note.eager_only": (
        "{model} has eager attention only: it holds full score matrices whatever kernel is chosen"
    ),
    "planner.note.eager": "Eager attention grows with the square of the length; sdpa needs far less",
    "planner.note.paged": "Paged optimiser states may leave the GPU between steps; they are counted as on it",
    "planner.note.kind": "Planned as for a card of NVIDIA; memory and training on this GPU ({kind}) are not measured",
    "planner.note.no_kernel": (
        "bitsandbytes has no kernel for quantised weights on this GPU ({kind}): PyTorch computes them, more slowly"
    ),
    "planner.note.no_optimizer": (
        "bitsandbytes has no {name} for this GPU ({kind}), and a run with it is refused: choose adamw_torch_fused"
    ),
    "planner.note.int8": "int8 estimates are unmeasured",
    "planner.note.positions": "{model} was made for at most {tokens:,} tokens",
    "planner.note.unpacked.leak": (
        "Rows are not packed but grouped by length: in this model the rows of a packed row would see each other"
    ),
    "planner.note.unpacked.refused": (
        "Rows are not packed but grouped by length: this model refuses packed rows ({words})"
    ),
    "planner.note.unpacked.untested": (
        "Rows are not packed but grouped by length: that packed rows stay apart could not be shown here ({words})"
    ),
    "planner.note.unpacked.pairs": (
        "Rows are not packed but grouped by length: the encoder of this model reads one prompt at a time"
    ),
    "planner.note.unpacked.open": (
        "Rows are packed only if they stay apart in this model; that is tested once, before the first run"
    ),
    "planner.note.packed": "Packed rows pass a full mask of length squared; shorter rows or flash attention avoid it",
    "planner.note.dtype.no_bf16": "Computes in fp32: this processor has no instructions for bf16",
    "planner.note.dtype.slow_bf16": (
        "This processor has no instructions for bf16 and computes it many times slower than fp32: choose auto or fp32 "
        "as compute dtype"
    ),
    "planner.note.dtype.open": (
        "Computes in bf16, for which this processor has instructions, if a measured second before the first step says "
        "that it pays"
    ),
    "planner.note.dtype.bf16": "Computes in bf16: measured here, it is {gain:.1f} times as fast as fp32",
    "planner.note.dtype.fp32": "Computes in fp32: measured here, bf16 is {gain:.1f} times as fast and does not pay",
    "planner.spend.bought": (
        "Spends {size:.1f} of {free:.1f} GB free memory on speed: {mode}, {layers} of {of} layers keep their weights "
        "in {dtype} too"
    ),
    "planner.spend.no_layers": "Spends {size:.1f} of {free:.1f} GB free memory on speed: {mode}",
    "planner.spend.nothing": "Spends no memory on speed: nothing more fits safely into {free:.1f} GB free",
    "planner.spend.unmeasured": (
        "Spends none of {free:.1f} GB free memory on speed: "
        "what less recomputation takes was not measured for this model"
    ),
    "planner.spend.mode.full": "every layer is recomputed",
    "planner.spend.mode.none": "no layer is recomputed",
    "planner.spend.mode.every": "one layer in {count} is recomputed",
    "planner.comma": ", ",
    "planner.and": " and ",
    "planner.stop": ".",
}
"""Every phrase in English, with the fields of its values."""


class Phrase(str):
    """One phrase in English; `key` and `values` say it in another language."""

    key: str
    values: dict[str, object]

    def __new__(cls, key: str, **values: Any) -> Phrase:
        """Return the phrase with its values filled in; with `count=1` its `.one` form, where it has one."""
        form = f"{key}.one" if values.get("count") == 1 else key
        phrase = super().__new__(cls, ENGLISH.get(form, ENGLISH[key]).format(**values))
        phrase.key, phrase.values = key, values
        return phrase


class Sentence(str):
    """Phrases listed as a sentence begins: 'A, b and c'."""

    phrases: tuple[Phrase, ...]

    def __new__(cls, phrases: Iterable[Phrase]) -> Sentence:
        """Join the phrases in English."""
        said = tuple(phrases)
        sentence = super().__new__(cls, listed(said, ENGLISH["planner.comma"], ENGLISH["planner.and"]))
        sentence.phrases = said
        return sentence


def listed(said: Iterable[str], comma: str, last: str) -> str:
    """Return texts as a list with a capital letter first: 'A, b and c'."""
    *before, end = tuple(said) or ("",)
    joined = f"{comma.join(before)}{last}{end}" if before else end
    return joined[:1].upper() + joined[1:]
