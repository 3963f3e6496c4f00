import re
from pathlib import Path

import pytest
import yaml

from app import catalog, planner, presets
from app.config import RunConfig
from app.errors import ConfigError, UsageError
from app.planner.from_config import request_from_config
from app.planner.request import GIB
from app.workspace import Workspace

SHIPPED = sorted(presets.FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_preset_parses_and_explains_each_setting(path: Path) -> None:
    preset = presets.read(path)
    assert preset.title and preset.note
    assert preset.config != RunConfig()
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (preset.vram_gb is None) == ("vram_gb" not in tree["preset"])
    assert preset.vram_gb == preset.config.memory.vram_gb


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_preset_and_each_alternative_fits_its_card_beside_a_desktop(path: Path) -> None:
    preset = presets.read(path)
    if preset.vram_gb is None:
        return
    for name in (preset.config.model.name, *preset.alternatives):
        model = catalog.find(name)
        assert model.listing is not None and not model.listing.gated, name
        request = request_from_config(preset.config, model).changed(reserve_bytes=int(0.8 * GIB))
        plan = planner.estimate(request)
        assert plan.fits, f"{name} needs {plan.device_peak / GIB:.1f} GB"


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
    for name in ("My three", "cpu starter", " "):
        with pytest.raises(UsageError):
            presets.save_new(workspace, name, config)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_preset_states_the_planner_s_peak_and_the_reserve(path: Path) -> None:
    preset = presets.read(path)
    stated = re.search(
        r"^# Peak by the planner: ([\d.]+) GB(?:; left to the desktop: ([\d.]+) GB)?", path.read_text(), re.M
    )
    assert stated
    request = request_from_config(preset.config)
    if preset.vram_gb is None:
        request = request.changed(device="cpu")
    plan = planner.estimate(request)
    assert float(stated[1]) == pytest.approx(plan.device_peak / GIB, abs=0.1)
    if preset.vram_gb is not None:
        assert float(stated[2]) == preset.config.memory.reserve_gb
        assert plan.device_peak / GIB + float(stated[2]) <= preset.vram_gb
