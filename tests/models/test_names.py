from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog import all_models
from app.errors import ModelError
from app.hub.ids import is_local, is_repository
from app.models.names import resolve, resolve_adapter


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
@pytest.mark.fault("A10")
def test_addresses_and_missing_folders_are_refused(name: str) -> None:
    with pytest.raises(ModelError):
        resolve(name)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))


def test_an_adapter_is_a_folder_or_a_hub_id(tmp_path: Path) -> None:
    assert resolve_adapter(str(tmp_path)) == str(tmp_path)
    assert resolve_adapter("someone/an-adapter") == "someone/an-adapter"
    assert resolve_adapter("nowhere") == str(Path("nowhere").absolute())
    for name in ("http://127.0.0.1/x", "a\0b", "//host/share", "\\\\host\\share"):
        with pytest.raises(ModelError):
            resolve_adapter(name)


@pytest.mark.parametrize("text", ["org/name", "a/b.c-d_e"])
def test_a_repository_is_owner_and_name(text: str) -> None:
    assert is_repository(text)


@pytest.mark.parametrize("text", ["name", "a/b/c", "../x", "a/..", "http://x/y", "a--b/c", "/a", "a/", "-a/b", "a b/c"])
def test_what_is_no_repository(text: str) -> None:
    assert not is_repository(text)


def test_a_short_name_means_the_catalogues_weights_and_not_only_their_architecture() -> None:
    assert resolve("qwen3-0.6b") == "Qwen/Qwen3-0.6B"
    assert resolve("Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"
    for spec in all_models():
        assert spec.listing is not None
        assert resolve(spec.name) == spec.listing.hub_id
    assert resolve("distilgpt2") == "distilgpt2"  # not in the catalogue: an old hub id without an owner
