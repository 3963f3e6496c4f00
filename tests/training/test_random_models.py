"""The models that benchmarks load where no weights can be fetched: true shapes, any values, holes beyond a limit."""

import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from app import catalog
from app.catalog.modules import total_parameters

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.random_models import exact_rows, tiny, write_model


@pytest.mark.parametrize("name", ["qwen3-4b", "gpt2-medium", "deepseek-v2-lite"])
def test_a_folder_has_the_weights_that_its_configuration_states(name: str, tmp_path: Path) -> None:
    config = tiny(dict(catalog.find(name).config))
    config["vocab_size"] = 1024
    parameters = write_model(tmp_path / "model", config, filled_bytes=100_000)
    assert parameters == total_parameters(catalog.find(str(tmp_path / "model")))
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    assert sum(tensor.numel() for tensor in stored.values()) == parameters
    filled = [bool(tensor.any()) for tensor in stored.values()]
    assert any(filled) and not all(filled)


def test_rows_have_the_length_that_was_asked_for() -> None:
    rows = exact_rows(33, 3, packed=True).training
    assert [len(ids) for ids in rows["input_ids"]] == [33] * 3
    assert rows["seq_lengths"] == [[33]] * 3 and rows["labels"] == rows["input_ids"]
