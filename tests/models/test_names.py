from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ModelError
from app.models.names import is_local, resolve


def test_a_folder_with_a_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert is_local(resolve(str(tmp_path)))


def test_a_hub_id_stays_a_hub_id() -> None:
    assert resolve("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert not is_local(resolve("gpt2"))


@pytest.mark.parametrize(
    "name",
    [
        "http://169.254.169.254/latest",
        "file:///etc",
        "\\\\host\\share",
        "//host/share",
        "../up",
        "/no/such/folder",
        "a/b/c",
        "",
        "x" * 5000,
        "--flag",
        "name\0",
    ],
)
def test_addresses_and_missing_folders_are_refused(name: str) -> None:
    with pytest.raises(ModelError):
        resolve(name)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))
