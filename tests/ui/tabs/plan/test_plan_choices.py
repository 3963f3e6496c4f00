"""What the Plan tab offers to choose from, in the page's language."""

from __future__ import annotations

from app.config import presets
from app.config.schema import RunConfig
from app.ui.shell.language import ENGLISH, Key, Translator, texts
from app.ui.tabs.plan.tab import model_choices, preset_choices, preset_title
from app.workspace import Workspace

CHINESE = Translator("zh")


def test_every_shipped_preset_is_named_in_both_languages(workspace: Workspace) -> None:
    for preset in presets.all_presets():
        assert texts(ENGLISH)[f"preset.{preset.name}"] == preset.title
    english = [said(Translator()) for said, _ in preset_choices(workspace)]
    chinese = [said(CHINESE) for said, _ in preset_choices(workspace)]
    assert english[:2] == ["Starter on the processor", "6 GB GPU"] and chinese[:2] == [
        "处理器上的 starter",
        "6 GB 显卡",
    ]
    assert [name for _, name in preset_choices(workspace)] == [one.name for one in presets.all_presets()]


def test_a_preset_of_ones_own_keeps_its_title_also_under_a_shipped_name(workspace: Workspace) -> None:
    presets.save(workspace, "8gb", RunConfig(), note="mine")  # the page refuses the name; a file can have it
    (mine,) = [one for one in presets.all_presets(workspace) if one.note == "mine"]
    assert preset_title(mine, CHINESE) == mine.title == "8gb"


def test_models_say_what_they_are_in_both_languages() -> None:
    choices = {value: shown for shown, value in model_choices()}
    starter, gated = choices["starter"], choices["meta-llama/Llama-3.1-8B"]
    assert isinstance(starter, Key) and CHINESE(starter) == "starter（随附，3 M）"
    assert not isinstance(gated, Key) and gated(Translator()).endswith(", gated, QLoRA from 8 GB)")
    assert not isinstance(gated, Key) and gated(CHINESE).endswith("需申请, QLoRA 需 8 GB 起)")
