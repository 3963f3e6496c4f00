"""The names of the tests are the same in every process that collects them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CASES = """
import gzip
import os
import pytest

PACKED = gzip.compress(b"rows", mtime=int(os.environ["MADE_AT"]))


@pytest.mark.parametrize(("name", "content"), [("a.gz", PACKED), ("a.gz", PACKED), ("b", "word " * 30), ("c", "short")])
def test_reads(name, content):
    pass
"""


def _names(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, made_at: str) -> list[str]:
    monkeypatch.setenv("MADE_AT", made_at)
    ran = pytester.runpytest_subprocess("--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    return [line for line in ran.outlines if "::" in line]


def test_bytes_made_at_another_second_change_no_name(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names with the bytes themselves, as pytest gives them, differ; with this project's rule they are equal."""
    pytester.makepyfile(test_cases=CASES)
    assert _names(pytester, monkeypatch, "1") != _names(pytester, monkeypatch, "2")

    hook = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    start = hook.index("def pytest_make_parametrize_id")
    pytester.makeconftest(hook[start : hook.index("@pytest.fixture", start)])
    first = _names(pytester, monkeypatch, "1")
    assert first == _names(pytester, monkeypatch, "2")
    assert len(set(first)) == 4
    assert first[-1].endswith("[c-short]")
