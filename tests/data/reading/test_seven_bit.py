"""Encodings that write other scripts in ASCII between shifts are valid ASCII, and were trained as its gibberish."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row

TEXTS = {
    "iso2022_jp": ("日本の首都はどこですか", "東京です。とても大きな都市です。"),
    "iso2022_jp_ext": ("半角は?", "これはテストの文です。"),
    "iso2022_kr": ("한국의 수도는 어디입니까", "서울입니다. 매우 큰 도시입니다."),
    "hz": ("中国的首都是哪里", "中国的首都是北京。"),
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.tsv"])
def test_shifted_scripts_are_read(tmp_path: Path, name: str, encoding: str) -> None:
    question, answer = TEXTS[encoding]
    lines = {
        "a.csv": f"question,answer\n{question},{answer}\n",
        "a.jsonl": f'{{"question": "{question}", "answer": "{answer}"}}\n',
        "a.tsv": f"question\tanswer\n{question}\t{answer}\n",
    }
    (tmp_path / name).write_bytes(lines[name].encode(encoding))
    assert [row.fields for row in read_rows(tmp_path / name) if isinstance(row, Row)] == [
        {"question": question, "answer": answer}
    ]


@pytest.mark.parametrize("text", ["In TeX ~{x}~} is odd", "\x1b[31mred\x1b[0m", "cost: ~{}~{}", "a ~ b ~} c"])
def test_ascii_that_only_looks_shifted_stays_ascii(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert [row.fields for row in read_rows(tmp_path / "a.txt") if isinstance(row, Row)] == [{"text": text}]
