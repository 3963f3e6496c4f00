"""Any bytes under any name end in rows, problems or a DataError, soon."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.data.reading.readers import SUFFIXES, read_pasted, read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most

_SECONDS = 5
# Pieces that readers look at, so that the fuzz reaches behind the first check.
_PIECES = st.sampled_from(
    [
        *('{"a": 1}', '[{"a": "b"}', "]", "}", "{", "[", '"', '""', ",", "\t", ";", "|", "\n", "\r", "\r\n", "\\"),
        *("question,answer\n", "question\tanswer\n", '{"train": [', '"test": [', "//", "/*", "*/", "# ", "```"),
        *("<html>", "<script>", "</script>", "<p>", "<?xml", "WEBVTT\n", "00:01.000 --> 00:02.000\n", "1\n", "NaN"),
        *("\ufeff", "\0", "é", "ß", "你好", "안녕", "<|im_start|>user\n", "### Instruction:\n", "Human: ", "AI: "),
        *('{"mapping": {"a": {}}, "current_node": "a"}', "PAR1", "ARROW1", "PK\x03\x04", "%PDF", "null", "1e999"),
        *("sep=;", "\\u", "true", "0"),
    ]
)  # fmt: skip
_TEXTS = st.lists(st.one_of(_PIECES, st.text(max_size=8)), max_size=40).map("".join)
_ENCODINGS = st.sampled_from(
    ["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp949", "cp932", "gb18030", "koi8_r"]
)
_CONTENTS = st.one_of(
    st.binary(max_size=400),
    st.builds(lambda text, encoding: text.encode(encoding, "replace"), _TEXTS, _ENCODINGS),
    st.builds(lambda text, junk: text.encode("utf-8", "replace") + junk, _TEXTS, st.binary(max_size=40)),
)
_QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def read(path: Path) -> None:
    with at_most(_SECONDS):
        try:
            for record in read_rows(path):
                assert isinstance(record, (Row, RowProblem))
                if isinstance(record, Row):
                    json.dumps(record.fields).encode()  # what is read can be stored
                else:
                    json.dumps(record.as_dict(), ensure_ascii=False).encode()
        except DataError as error:
            assert str(error)


@_QUIET
@given(content=_CONTENTS, suffix=st.sampled_from([*SUFFIXES, "", ".docx"]))
def test_any_file_is_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        read(path)


@_QUIET
@given(members=st.dictionaries(st.text(min_size=1, max_size=12), _CONTENTS, max_size=4), cut=st.integers(0, 30))
def test_any_archive_is_read_or_refused(members: dict[str, bytes], cut: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.encode("utf-8", "replace").decode(), content)
    data = packed.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("a.zip", data[: len(data) - cut]), ("b.jsonl.gz", gzip.compress(data)[: -cut or None])):
            path = Path(folder) / name
            path.write_bytes(content)
            read(path)


@_QUIET
@given(text=_TEXTS)
def test_any_pasted_text_is_read_or_refused(text: str) -> None:
    try:
        assert list(read_pasted(text))
    except DataError as error:
        assert str(error)


@_QUIET
@given(flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), kind=st.sampled_from("pa"))
def test_damaged_column_files_are_read_or_refused(flips: list[tuple[int, int]], kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"question": ["a", "b"], "answer": [["x"], []]})
    sink = io.BytesIO()
    if kind == "p":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    data = bytearray(sink.getvalue())
    for at, value in flips:
        data[at % len(data)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        path.write_bytes(data)
        read(path)
