"""Whether the rows of a model may be packed: only where a small model of its kind has shown that they stay apart.

Rows of a packed row are kept apart by positions that begin anew, by where each begins, or not at all: that depends on
the class, on the kinds of its layers and on the attention. So a model of the same configuration in small widths is run
over packed and over separate rows, and what it showed is kept in the workspace. Where it was not shown, rows are
grouped by length instead: batches of rows of about one length need little padding.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from app import catalog
from app.catalog.families import FAMILIES
from app.catalog.modules import SEES_PACKED
from app.catalog.small import small
from app.catalog.spec import ModelSpec
from app.config.schema import RunConfig
from app.errors import ModelError, NetworkError, UsageError
from app.files import replace_file
from app.jobs import supervisor
from app.planner.phrases import Phrase
from app.reading import parsed_json, read_object

Outcome = Literal["apart", "leak", "refused", "untested", "open", "pairs"]
# What decides, besides the configuration, how packed rows are computed; the last three bring kernels of their own.
_VERSIONS = ("torch", "transformers", "trl", "causal_conv1d", "flash_linear_attention", "mamba_ssm")
_WORKER = "app.models.packed_rows"
# Models that were handed to a test in the background by this process, by the file of its answer.
_tests: set[Path] = set()
_tests_lock = threading.Lock()
# What a run is changed to where its rows may not be packed.
SEPARATE_ROWS: Mapping[str, Any] = {"data.packing": False, "training.train_sampling_strategy": "group_by_length"}


@dataclass(frozen=True)
class Packing:
    """What is known of packed rows in one model.

    `leak`: rows see each other, `difference` is by how much (relative to the largest logit). `refused`: the model
    raises, in these `words`. `untested`: the test itself was not possible. `open`: not tested yet. `pairs`: an encoder
    reads each row's prompt, and has no place for two.
    """

    outcome: Outcome
    difference: float = 0.0
    words: str = ""

    @property
    def allowed(self) -> bool:
        """Tell whether rows may be packed."""
        return self.outcome == "apart"

    @property
    def note(self) -> Phrase | None:
        """Say why rows are not packed; nothing where they are."""
        return None if self.allowed else Phrase(f"planner.note.unpacked.{self.outcome}", words=self.words)


def known(spec: ModelSpec, attn: str, workspace: Path) -> Packing:
    """Return what is known without a test: what was kept, else what holds for a family of the catalogue.

    `attn` is a RunConfig's name of an attention.
    """
    return kept(spec.config, attn, workspace) or of_family(spec.family)


def kept(config: Mapping[str, Any], attn: str, workspace: Path) -> Packing | None:
    """Return what a test has shown of a configuration, None where there was none with these versions."""
    if config.get("is_encoder_decoder") is True:
        return Packing("pairs")
    try:
        return Packing(**read_object(_file(config, attn, workspace)))
    except (OSError, ValueError, TypeError):
        return None


def of_family(family: str) -> Packing:
    """Return what holds for a family of the catalogue, by tests/training/test_isolation.py; open for any other."""
    if family not in FAMILIES:
        return Packing("open")
    return Packing("leak") if family in SEES_PACKED else Packing("apart")


def settled(spec: ModelSpec, attn: str, workspace: Path) -> Packing:
    """Return what is known, after a test in a child where nothing is. Takes some 15 s, once for a kind of model."""
    found = known(spec, attn, workspace)
    if found.outcome != "open":
        return found
    child = supervisor.spawn_helper(_WORKER)
    answer, _ = child.communicate(json.dumps({"config": dict(spec.config), "attn": attn}).encode())
    try:
        found = Packing(**parsed_json(answer.decode()))
    except (ValueError, TypeError):
        return Packing("untested", words="the test broke off")
    keep(found, spec.config, attn, workspace)
    return found


def settle_beside(spec: ModelSpec, attn: str, workspace: Path) -> None:
    """Have a model tested in the background where nothing is known of it; a later look finds what was shown."""
    if known(spec, attn, workspace).outcome != "open":
        return
    task = _file(spec.config, attn, workspace)
    with _tests_lock:
        if task in _tests:
            return
        _tests.add(task)
    threading.Thread(target=settled, args=(spec, attn, workspace), name="packing", daemon=True).start()


def keep(found: Packing, config: Mapping[str, Any], attn: str, workspace: Path) -> None:
    """Keep what a test has shown of a configuration."""
    file = _file(config, attn, workspace)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, json.dumps(asdict(found)))


def of_run(config: RunConfig, spec: ModelSpec, workspace: Path) -> Packing | None:
    """Return what is known of a run's packed rows; None where it does not want any."""
    return known(spec, config.model.attn_implementation, workspace) if config.settled().data.packing else None


def note_of_run(config: RunConfig, workspace: Path) -> Phrase | None:
    """Say why a run's rows are not packed; nothing where they are, or where the model cannot be read."""
    try:
        found = of_run(config, catalog.find(config.model.name, config.model.revision), workspace)
    except (ModelError, NetworkError, UsageError):
        return None
    return found.note if found is not None else None


def refuse_unsafe(config: RunConfig, workspace: Path) -> None:
    """Refuse a run that was told on purpose to pack rows which its model does not keep apart. Raises UsageError.

    May take the seconds of a test. A run that packs because its preset does is trained unpacked instead.
    """
    spec = catalog.find(config.model.name, config.model.revision)
    found = settled(spec, config.model.attn_implementation, workspace)
    if not found.allowed:
        raise UsageError("data.packing=true cannot be kept", str(found.note), "leave it out")


def _file(config: Mapping[str, Any], attn: str, workspace: Path) -> Path:
    shape = {name: value for name, value in small(config).items() if not name.startswith("_")}
    told = json.dumps([shape, attn, _versions()], sort_keys=True, default=str)
    return workspace / "packing" / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"


@lru_cache(maxsize=1)
def _versions() -> list[str]:
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
