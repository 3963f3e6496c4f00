"""Measure LLaMA-Factory's preparation of rows, in an environment of its own.

    PEER_PYTHON llama_factory_peer.py ROWS.jsonl TOKENIZER_DIR PROCESSES REPEAT

`PEER_PYTHON` belongs to an environment with `llamafactory` (0.9.5 was used); this file imports nothing of the
workbench. Prints the seconds of every repeat, those of loading the rows before, and how many tokens the prepared rows
hold, as JSON on the last line.

What is measured is `_get_preprocessed_dataset` with its template `qwen3`, a cutoff of 1024 tokens and neat packing:
template, tokens, labels and packing. Loading the rows and bringing them into its own columns is timed apart.
LLaMA-Factory imports `torchaudio` even for text; where its build does not fit the torch at hand, leave it and
`torchvision` out of the environment, and an empty module takes its place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_LENGTH = 1024
LOADING_S: list[float] = []
_DATASET = {
    "rows": {
        "file_name": "rows.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
}


def stand_in_for_audio() -> None:
    """Let LLaMA-Factory import `torchaudio` where there is none; rows of text never use it."""
    if find_spec("torchaudio") is None:
        empty = ModuleType("torchaudio")
        empty.__spec__ = ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = empty


def prepare(rows: Path, tokenizer_folder: str, processes: int, folder: Path) -> tuple[Any, ...]:
    """Return the loaded rows and all that the preparation is given."""
    from llamafactory.data.loader import _get_merged_dataset  # type: ignore[import-not-found]
    from llamafactory.data.template import get_template_and_fix_tokenizer  # type: ignore[import-not-found]
    from llamafactory.hparams import DataArguments, ModelArguments  # type: ignore[import-not-found]
    from transformers import AutoTokenizer, TrainingArguments

    (folder / "rows.jsonl").symlink_to(rows)
    (folder / "dataset_info.json").write_text(json.dumps(_DATASET), "utf-8")
    data = DataArguments(
        dataset="rows",
        dataset_dir=str(folder),
        template="qwen3",
        cutoff_len=MAX_LENGTH + 1,  # packing takes one token off
        neat_packing=True,
        overwrite_cache=True,
        preprocessing_num_workers=processes if processes > 1 else None,
    )
    training = TrainingArguments(output_dir=str(folder / "out"), use_cpu=True, report_to="none")
    training.predict_with_generate = False
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    template = get_template_and_fix_tokenizer(tokenizer, data)
    model = ModelArguments(model_name_or_path=tokenizer_folder, cache_dir=str(folder / "cache"))
    started = time.perf_counter()
    loaded = _get_merged_dataset(data.dataset, model, data, training, "sft")
    LOADING_S.append(time.perf_counter() - started)
    return loaded, data, training, "sft", template, tokenizer


def main() -> None:
    """Prepare the rows several times and print the seconds."""
    stand_in_for_audio()
    from llamafactory.data.loader import _get_preprocessed_dataset  # type: ignore[import-not-found]

    rows, tokenizer_folder, processes, repeat = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        given = prepare(rows.absolute(), tokenizer_folder, processes, Path(name))
        for _ in range(repeat):
            started = time.perf_counter()
            prepared = _get_preprocessed_dataset(*given)
            seconds.append(time.perf_counter() - started)
        # Packed rows are filled up with padding that attention_mask marks with 0.
        tokens = sum(sum(mark > 0 for mark in marks) for marks in prepared["attention_mask"])
    print(
        json.dumps({"seconds": seconds, "loading_seconds": LOADING_S, "tokens": tokens, "packed_rows": len(prepared)})
    )


if __name__ == "__main__":
    main()
