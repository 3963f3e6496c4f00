"""The model card: made from the run, so that nobody has to remember how an adapter came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.export.targets.run_record import RunRecord

PICTURE = "loss.svg"


@dataclass(frozen=True)
class Card:
    """What a card tells. `base` is the base's public name; `receipt` the merge's, where there was one.

    limits: what the model does not do in this form. sees: the whole model has a vision tower, and another class.
    encodes: an encoder reads the prompt, and a decoder beside it answers.
    """

    name: str
    base: str
    is_adapter: bool
    run: RunRecord | None
    receipt: Mapping[str, Any] | None
    repo: str = ""
    limits: tuple[str, ...] = ()
    sees: bool = False
    encodes: bool = False

    def text(self) -> str:
        """Return the card, with the head that the hub reads."""
        parts = [
            self._head(),
            f"# {self.name}",
            self._opening(),
            *self._run(),
            *self._evaluation(),
            *self._receipt(),
            *self._limits(),
            self._use(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        task = "text2text-generation" if self.encodes else "text-generation"
        lines = ["library_name: " + ("peft" if self.is_adapter else "transformers"), f"pipeline_tag: {task}"]
        if "/" in self.base:
            lines.append(f"base_model: {json.dumps(self.base)}")
            lines.append("base_model_relation: " + ("adapter" if self.is_adapter else "finetune"))
        tags = ["- lora"] if self.is_adapter or self.receipt else []
        return "\n".join(["---", *lines, "tags:", *tags, "- lora-workbench", "---"])

    def _opening(self) -> str:
        """Return what the files are, as far as it is known: a folder may come from another program."""
        if self.is_adapter:
            what = f"A LoRA adapter for `{self.base}`, made"
        elif self.receipt:
            what = f"A merged model: a LoRA adapter added to `{self.base or 'its base model'}`, made"
        elif self.run and self.run.is_full:
            what = f"A model fine-tuned as a whole from `{self.base}`, made"
        else:
            what = "A model, packed"
        return f"{what} with LoRA Workbench."

    def _run(self) -> list[str]:
        run = self.run
        if run is None:
            return []
        facts = [f"SHA-256 of the data file: `{run.data_sha256}`."] if run.data_sha256 else []
        if run.checkpoint is not None:
            facts.append(f"A checkpoint after step {run.checkpoint}, not the end of the run.")
        if run.rows:
            facts.append(f"{run.rows:,} rows.")
        table = ["| setting | value |", "|---|---|", *(f"| {name} | {_value(v)} |" for name, v in run.settings.items())]
        found = ["## Training", " ".join(facts), "\n".join(table)]
        if run.losses:
            first, last = run.losses[0][1], run.losses[-1][1]
            found.append(f"![Loss over the steps]({PICTURE})\n\nLoss {first:.3f} at first, {last:.3f} at the end.")
        if run.versions:
            found.append("Made with " + ", ".join(f"{name} {v}" for name, v in sorted(run.versions.items())) + ".")
        return found

    def _evaluation(self) -> list[str]:
        """Return what evaluations of the adapter found, one table a file of rows, with what the base came to."""
        evaluations = self.run.evaluations if self.run else ()
        found = ["## Evaluation"] if evaluations else []
        for one in evaluations:
            lines = ["| metric | adapter (95 % interval) | base |", "|---|---|---|"]
            for name, value in one.column.metrics.items():
                base = one.base.metrics.get(name) if one.base else None
                before = "" if base is None else f"{base.value:.3g}"
                lines.append(f"| {name} | {value.value:.3g} ({value.low:.3g} to {value.high:.3g}) | {before} |")
            if lost := one.column.forgetting:
                lines.append(f"| KL from the base on general probes | {lost.kl:.3g} | 0 |")
                lines.append(f"| answers lost on general probes | {lost.flipped} of {lost.known} | 0 |")
            seen = f", of which {one.trained:,} are training rows or nearly so" if one.trained else ""
            found += [f"On {one.n:,} rows of `{one.data}`{seen}:", "\n".join(lines)]
        return found

    def _receipt(self) -> list[str]:
        if not self.receipt:
            return []
        lines = [f"Verdict: **{self.receipt.get('verdict')}**. Details in `receipt.json`."]
        measured = self.receipt.get("merged_against_adapter")
        if isinstance(measured, Mapping):
            lines.append(
                f"Against base and adapter: same greedy token {measured['greedy_agreement']:.2%}, "
                f"mean KL {measured['mean_kl']:.2e} nats, largest logit difference {measured['max_logit_diff']:.2e}."
            )
        return ["## Merge receipt", "\n".join(lines)]

    def _limits(self) -> list[str]:
        """Return what the receipt and the export say against the model, for whoever takes it."""
        told = [*self.limits, *map(str, (self.receipt or {}).get("reasons") or [])]
        return ["## Limits", "\n".join(f"- {line}" for line in dict.fromkeys(told))] if told else []

    def _use(self) -> str:
        name = self.repo or "FOLDER"
        kind = "AutoModelForImageTextToText" if self.sees else "AutoModelForCausalLM"
        kind = "AutoModelForSeq2SeqLM" if self.encodes else kind
        lines = [f"from transformers import {kind}, AutoTokenizer"]
        if self.is_adapter:
            lines = [
                "from peft import PeftModel",
                *lines,
                f"base = {kind}.from_pretrained({self.base!r})",
            ]
            lines.append(f"model = PeftModel.from_pretrained(base, {name!r})")
        else:
            lines.append(f"model = {kind}.from_pretrained({name!r})")
        lines.append(f"tokenizer = AutoTokenizer.from_pretrained({name!r})")
        return "## Use\n\n```python\n" + "\n".join(lines) + "\n```"


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
