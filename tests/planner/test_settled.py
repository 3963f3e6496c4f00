"""What a run has decided for itself: kept, applied, and passed over where it is damaged."""

from pathlib import Path

import pytest

from app.config.schema import RunConfig
from app.planner import settled


def test_what_is_remembered_is_applied_and_added_to(tmp_path: Path) -> None:
    settled.remember(tmp_path, {"model.dtype": "bf16"}, "it pays")
    settled.remember(tmp_path, {"memory.checkpointing": "none", "memory.dequantized_layers": 4}, "it fits")
    config = settled.applied(RunConfig(), tmp_path)
    assert (config.model.dtype, config.memory.checkpointing, config.memory.dequantized_layers) == ("bf16", "none", 4)
    assert settled.read(tmp_path).reasons["model.dtype"] == "it pays"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"changes": 1, "reasons": {}}', '{"changes": {"a.b": 1}, "reasons": {}}']
)
def test_a_damaged_record_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / settled.FILE).write_text(text, encoding="utf-8")
    assert settled.applied(RunConfig(), tmp_path) == RunConfig()
