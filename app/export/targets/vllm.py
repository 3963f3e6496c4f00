"""Hand an adapter over to a vLLM server: a clean copy, and the command that serves it beside its base.

The tensors are copied, not read. What vLLM refuses is refused here, with the reason
(its LoRA support: https://docs.vllm.ai/en/latest/features/lora.html).
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from app.errors import ExportError
from app.export.adapter_kinds import refuse_for_vllm
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from app.models.adapters import AdapterFolder
from app.workspace import file_sha256, safe_name

# The ranks that vLLM's --max-lora-rank takes.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_TEMPLATE = "chat_template.jinja"
_PROMPTS = ("Who are you?", "What is the capital of France?", "Write one sentence about the sea.")
_SENDER = """\
#!/bin/sh
# Send every request of requests.jsonl to a server: sh requests.sh [http://127.0.0.1:8000]
while IFS= read -r request; do
  printf '%s' "$request" | curl --silent --fail-with-body --header 'Content-Type: application/json' \\
    --data-binary @- "${1:-http://127.0.0.1:8000}/v1/chat/completions" || exit 1
  echo
done < "$(dirname "$0")/requests.jsonl"
"""


@dataclass(frozen=True)
class HandedOver:
    """The command that serves an adapter, and the rank that it asks vLLM for."""

    command: str
    max_lora_rank: int


def hand_over(adapter: AdapterFolder, base: str, folder: Path, name: str = "adapter") -> HandedOver:
    """Write the adapter, the command and test requests into `folder`.

    `base` is what vLLM shall load: a hub id, or a folder on the server. The command names it; in the files a folder is
    called by its last name only. Raises ExportError.
    """
    refuse_for_vllm(adapter)
    name, rank = safe_name(name), _rank(adapter.rank)
    (folder / name).mkdir(parents=True)
    # A folder of this machine in the files would tell about it and lead the server nowhere.
    shown = Path(base).name if Path(base).is_absolute() else base
    scrubbed = {**adapter.config, "base_model_name_or_path": shown}
    (folder / name / CONFIG_FILE).write_text(json.dumps(scrubbed, indent=2, sort_keys=True), encoding="utf-8")
    shutil.copyfile(adapter.weights_file, folder / name / WEIGHTS_FILE)
    if file_sha256(folder / name / WEIGHTS_FILE) != file_sha256(adapter.weights_file):
        raise ExportError("The adapter was changed while it was copied", "", "export it again")
    options = ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{name}={name}"]
    if (adapter.path / _TEMPLATE).is_file():
        shutil.copyfile(adapter.path / _TEMPLATE, folder / _TEMPLATE)
        options += ["--chat-template", _TEMPLATE]
    (folder / "requests.jsonl").write_text(_requests(name), encoding="utf-8")
    (folder / "requests.sh").write_text(_SENDER, encoding="utf-8")
    (folder / "README.md").write_text(_readme(name, base, shown, options), encoding="utf-8")
    return HandedOver(shlex.join(["vllm", "serve", base, *options]), rank)


def _requests(name: str) -> str:
    """Return requests of OpenAI's chat protocol, one a line, to the adapter."""
    bodies = (
        {"model": name, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64, "temperature": 0}
        for prompt in _PROMPTS
    )
    return "".join(json.dumps(body) + "\n" for body in bodies)


def _rank(rank: int) -> int:
    """Return the smallest of vLLM's ranks that holds the adapter's."""
    fitting = [allowed for allowed in _RANKS if allowed >= rank]
    if not fitting:
        raise ExportError(
            f"vLLM cannot serve rank {rank}", f"its highest is {_RANKS[-1]}", "merge the adapter and serve the model"
        )
    return fitting[0]


def _readme(name: str, base: str, shown: str, options: list[str]) -> str:
    place = "" if shown == base else f"`{shown}` stands for the folder of the base model on that machine.\n\n"
    return (
        f"# {name}, for vLLM\n\nRun this in this folder, where vLLM is installed:\n\n"
        f"    {shlex.join(['vllm', 'serve', shown, *options])}\n\n{place}"
        "While it runs, `sh requests.sh` sends the test requests of requests.jsonl to it.\n\n"
        f"Ask for the model `{name}`, or for the base by its own name. vLLM loads the 16-bit base; the adapter may\n"
        "have been trained on a 4-bit one, whose answers differ a little.\n"
    )
