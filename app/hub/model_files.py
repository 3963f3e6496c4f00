"""A model of the hub, fetched as a job into the hub library's own cache, where every tool of this machine finds it.

Only the files that are loaded come: weights as safetensors, configuration, tokenizer, and the card with the licence;
never a form that could run code. Of a stopped or killed fetch the files that came whole stay, and the next one fetches
the others; the hub's library (2.4) begins a file that was broken off anew and leaves its part lying, which is removed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from app.errors import ModelError, NetworkError, keyed
from app.files import folder_bytes
from app.hub import address, transfer
from app.jobs.child import JobChild, Outcome
from app.reading import parsed_json

KIND = "fetch"
_TIMEOUT_S = 10.0
# Weights as transformers names them; a repository may hold the same numbers in its maker's own form as well.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_BESIDE = re.compile(
    r"(.*config|tokenizer.*|special_tokens_map|vocab.*|.*index|added_tokens)\.json|merges\.txt|vocab\.txt"
)
_ALSO = ("README.md", ".jinja", ".model", ".tiktoken")
# A part that nobody has written to for so long is nobody's download any more.
_ABANDONED_S = 120.0
_INDEX = "model.safetensors.index.json"


def work(child: JobChild) -> tuple[Outcome, Mapping[str, object]]:
    """Fetch a model's files; the progress is in bytes, and a stop is seen within a second."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    hub_id = str(child.config["model"])
    address.pin(address.of_config(child.config) or address.current())
    child.progress(0, 0, phase="listing")
    listed = _listing(hub_id)
    files = chosen(hub_id, listed.files)
    total_bytes = sum(size for _, size in files)
    cache = Path(constants.HF_HUB_CACHE)
    blobs = cache / repo_folder_name(repo_id=hub_id, repo_type="model") / "blobs"
    for part in _parts(blobs, older_than_s=_ABANDONED_S):
        part.unlink(missing_ok=True)
    foreign, here_bytes = set(_parts(blobs)), folder_bytes(blobs, follow_links=False)
    missing_bytes = max(0, total_bytes - here_bytes)
    remedy = keyed("free_some_room_or_set_hf_home_to_a", "free some room, or set HF_HOME to a folder of another disk")
    transfer.expect_room(hub_id, missing_bytes, cache, remedy)

    came: list[str] = []

    def look() -> None:
        child.progress(min(folder_bytes(blobs, follow_links=False), total_bytes), total_bytes, phase="downloading")

    def download() -> None:
        patterns = [path for path, _ in files]
        came.append(transfer.asked(hub_id, "model", lambda: snapshot_download(hub_id, allow_patterns=patterns)))

    look()
    if not transfer.ended(download, child, look):
        for part in set(_parts(blobs)) - foreign:
            with suppress(OSError):  # Windows keeps a file that is still written to
                part.unlink()
        return "stopped", {}
    if not is_complete(Path(came[0])):
        raise NetworkError(f"{hub_id} did not arrive whole", "a file of its weights is missing", "fetch it again")
    child.progress(total_bytes, total_bytes, phase="downloading")
    facts = {"folder": came[0], "bytes": total_bytes, "fetched_bytes": missing_bytes, "licence": listed.licence}
    return "finished", {**facts, "revision": listed.revision}


def chosen(hub_id: str, files: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the (path, bytes) of the files that are loaded. Raises ModelError where there are no weights to load."""
    weights = [one for one in files if _WEIGHTS.fullmatch(one[0])]
    if not weights:
        others = sorted(
            {Path(path).suffix for path, _ in files if Path(path).suffix in (".bin", ".gguf", ".pth", ".pt")}
        )
        why = f"its weights are {' and '.join(others)} files" if others else "it holds no weights"
        raise ModelError(
            f"{hub_id} has no weights that are loaded here",
            f"{why}; only safetensors are read, which cannot run code",
            "choose a repository with safetensors",
        )
    split = [one for one in weights if "-of-" in one[0]]
    return sorted([*(split or weights), *(one for one in files if _is_beside(one[0]))])


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds a configuration and all of its weights."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / _INDEX
    if not index.is_file():
        return any(_WEIGHTS.fullmatch(path.name) for path in folder.glob("*.safetensors"))
    try:
        places = parsed_json(index.read_bytes())["weight_map"].values()
        return all((folder / str(name)).is_file() for name in set(places))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _listing(hub_id: str) -> transfer.Listing:
    from huggingface_hub import HfApi

    info = transfer.asked(hub_id, "model", lambda: HfApi().model_info(hub_id, files_metadata=True, timeout=_TIMEOUT_S))
    return transfer.listing_of(info)


def _is_beside(path: str) -> bool:
    return "/" not in path and bool(_BESIDE.fullmatch(path) or path.endswith(_ALSO))


def _parts(blobs: Path, older_than_s: float = 0.0) -> list[Path]:
    """Return the files in part of a repository's blobs, those that were not written to for so many seconds."""
    return [part for part in blobs.glob("*.incomplete") if time.time() - part.stat().st_mtime >= older_than_s]


def hub_folder(hub_id: str) -> Path:
    """Return the folder of a model in the hub's cache, whether or not it is there."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"


def cached(kind: Literal["models", "datasets"]) -> Iterator[tuple[str, Path]]:
    """Yield the models, or the datasets, of the hub's cache by name, with the folder of each."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob(f"{kind}--*")):
        yield folder.name.removeprefix(f"{kind}--").replace("--", "/"), folder
