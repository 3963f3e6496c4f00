"""Open files, folders, archives and pasted text as streams of bytes, guarded against bombs."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from app.data.reading import limits
from app.data.reading.documents.zip_documents import document_in
from app.errors import DataError

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_ABOUT = ("readme", "license", "licence", "changelog", "citation")
# What `datasets` and the hub write beside the rows.
BOOKKEEPING = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "package.json", "state.json")
TRAIN_SPLIT = re.compile(r"(?:^|[^a-z])train(?:ing)?(?:[^a-z]|$)|训练|訓練")
OTHER_SPLIT = re.compile(r"(?:^|[^a-z])(?:test|tests|valid|validation|val|dev|eval)(?:[^a-z]|$)|测试|測試|验证|驗證")
_CHAT_EXPORT_MARKS = {"chat.html", "message_feedback.json", "shared_conversations.json"}
# Claude's and DeepSeek's exports hold nothing else.
_CHAT_EXPORT_FILES = {"conversations.json", "users.json", "user.json", "projects.json", "memories.json"}
_CONVERSATIONS = re.compile(r"conversations(?:-\d+)?\.json|prod-grok-backend\.json")
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Source:
    """Name one stream of rows: a file, a member of an archive, or pasted text.

    `name` is empty when the whole source is one file; `suffix` is lower case and without `.gz`.
    `path` is set for plain files, so that column formats can be read with random access.
    """

    name: str
    suffix: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    path: Path | None = None


class GuardedStream(io.RawIOBase):
    """Pass an unpacked stream on, and stop when it grows out of proportion to what was packed."""

    def __init__(self, inner: BinaryIO, packed_bytes: Callable[[], int], name: str) -> None:
        self._inner = inner
        self._packed_bytes = packed_bytes
        self._name = name
        self._out_bytes = 0

    def readable(self) -> bool:
        """Say that the stream can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer, then check the ratio."""
        view = memoryview(cast(bytearray, buffer)).cast("B")
        try:
            data = self._inner.read(len(view))
        except BROKEN as error:
            raise DataError(f"{self._name} is a damaged archive", str(error), "Pack or download it again") from error
        view[: len(data)] = data
        self._out_bytes += len(data)
        refuse_ratio(self._name, self._packed_bytes(), self._out_bytes)
        return len(data)


def refuse_ratio(name: str, packed_bytes: int, unpacked_bytes: int) -> None:
    """Raise DataError for what unpacks to far more than text does."""
    if unpacked_bytes > max(limits.RATIO_GRACE_BYTES, limits.MAX_ARCHIVE_RATIO * max(1, packed_bytes)):
        raise DataError(
            f"{name} unpacks to more than {limits.MAX_ARCHIVE_RATIO} times its size",
            "This is how archive bombs look; text packs about 5 to 20 times",
            "Unpack it yourself if you trust it, and give the plain file",
        )


class _CountingFile(io.RawIOBase):
    """Count the packed bytes that a decompressor has taken, and refuse padding without end."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._padding_bytes = 0
        self.taken_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        data = self._inner.read(len(view))
        view[: len(data)] = data
        self.taken_bytes += len(data)
        # Python looks for the next member of a gzip file zero by zero.
        self._padding_bytes = 0 if data.strip(b"\0") else self._padding_bytes + len(data)
        if self._padding_bytes > limits.MAX_PADDING_BYTES:
            raise EOFError("nothing but zeros follows")
        return len(data)


def open_sources(path: Path, note: Callable[[str], None] = lambda text: None) -> Iterator[Source]:
    """List the streams of a file, an archive or a folder, in a stable order; read each before the next is asked for.

    `note` is told what is left out: splits that are no training split.
    """
    if path.is_dir():
        yield from _folder_sources(path, note)
    elif not path.is_file():
        raise DataError(f"There is no data file at {path.name}", "", "Check the name, or upload the file again")
    else:
        yield from _file_sources(path, "", note)


@contextmanager
def as_file(source: Source) -> Iterator[Path]:
    """Give a source as a file with random access; what lies in an archive is unpacked to a temporary one."""
    if source.path is not None:
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="unpacked-") as folder:
        path, size_bytes = Path(folder) / "rows", 0
        with source.open() as packed, path.open("wb") as file:
            while chunk := packed.read(limits.CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > limits.MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{source.name or 'The file'} is too large to be unpacked here",
                        f"Column files in archives may have {limits.MAX_UNPACKED_BYTES / 1e9:.0f} GB",
                        "Unpack it yourself and name the file",
                    )
                file.write(chunk)
        yield path


def pasted_source(text: str) -> Source:
    """Return pasted text as a stream."""
    data = text.encode("utf-8", "surrogatepass")

    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return Source("", "", opened)


def _folder_sources(folder: Path, note: Callable[[str], None]) -> Iterator[Source]:
    """List the files of a folder by name; hidden files and links are left out."""
    files = [path for path in sorted(folder.rglob("*")) if _is_data_file(path, folder)]
    if not files:
        raise DataError(
            f"The folder {folder.name} holds no data file", "", "Put .jsonl, .csv or .parquet files into it"
        )
    names = {path.relative_to(folder).as_posix(): path for path in files}
    for name in training_part(list(names), note):
        try:
            yield from _file_sources(names[name], name, note)
        except DataError as error:  # one damaged archive must not cost the other files
            yield _refused(name, error)


def _is_data_file(path: Path, folder: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def training_part(names: list[str], note: Callable[[str], None]) -> list[str]:
    """Return which files of a folder or archive hold rows to train: no read-me, no bookkeeping, no other split.

    `note` is told which splits are left out.
    """
    rows = [name for name in names if not _is_about(name)] or names
    if exported := _chat_export(rows):
        return exported
    training = [name for name in rows if TRAIN_SPLIT.search(_split_name(name))]
    others = [name for name in rows if OTHER_SPLIT.search(_split_name(name)) and name not in training]
    if training and others:
        note(f"The training split is trained; left out: {', '.join(others[:5])}{', …' * (len(others) > 5)}")
        return [name for name in rows if name not in others]
    return rows


def _chat_export(names: list[str]) -> list[str]:
    """Return the files of conversations in an export of a chat service, none for any other set of files."""
    bare = {PurePosixPath(name).name for name in names}
    if not bare & _CHAT_EXPORT_MARKS and not bare <= _CHAT_EXPORT_FILES and "prod-grok-backend.json" not in bare:
        return []
    return [name for name in names if _CONVERSATIONS.fullmatch(PurePosixPath(name).name)]


def _split_name(name: str) -> str:
    """Return the part of a path that may name its split: the file and the folder that it lies in."""
    return "/".join(PurePosixPath(name.lower()).parts[-2:])


def _is_about(name: str) -> bool:
    """Say whether a file speaks about the data, or is bookkeeping beside them, rather than being a part of them."""
    bare = PurePosixPath(name.lower()).name
    return bare.startswith(_ABOUT) or bare in BOOKKEEPING or (bare.startswith("cache-") and bare.endswith(".arrow"))


def _refused(name: str, error: DataError) -> Source:
    """Return a source that cannot be opened, so that the reader names it and goes on."""

    def opened() -> AbstractContextManager[BinaryIO]:
        raise error

    return Source(name, "", opened)


def _file_sources(path: Path, name: str, note: Callable[[str], None]) -> Iterator[Source]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read", str(error), "Check its permissions") from error
    if magic == _ZIP_MAGIC:
        yield from _zip_sources(path, name, note)
    elif magic[:2] == _GZIP_MAGIC:
        yield Source(name, inner_suffix(path.name), lambda: _open_gzip(path))
    else:
        yield Source(name, inner_suffix(path.name), lambda: _open_plain(path), path)


def inner_suffix(name: str) -> str:
    """Return the suffix that says what is inside, lower case and without `.gz`."""
    pure = PurePosixPath(name.lower())
    return PurePosixPath(pure.stem).suffix if pure.suffix == ".gz" else pure.suffix


@contextmanager
def _open_plain(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        yield file


@contextmanager
def _open_gzip(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as packed:
        counter = _CountingFile(packed)
        buffered = io.BufferedReader(counter, limits.PACKED_BYTES)
        with gzip.GzipFile(fileobj=cast(BinaryIO, buffered)) as unpacked:
            guarded = GuardedStream(cast(BinaryIO, unpacked), lambda: counter.taken_bytes, path.name)
            yield cast(BinaryIO, io.BufferedReader(guarded, limits.CHUNK_BYTES))


def _zip_sources(path: Path, name: str, note: Callable[[str], None]) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            is_document = document_in(archive) is not None
            members = [info for info in archive.infolist() if _is_data_member(info)]
    except BROKEN as error:
        raise DataError(f"{path.name} is a damaged archive", str(error), "Pack or download it again") from error
    if is_document:
        yield Source(name, inner_suffix(path.name), lambda: _open_plain(path), path)
        return
    part = set(training_part([info.filename for info in members], note))
    members = [info for info in members if info.filename in part]
    if not members or len(members) > limits.MAX_ARCHIVE_MEMBERS:
        raise DataError(
            f"{path.name} holds {len(members)} data files",
            f"Between 1 and {limits.MAX_ARCHIVE_MEMBERS:,} can be read",
            "Pack the .jsonl or .csv files themselves",
        )
    with zipfile.ZipFile(path) as archive:  # open once for all members: reading its directory again costs most
        for info in members:
            label = f"{name}/{info.filename}" if name else (info.filename if len(members) > 1 else "")
            yield Source(label, inner_suffix(info.filename), _member_opener(archive, info))


def _is_data_member(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)  # names are labels here
    return not info.is_dir() and not hidden


def _member_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: open_member(archive, info)


@contextmanager
def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    """Open a member of an archive, guarded. Raises DataError for one that is locked, damaged or a bomb."""
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{info.filename} is locked with a password", "", "Pack it without a password")
    refuse_ratio(info.filename, info.compress_size, info.file_size)  # what it claims; the stream counts what comes
    try:
        member = archive.open(info)
    except BROKEN as error:
        raise DataError(f"{info.filename} cannot be unpacked", str(error), "Pack it again as a plain zip") from error
    with member:
        packed = info.compress_size
        guarded = GuardedStream(cast(BinaryIO, member), lambda: packed, info.filename)
        yield cast(BinaryIO, io.BufferedReader(guarded, limits.CHUNK_BYTES))
