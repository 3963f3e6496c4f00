import json
from dataclasses import replace
from pathlib import Path

import pytest

from app import catalog
from app.catalog import catalogue
from app.errors import ModelError, NetworkError, PlanError, TakenError

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 320,
}


def folder_with(tmp_path: Path, config: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_the_catalogue_is_wide_enough() -> None:
    models = catalog.all_models()
    assert len(models) >= 60
    assert len({model.family for model in models}) >= 14
    assert len({model.name for model in models}) == len(models)
    sizes = [catalog.total_parameters(model) for model in models]
    assert min(sizes) < 200e6
    assert max(sizes) > 70e9


@pytest.mark.parametrize("model", catalog.all_models(), ids=lambda model: model.name)
def test_parameters_follow_from_the_architecture(model: catalog.ModelSpec) -> None:
    assert model.listing is not None
    assert catalog.total_parameters(model) == pytest.approx(model.listing.parameters, rel=0.005)
    assert model.listing.licence
    assert model.listing.parameters_source
    assert model.listing.config_source


@pytest.mark.parametrize(
    "name", ["qwen3-4b", "QWEN3-4B", "Qwen/Qwen3-4B", "qwen/qwen3-4b-instruct-2507", "Qwen3-4B-Instruct-2507"]
)
def test_a_name_is_found_in_any_case_and_by_any_id(name: str) -> None:
    assert catalog.find(name).name == "qwen3-4b"


def test_search_wants_every_word() -> None:
    assert [model.name for model in catalog.search("qwen2.5 1.5")] == ["qwen2.5-1.5b"]
    assert catalog.search("no such model") == ()
    assert len(catalog.search("")) == len(catalog.all_models())


def test_a_local_folder_and_its_config_give_the_same_model(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, LLAMA)
    model = catalog.find(str(folder))
    assert (model.layers, model.kv_width) == (2, 32)
    assert catalog.find(str(folder / "config.json")) == model


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"vocab_size": 1.5}, "vocab_size"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"model_type": None}, "model_type"),
    ],
)
def test_a_broken_field_is_named(tmp_path: Path, change: dict[str, object], field: str) -> None:
    folder = folder_with(tmp_path, LLAMA | change)
    with pytest.raises(ModelError, match=field):
        catalog.find(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "9" * 6000, '{"model_type": "no-such"}', "[" * 9000])
def test_a_file_that_is_no_configuration_gives_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError):
        catalog.find(str(tmp_path))


def test_code_beside_the_config_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    folder_with(tmp_path, LLAMA | {"auto_map": {"AutoConfig": "modeling_x.X"}, "trust_remote_code": True})
    assert catalog.find(str(tmp_path)).layers == 2
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["", "https://example.org/a/b", "file:///etc/passwd", "\\\\server\\share", "//server/share", "a\x00b", "x" * 9000],
)
def test_addresses_are_refused(name: str) -> None:
    with pytest.raises(ModelError):
        catalog.find(name)


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="qwen3-4b"):
        catalog.find("qwen3-4bb")


def test_an_unreachable_hub_is_one_network_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="nobody/nothing"):
        catalog.find("nobody/nothing")


@pytest.mark.parametrize("kind", [ModelError, NetworkError, PlanError, TakenError])
def test_what_cannot_be_read_from_here_is_none_and_a_defect_is_not_hidden(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, revision: str | None = None) -> None:
        raise kind("it cannot be read")

    def fail(name: str, revision: str | None = None) -> None:
        raise KeyError(name)

    assert catalog.find_or_none("qwen2.5-0.5b") == catalog.find("qwen2.5-0.5b")
    assert catalog.find_or_none("no such model") is None
    monkeypatch.setattr(catalogue, "find", refuse)
    assert catalog.find_or_none("qwen2.5-0.5b") is None
    monkeypatch.setattr(catalogue, "find", fail)
    with pytest.raises(KeyError):
        catalog.find_or_none("qwen2.5-0.5b")


def test_a_model_that_sees_is_told_by_any_sign_of_its_tower() -> None:
    plain = catalog.spec_from_config(LLAMA, "plain")
    assert not plain.sees
    assert all(replace(plain, **sign).sees for sign in ({"unplanned": 5}, {"uncounted": "vision_config"}))
    assert replace(plain, config={**plain.config, "vision_config": {}}).sees
