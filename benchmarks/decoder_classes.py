"""Walk transformers' own registry of causal language models: what works with each class, on small random models.

`python -m benchmarks.decoder_classes [--part 1/2] [--only NAME ...] [--seconds N] [--plans] [--page]`

Every class is built in small widths; it is asked whether it can be planned and packed, trained for two steps on NF4
through the worker, stopped and resumed, answers beside PEFT, and is merged. Each class runs in a child of its own with
a limit of time. A line is written per class into benchmarks/results/decoder_classes.jsonl and known ones are not walked
again; --plans asks the planner alone once more for all of them, and --page writes docs/decoders.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from app.catalog.families import FAMILIES
from app.catalog.reader import spec_from_config
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence
from app.engine.batching.text import TextStream
from app.engine.variants import BASE, VariantSet
from app.errors import WorkbenchError, one_line
from app.export.gguf.architecture.families import FAMILIES as GGUF
from app.models.encoder_decoder import has_encoder, is_encoder_decoder
from app.models.loading import load_base, load_tokenizer
from app.models.packed_rows import shown_by
from app.planner import PlanRequest, estimate
from app.training import worker as _training_worker
from app.workspace import open_workspace
from tests.export.merging import merge
from tests.models import encoder_decoders, todays_models
from tests.training.in_process import go, prepare, run, small, stop_at

RESULTS = Path(__file__).parent / "results" / "decoder_classes.jsonl"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "decoders.md"
STAGES = ("build", "plan", "packed", "train", "resume", "answer", "merge", "gguf")
# Seeing bases whose whole class is in no causal registry; a text run loads their language model.
SEEING = ("mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "lfm2_vl", "llava", "smolvlm")
# Encoders with a decoder that read and write text; some of them have a causal class as well, which is not loaded here.
ENCODERS = (
    *("t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "pegasus", "marian", "led", "m2m_100"),
    *("blenderbot", "blenderbot-small", "plbart", "mvp", "bigbird_pegasus", "pegasus_x", "prophetnet", "fsmt"),
    *("nllb-moe", "t5gemma"),
)
_GOOD = ("yes", "simulated")
_LIMIT_S = 150
_WORDS = 160
_TOLERANCE = 1e-4
Found = dict[str, str]
_ = _training_worker  # imported before the first fork


def names() -> list[str]:
    """Return the model types to walk."""
    return list(dict.fromkeys((*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *SEEING, *ENCODERS)))


def unfit(kind: str) -> str:
    """Return why a class of the registry is no text decoder, or nothing."""
    config = AutoConfig.for_model(kind)
    if kind in ENCODERS:
        return ""
    if config.is_encoder_decoder or kind in ("musicgen", "musicgen_melody", "moshi", "trocr", "whisper"):
        return "an encoder-decoder or speech model"
    encodes = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return "an encoder: it attends both ways" if encodes else ""


def walk(kind: str, folder: Path) -> Found:
    """Return for each stage "yes", or why not. A stage that needs one before it is left out where that failed."""
    found: Found = {}
    try:
        why = unfit(kind)
        if why:
            return {"build": why}
        config = AutoConfig.for_model(kind) if kind in ENCODERS else todays_models.config(kind)
        base = (encoder_decoders if kind in ENCODERS else todays_models).save(folder / "base", kind)
    except Exception as error:  # broad on purpose: any class may raise anything, and the table says what
        return {"build": _words(error)}
    found["build"] = "yes"
    stages: dict[str, Callable[[], str]] = {
        "plan": lambda: planned(base),
        "packed": lambda: packed(config),
        "gguf": lambda: "yes" if config.model_type in GGUF else "no family of the writer",
    }
    for name, stage in stages.items():
        found[name] = _tried(stage)
    adapters: list[Path] = []
    found["train"] = _tried(lambda: trained(base, folder, adapters))
    if adapters:
        found["resume"] = _tried(lambda: resumed(base, folder, adapters[0]))
        found["answer"] = _tried(lambda: answered(base, adapters[0]))
        found["merge"] = _tried(lambda: merged(base, adapters[0], folder / "merged"))
    return found


def planned(base: Path) -> str:
    """Plan the small model as any folder is planned."""
    spec = spec_from_config(json.loads((base / "config.json").read_text("utf-8")), base.name)
    if spec.family not in FAMILIES:
        return "simulated"
    return "yes" if estimate(PlanRequest(model=spec, seq_len=128)).device_peak > 0 else "no"


def packed(config: PreTrainedConfig) -> str:
    """Ask the probe that every run asks."""
    if config.model_type in ENCODERS:
        return "an encoder reads one prompt at a time"
    text = config.get_text_config(decoder=True)
    shown = shown_by({**text.to_dict(), "model_type": text.model_type}, "sdpa")
    reasons = {"apart": "yes", "leak": f"rows see each other ({shown.difference:.0e})"}
    return reasons.get(shown.outcome, shown.words)


def _settings(base: Path) -> Any:
    return small(
        model__name=str(base),
        data__max_length=400 if is_encoder_decoder(AutoConfig.from_pretrained(base)) else 64,
        data__validation_split=0.0,
        training__max_steps=2,
        training__save_steps=1,
        training__learning_rate=1e-2,
        training__gradient_accumulation_steps=1,
        training__per_device_train_batch_size=2,
        adapter__r=4,
    )


def trained(base: Path, folder: Path, adapters: list[Path]) -> str:
    """Train two steps on NF4 through the worker."""
    job = run(open_workspace(folder.parent / "workspace"), _settings(base))
    if job.status().state != "finished":
        return job.status().reason
    adapter = job.result / "adapter"
    if not any(
        bool(one.any()) for name, one in load_file(adapter / "adapter_model.safetensors").items() if "_B" in name
    ):
        return "nothing was learned"
    adapters.append(adapter)
    return "yes"


def resumed(base: Path, folder: Path, whole: Path) -> str:
    """Stop behind the first step, resume, and compare bit by bit."""
    job = prepare(open_workspace(folder.parent / "workspace"), _settings(base))
    stop_at(job, 1)
    job.stop_file.unlink(missing_ok=True)
    go(job)
    if job.status().state != "finished":
        return job.status().reason
    one, other = (load_file(each / "adapter_model.safetensors") for each in (whole, job.result / "adapter"))
    return "yes" if all(torch.equal(one[name], other[name]) for name in one) else "other bits"


def answered(base: Path, adapter: Path) -> str:
    """Answer two prompts with base and adapter, and compare with PEFT without a cache."""
    columns = VariantSet(load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)))
    columns.add("own", adapter)
    model = PeftModel.from_pretrained(load_base(str(base), quant="none", dtype="fp32"), str(adapter)).eval()
    for column in (BASE, "own"):
        rows = [
            DecodeSequence(
                column, prompt, Sampling(temperature=0, max_tokens=6), TextStream(lambda _: ""), frozenset(), print
            )
            for prompt in ([7, 30, 41, 9, 55, 100, 23], [60, 61, 62])
        ]
        for row in rows:
            object.__setattr__(row, "deliver", lambda event: None)
        batch = DecodeBatch(columns)
        batch.join(rows)
        while batch.rows:
            batch.step()
        for row in rows:
            if row.tokens != _greedy(model, row.prompt, adapted=column == "own"):
                return "other tokens than PEFT"
    return "yes"


def _greedy(model: PeftModel, prompt: list[int], *, adapted: bool) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        if has_encoder(model):
            settings = {"max_new_tokens": 6, "do_sample": False, "num_beams": 1, "eos_token_id": None}
            with nullcontext() if adapted else model.disable_adapter():
                return [int(token) for token in model.generate(input_ids=torch.tensor([ids]), **settings)[0, 1:]]
        for _step in range(6):
            inputs = {"input_ids": torch.tensor([ids]), "use_cache": False}
            if adapted:
                logits = model(**inputs).logits
            else:
                with model.disable_adapter():
                    logits = model(**inputs).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def merged(base: Path, adapter: Path, out: Path) -> str:
    """Merge in float32 and compare logits with PEFT's."""
    folder = merge(adapter, out, base=str(base))
    ids = torch.randint(5, 300, (1, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = load_base(str(folder), quant="none", dtype="fp32")
        inputs = {"input_ids": ids, "use_cache": False} | ({"decoder_input_ids": ids} if has_encoder(whole) else {})
        found = whole(**inputs).logits
        model = PeftModel.from_pretrained(load_base(str(base), quant="none", dtype="fp32"), str(adapter)).eval()
        expected = model(**inputs).logits
    off = float((found - expected).abs().max() / expected.abs().max())
    return "yes" if off < _TOLERANCE else f"logits differ by {off:.0e}"


def _tried(stage: Callable[[], str]) -> str:
    try:
        return stage()
    except Exception as error:  # broad on purpose, as in `walk`
        return _words(error)


def _words(error: BaseException) -> str:
    text = (
        error.line().split(". ")[0]
        if isinstance(error, WorkbenchError)
        else f"{type(error).__name__}: {one_line(error)}"
    )
    return text.replace(tempfile.gettempdir(), "")[:_WORDS]


def in_a_child(kind: str, folder: Path) -> Found:
    """Walk one class in a forked child; one that takes too long or dies is said to have done so."""
    answer = folder.parent / f"{kind}.json"
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        answer.write_text(json.dumps(walk(kind, folder)), "utf-8")
        os._exit(0)
    end = time.monotonic() + _LIMIT_S
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"build": f"took more than {_LIMIT_S} s"}
        time.sleep(0.1)
    return dict(json.loads(answer.read_text("utf-8"))) if answer.is_file() else {"build": "the child died"}


def known() -> dict[str, Found]:
    """Return what was found with these versions of the libraries."""
    lines = RESULTS.read_text("utf-8").splitlines() if RESULTS.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["kind"]: row["found"] for row in rows if row["versions"] == _versions()}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("transformers", "trl", "peft", "torch")}


def plan_again(found: dict[str, Found]) -> None:
    """Ask planner and GGUF's writer once more for every class that could be built, and write all lines anew."""
    with tempfile.TemporaryDirectory(prefix="plans-") as top:
        for kind, row in found.items():
            if row.get("build") == "yes":
                config = AutoConfig.for_model(kind) if kind in ENCODERS else todays_models.config(kind)
                config.save_pretrained(Path(top) / kind)
                row["gguf"] = "yes" if config.model_type in GGUF else "no family of the writer"
                row["plan"] = _tried(lambda folder=Path(top) / kind: planned(folder))  # type: ignore[misc]
    lines = (json.dumps({"kind": kind, "versions": _versions(), "found": row}) for kind, row in found.items())
    RESULTS.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def page(found: dict[str, Found]) -> str:
    """Write docs/decoders.md."""
    walked = {kind: row for kind, row in sorted(found.items()) if row.get("build") == "yes"}
    counts = {stage: sum(row.get(stage) in _GOOD for row in walked.values()) for stage in STAGES}
    libraries = ", ".join(f"{name} {number}" for name, number in _versions().items())
    lines = [
        "# Decoders",
        "",
        "Made by `python -m benchmarks.decoder_classes --page`; do not edit. Every class of transformers' registry of",
        "causal language models, the language models of bases that see, and encoders with a decoder, as small random",
        "models on a processor:",
        f"{libraries}. `train` is two steps on NF4 through the worker, `resume` equal bits after a stop, `answer` the",
        "playground's tokens beside PEFT's, `merge` logits within 1e-4 in float32. `plan` is by",
        "formula (yes) or by a simulation of the class, which is not run here; `packed` whether rows are packed, else",
        "they are grouped by length.",
        "",
        f"{len(found)} of {len(names())} classes walked; {len(walked)} can be built small; "
        + ", ".join(f"{counts[stage]} {stage}" for stage in STAGES[1:])
        + ".",
        "",
        "| model type | " + " | ".join(STAGES[1:]) + " |",
        "|---|" + "---|" * len(STAGES[1:]),
    ]
    notes: list[str] = []
    for kind, row in walked.items():
        cells = []
        for stage in STAGES[1:]:
            said = row.get(stage, "")
            cells.append(said if said in _GOOD else "" if not said else "no")
            if said and said not in _GOOD and stage != "gguf":
                notes.append(f"- `{kind}`, {stage}: {_cell(said)}")
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    rest = [f"- `{kind}`: {_cell(row['build'])}" for kind, row in sorted(found.items()) if row.get("build") != "yes"]
    return "\n".join([*lines, "", "## Why not", "", *notes, "", "## Not walked", "", *rest, ""])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "").replace(">", "").split())


def main(arguments: list[str]) -> int:
    """Walk what is not known yet, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1", help="which share of the classes, for several calls at once")
    parser.add_argument("--only", nargs="*", help="these model types alone, known or not")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no class after this time")
    parser.add_argument("--plans", action="store_true", help="ask the planner alone once more")
    parser.add_argument("--page", action="store_true", help="write docs/decoders.md of what is known")
    options = parser.parse_args(arguments)
    if options.plans:
        warnings.simplefilter("ignore")
        plan_again(known())
        return 0
    if options.page:
        PAGE.write_text(page(known()), "utf-8")
        return 0
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    part, parts = map(int, options.part.split("/"))
    done, begun = known(), time.monotonic()
    todo = options.only or [kind for kind in names()[part - 1 :: parts] if kind not in done]
    with tempfile.TemporaryDirectory(prefix="decoders-") as top:
        for kind in todo:
            if time.monotonic() - begun > options.seconds:
                break
            started = time.monotonic()
            folder = Path(top) / kind
            folder.mkdir(exist_ok=True)
            found = in_a_child(kind, folder)
            line = {
                "kind": kind,
                "versions": _versions(),
                "found": found,
                "seconds": round(time.monotonic() - started, 1),
            }
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(kind, line["seconds"], {stage: said for stage, said in found.items() if said != "yes"}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
