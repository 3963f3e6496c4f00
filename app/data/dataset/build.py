"""Build the tokenised files that training reads, under a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from app.config.objectives import row_kind
from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.arrow_files import PackedFile, PreferenceFile, RowFile
from app.data.dataset.auditing.audit import Auditor, near_duplicates
from app.data.dataset.gc_pause import seldom_collected
from app.data.dataset.makers import maker_of
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import Outcome
from app.data.dataset.validation import Split, SplitCount
from app.data.formats.detection import FormatCount
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError, DiskError
from app.reading import parsed_json, read_object
from app.workspace import file_sha256

# Raise it whenever the same input would give other tokens, masks or packing than before.
BUILD_VERSION = 8
MANIFEST = "manifest.json"
_HASH = re.compile("[0-9a-f]{32}")
_HASH_BYTES = 4 * 1024 * 1024
Progress = Callable[[int, int], None]
Stop = Callable[[], bool]


class Manifest(TypedDict, total=False):
    """What a built dataset holds and was built with, as its manifest.json says it. Sizes in bytes and tokens."""

    version: int
    hash: str
    file: str
    file_sha256: str
    options: dict[str, object]
    tokenizer: str
    chat_template: str
    chat_template_origin: str
    format: str
    files: dict[str, int]
    files_sha256: dict[str, str]
    rows_read: int
    rows: int
    packed_rows: int
    packing_fill: float
    tokens: int
    trained_tokens: int
    longest: int
    validation_rows: int
    validation_packed_rows: int
    validation_tokens: int
    kept_share: float
    problem_counts: dict[str, int]
    left_out: dict[str, int]
    warnings: list[str]


@dataclass(frozen=True)
class BuiltDataset:
    """A finished folder: `rows.arrow`, `packed.arrow`, their validation twins where there are any, and the manifest."""

    path: Path
    manifest: Manifest

    @property
    def rows(self) -> Path:
        """Return the file of single rows."""
        return self.path / "rows.arrow"

    @property
    def packed(self) -> Path:
        """Return the file of packed rows."""
        return self.path / "packed.arrow"

    @property
    def validation_rows(self) -> Path | None:
        """Return the file of single validation rows, None without validation rows."""
        path = self.path / "validation_rows.arrow"
        return path if path.is_file() else None

    @property
    def validation_packed(self) -> Path | None:
        """Return the file of packed validation rows, None without validation rows."""
        path = self.path / "validation_packed.arrow"
        return path if path.is_file() else None


def build(
    source: Path,
    tokenizer_folder: Path,
    options: DataOptions,
    out_root: Path,
    progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> BuiltDataset | None:
    """Build a file's tokens, or find them built already; None when it was stopped.

    Raises DataError where no row is usable or no token would be trained. `progress` gets rows done and a guess of all.
    """
    renderer = Renderer(load_tokenizer(tokenizer_folder, options.chat_template), options.train_on)
    digest, lines = hash_source(source)
    target = out_root / dataset_hash(digest, renderer, options)
    finished = open_built(target)
    if finished is not None:
        return finished
    work = out_root / f".building-{target.name[:16]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        work.mkdir(parents=True)
        builder = _Builder(renderer, options, work, lines)
        manifest = builder.run(source, progress, should_stop)
        # Once more with every row rendered where the template looks into texts unseen, and with another split where
        # the first one left a side empty or to one question.
        if builder.begins_anew:
            shutil.rmtree(work)
            work.mkdir()
            builder = _Builder(renderer, options, work, lines, builder.settled)
            manifest = builder.run(source, progress, should_stop)
        if manifest is None:
            return None
        manifest.update({"file": source.name, "file_sha256": digest, "hash": target.name})
        (work / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=2, sort_keys=True), "utf-8")
        return _publish(work, target)
    except OSError as error:
        raise DiskError("The tokenised data cannot be written", str(error), "Free some disk space") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, target: Path) -> BuiltDataset:
    """Move a finished folder to its place; a twin that another process finished first is as good."""
    finished = open_built(target)
    if finished is None:
        shutil.rmtree(target, ignore_errors=True)  # a folder without its manifest is no dataset
        work.rename(target)
        finished = open_built(target)
    if finished is None:
        raise DiskError("The tokenised data vanished while it was written", "", "Start again")
    return finished


def open_built(path: Path) -> BuiltDataset | None:
    """Return a finished dataset, None where there is none or its files are not those that were written."""
    try:
        manifest = parsed_json((path / MANIFEST).read_text("utf-8"))
        sizes = {name: (path / name).stat().st_size for name in manifest["files"]}
        if manifest["hash"] != path.name or sizes != manifest["files"]:
            return None
        if {name: file_sha256(path / name) for name in sizes} != manifest["files_sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return BuiltDataset(path, manifest)


def recorded(record: Path, datasets: Path) -> BuiltDataset | None:
    """Return the finished dataset that a run's record names; None where there is no record, or no such dataset.

    Raises DataError for a record that names none: the run must not go on with other rows without a word.
    """
    if not record.is_file():
        return None
    try:
        name = read_object(record)["hash"]
        if not isinstance(name, str) or not _HASH.fullmatch(name):
            raise ValueError("it names no dataset")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{record} cannot be read", str(error), "Start the run anew") from None
    return open_built(datasets / name)


def hash_source(source: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file or of all files of a folder, and how many lines they have."""
    if not source.is_dir() and not source.is_file():  # a device would be read without end
        raise DataError(f"There is no data file at {source.name}", "", "Check the name, or upload the file again")
    inside = (path for path in source.rglob("*") if path.is_file() and not path.is_symlink())  # as sources reads it
    files = sorted(inside) if source.is_dir() else [source]
    digest, lines = hashlib.sha256(), 0
    try:
        for path in files:
            digest.update(os.fsencode(path.relative_to(source).as_posix()) + b"\0" if source.is_dir() else b"")
            with path.open("rb") as file:
                while chunk := file.read(_HASH_BYTES):
                    digest.update(chunk)
                    lines += chunk.count(b"\n")
    except OSError as error:
        raise DataError(f"{source.name} cannot be read", str(error), "Check the file and its permissions") from error
    suffix = "" if source.is_dir() else source.suffix.lower()  # it decides which reader reads the bytes
    digest.update(suffix.encode())
    return digest.hexdigest(), lines


def dataset_hash(source_digest: str, renderer: Renderer, options: DataOptions) -> str:
    """Return the name of the folder: a hash of the file, the tokenizer with its template, and the options."""
    parts = [str(BUILD_VERSION), source_digest, renderer.tokenizer.digest, options.as_json()]
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:32]


class _Builder:
    """Write one dataset folder."""

    def __init__(
        self, renderer: Renderer, options: DataOptions, folder: Path, lines: int, split: Split | None = None
    ) -> None:
        self.begins_anew = False
        self._is_second = split is not None
        self.settled = split or Split.of(options)
        self._split = SplitCount(self.settled, options.validation_split)
        self._renderer = renderer
        self._options = options
        self._folder = folder
        self._lines = lines
        self._auditor = Auditor(options, renderer.tokenizer.added_tokens)
        self._problems: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._weighted = 0
        self._formats = FormatCount()
        self._dropped_near: frozenset[int] = frozenset()
        self._rows_read = 0
        self._tokens = Counter[str]()

    def run(self, source: Path, progress: Progress | None, should_stop: Stop | None) -> Manifest | None:
        """Write the files and return the manifest, None when stopped."""
        if "near_duplicate" in self._options.drop:
            told = self._told(read_rows(source), progress)
            self._dropped_near = frozenset(near_duplicates(told, self._options, self._renderer))
        maker = maker_of(self._renderer, self._options)
        with ExitStack() as files, seldom_collected():
            sides = [_Side(self._folder, prefix, self._options, files) for prefix in ("", "validation_")]
            records = read_rows(source)
            for outcome in maker.make(self._counted(records)):
                self._take(outcome, sides)
                if self._rows_read % 512 == 0:
                    if should_stop and should_stop():
                        return None
                    if progress:
                        progress(self._rows_read, max(self._rows_read, self._lines))
        if progress:
            progress(self._rows_read, self._rows_read)
        if not self._is_second:
            self.settled = self._split.settled()
            self.begins_anew = self._renderer.is_refuted or self.settled != self._split.split
            if self.begins_anew:
                return None
        self._refuse_nothing(*sides)
        return self._manifest(sides, records.notes)

    def _counted(self, records: Iterable[Row | RowProblem]) -> Iterable[Row | RowProblem]:
        for record in records:
            self._rows_read += 1
            yield record

    def _told(self, records: Iterable[Row | RowProblem], progress: Progress | None) -> Iterator[Row | RowProblem]:
        """Pass records on, and give a sign of life now and then: nothing is written yet."""
        for number, record in enumerate(records):
            if progress and number % 1000 == 0:
                progress(0, self._lines)
            yield record

    def _take(self, outcome: Outcome, sides: list[_Side]) -> None:
        if outcome.problem is not None:
            self._problems[outcome.problem.kind] += 1
        self._tokens["read"] += outcome.length
        if outcome.row is None or outcome.conversation is None or not outcome.examples:
            self._left_out[outcome.problem.kind if outcome.problem else "nothing_trained"] += 1
            return
        if self._options.drop:  # judging costs time; without a choice to drop it decides nothing
            problems = self._auditor.judge(outcome.row, outcome.conversation, outcome.text)
            self._problems.update(problem.kind for problem in problems)
            reason = self._auditor.left_out(outcome, problems)
            if reason or outcome.row.number in self._dropped_near:
                self._left_out[reason.kind if reason else "near_duplicate"] += 1
                return
        self._weighted += any(turn.weight != 1 for turn in outcome.conversation.turns)
        self._formats.add(outcome.format, outcome.format)
        side = sides[self._split.add(outcome.conversation)]
        side.take(outcome.row, outcome)

    def _refuse_nothing(self, training: _Side, validation: _Side) -> None:
        if training.rows.count and training.trained:
            return
        if validation.rows.count and not training.rows.count:
            why = f"All {validation.rows.count:,} usable rows say the same or are one, and fall on the validation side"
            raise DataError("Nothing would be trained", why, "Set data.validation_split to 0, or add rows")
        worst = ", ".join(f"{count} x {kind}" for kind, count in self._problems.most_common(3)) or "the file has no row"
        raise DataError("Nothing would be trained", f"No row is usable: {worst}", "Look at the problems in the check")

    def _manifest(self, sides: list[_Side], notes: list[str]) -> Manifest:
        for side in sides:
            side.drop_empty(self._folder)
        training, validation = sides
        files = {path.name: path.stat().st_size for path in sorted(self._folder.iterdir())}
        kept = training.tokens + validation.tokens
        said = f"{self._weighted:,} of the rows have a loss weight other than 0 and 1, which counts as 1"
        return {
            "version": BUILD_VERSION,
            "options": json.loads(self._options.as_json()),
            "tokenizer": self._renderer.tokenizer.digest,
            "chat_template": self._renderer.chat_template,
            "chat_template_origin": self._renderer.tokenizer.template.origin,
            "format": self._formats.verdict().format,
            "files": files,
            "files_sha256": {name: file_sha256(self._folder / name) for name in files},
            "rows_read": self._rows_read,
            "rows": training.rows.count,
            "packed_rows": training.packed.count if training.packed else 0,
            "packing_fill": round(training.packed.fill(), 4) if training.packed else 0.0,
            "tokens": training.tokens,
            "trained_tokens": training.trained,
            "longest": training.longest,
            "validation_rows": validation.rows.count,
            "validation_packed_rows": validation.packed.count if validation.packed else 0,
            "validation_tokens": validation.tokens,
            "kept_share": round(kept / self._tokens["read"], 4) if self._tokens["read"] else 1.0,
            "problem_counts": dict(self._problems),
            "left_out": dict(self._left_out),
            "warnings": [*self._renderer.tokenizer.warnings, *notes, *([said] if self._weighted else [])],
        }


class _Side:
    """The files of one side, training or validation, and their counts. Preferences are not packed."""

    def __init__(self, folder: Path, prefix: str, options: DataOptions, files: ExitStack) -> None:
        names = [f"{prefix}rows.arrow"]
        self.rows: RowFile | PreferenceFile
        self.packed: PackedFile | None = None
        if options.objective == "sft":
            names.append(f"{prefix}packed.arrow")
            self.rows = files.enter_context(RowFile(folder / names[0]))
            self.packed = files.enter_context(PackedFile(folder / names[1], options.max_length))
        else:
            self.rows = files.enter_context(PreferenceFile(folder / names[0], row_kind(options.objective)))
        self._names = names
        self.tokens = 0
        self.trained = 0
        self.longest = 0

    def take(self, row: Row, outcome: Outcome) -> None:
        """Write what training reads of one row."""
        for example in outcome.examples:
            tokens = len(example.input_ids)
            self.tokens += tokens
            self.trained += example.trained_count()
            self.longest = max(self.longest, tokens)
            if self.packed is not None and isinstance(self.rows, RowFile):
                ids = array("i", example.input_ids)
                self.rows.add(row.number, row.line, ids, example.trained)
                self.packed.add(ids, example.trained)
        for preference in outcome.preferences:
            assert isinstance(self.rows, PreferenceFile)
            self.rows.add(row.number, row.line, preference)

    def drop_empty(self, folder: Path) -> None:
        """Remove the files of a side that got no row."""
        if not self.rows.count:
            for name in self._names:
                (folder / name).unlink()
