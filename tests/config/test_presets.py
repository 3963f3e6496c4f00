import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import catalog, planner
from app.config import presets
from app.config.schema import RunConfig
from app.errors import ConfigError, UsageError
from app.planner.from_config import request_from_config
from app.planner.request import GIB
from app.planner.tracing.client import traced
from app.workspace import Workspace

SHIPPED = sorted(presets.FOLDER.glob("*.yaml"))
OF_CARDS = [path for path in SHIPPED if presets.read(path).vram_gb is not None]


def case(path: Path, name: str) -> Any:
    """A preset with one of its models; a model without a formula is simulated first, which takes some 20 s."""
    marks = pytest.mark.slow if catalog.find(name).simulated else ()
    return pytest.param(path, name, marks=marks, id=f"{path.stem}-{name.split('/')[-1]}")


def models_of(path: Path) -> tuple[str, ...]:
    preset = presets.read(path)
    return (preset.config.model.name, *preset.alternatives)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace for what is simulated here: once for each model."""
    return tmp_path_factory.mktemp("traces")


def planned(config: RunConfig, traces: Path, name: str = "") -> planner.Plan:
    return planner.estimate(traced(request_from_config(config, catalog.find(name or config.model.name)), traces))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_preset_parses_and_explains_each_setting(path: Path) -> None:
    preset = presets.read(path)
    assert preset.title and preset.note
    assert preset.config != RunConfig()
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (preset.vram_gb is None) == ("vram_gb" not in tree["preset"])
    assert preset.vram_gb == preset.config.memory.vram_gb


@pytest.mark.parametrize(("path", "name"), [case(path, name) for path in OF_CARDS for name in models_of(path)])
def test_every_preset_and_each_alternative_fits_its_card_beside_a_desktop(path: Path, name: str, traces: Path) -> None:
    model = catalog.find(name)
    assert model.listing is not None and not model.listing.gated
    plan = planned(presets.read(path).config.changed({"memory.reserve_gb": 0.8}), traces, name)
    assert plan.fits, f"{name} needs {plan.device_peak / GIB:.1f} GB"


@pytest.mark.parametrize("path", OF_CARDS, ids=lambda path: path.stem)
def test_a_card_begins_with_a_model_of_this_year_and_offers_an_older_one(path: Path) -> None:
    first, *others = (catalog.find(name).name for name in models_of(path))
    assert first.startswith(("qwen3.5", "gemma-4", "ministral-3"))
    assert any(name.startswith("qwen3-") for name in others)


def test_there_is_a_preset_for_every_size() -> None:
    assert next(preset.name for preset in presets.all_presets()) == "cpu-starter"
    assert {preset.vram_gb for preset in presets.all_presets()} >= {None, 8.0, 12.0, 16.0, 24.0}


@pytest.mark.parametrize("name", ["8gb", "8", "8 GB", "8GB"])
def test_names_are_forgiving(name: str) -> None:
    assert presets.load(name).vram_gb == 8


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="cpu-starter"):
        presets.load("huge")


def test_own_presets_are_saved_listed_and_loaded(workspace: Workspace) -> None:
    config = RunConfig().changed({"adapter.r": 4})
    presets.save(workspace, "mine", config, note="small")
    assert presets.load("mine", workspace).config == config
    assert presets.all_presets(workspace)[-1].note == "small"


@pytest.mark.fault("A21")
def test_a_strangers_preset_takes_nothing_outside_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "stranger.yaml"
    file.write_text(
        "preset: {title: x, script: rm -rf}\ntraining: {learning_rate: 1.0e+308, hub_token: s}\nadapter: {r: -3}\n"
    )
    with pytest.raises(ConfigError) as caught:
        presets.read(file)
    assert {problem.field for problem in caught.value.problems} == {
        "training.learning_rate",
        "training.hub_token",
        "adapter.r",
    }
    file.write_text("preset: {title: x, script: rm -rf}\n")
    with pytest.raises(ConfigError, match="takes only"):
        presets.read(file)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"preset: [", b"x" * (2 << 20)])
def test_a_damaged_preset_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "damaged.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError):
        presets.read(file)


def test_a_runs_settings_are_kept_under_a_name_of_their_own(workspace: Workspace) -> None:
    config = presets.load("cpu-starter").config.changed({"adapter.r": 3, "data.file": "/x/rows.jsonl"})
    presets.save_new(workspace, "My three", config)
    kept = presets.load("My three", workspace).config
    assert kept.adapter.r == 3 and kept.data.file == ""
    for name in ("My three", "my-three", "cpu starter", " "):
        with pytest.raises(UsageError):
            presets.save_new(workspace, name, config)
    presets.save_new(workspace, "My three", config.changed({"adapter.r": 4}), replace=True)
    assert presets.load("My three", workspace).config.adapter.r == 4
    with pytest.raises(UsageError, match="comes with the program"):
        presets.save_new(workspace, "cpu-starter", config, replace=True)


@pytest.mark.parametrize(("path", "name"), [case(path, models_of(path)[0]) for path in SHIPPED])
def test_every_preset_states_the_planner_s_peak_and_the_reserve(path: Path, name: str, traces: Path) -> None:
    preset = presets.read(path)
    stated = re.search(
        r"^# Peak by the planner: ([\d.]+) GB(?:; left to the desktop: ([\d.]+) GB)?", path.read_text(), re.M
    )
    assert stated
    if preset.vram_gb is None:
        plan = planner.estimate(request_from_config(preset.config).changed(device="cpu"))
    else:
        plan = planned(preset.config, traces)
        assert float(stated[2]) == preset.config.memory.reserve_gb
        assert plan.device_peak / GIB + float(stated[2]) <= preset.vram_gb
    assert float(stated[1]) == pytest.approx(plan.device_peak / GIB, abs=0.1)
