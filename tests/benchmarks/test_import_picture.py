"""The picture of the imports is that of the sources, and a cycle has no place in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import import_picture


def _house(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "app"


def test_the_picture_in_the_docs_is_that_of_the_sources() -> None:
    """Drawn anew by `python -m benchmarks.import_picture`."""
    drawn = import_picture.picture(import_picture.edges(import_picture.ROOT / "app"))
    assert import_picture.OUT.read_text(encoding="utf-8") == drawn


def test_modules_behind_an_arrow_are_counted_once(tmp_path: Path) -> None:
    house = _house(
        tmp_path,
        {
            "jobs/queue.py": "import json\n",
            "runs/a.py": "from app.jobs import queue\nfrom app.jobs.queue import x\nimport app.runs.b\n",
            "runs/b.py": "def late():\n    from app import jobs, __version__\n",
            "runs/c.py": "from . import b\n",
        },
    )
    assert import_picture.edges(house) == {("runs", "jobs"): 2}


def test_each_package_stands_above_what_it_imports() -> None:
    between = {("a", "b"): 1, ("b", "c"): 1, ("a", "c"): 3, ("d", "c"): 1}
    assert import_picture.layers(between) == [["a"], ["b", "d"], ["c"]]
    assert import_picture.direct(between) == {("a", "b"), ("b", "c"), ("d", "c")}
    with pytest.raises(ValueError, match="a cycle among a, b"):
        import_picture.layers({("a", "b"): 1, ("b", "a"): 1, ("a", "c"): 1})
