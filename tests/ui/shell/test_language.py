"""Texts: complete, in step between languages, used and not missing."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from app import catalog
from app.planner import PlanRequest, suggestions
from app.planner.phrases import ENGLISH as PLANNER
from app.planner.phrases import Phrase
from app.ui.components import forms
from app.ui.shell.language import ENGLISH, NAMES, Translator, _of_settings, of_scripts, spoken, texts

SOURCES = sorted((Path(__file__).resolve().parents[3] / "app" / "ui").rglob("*.py"))
STATIC = Path(__file__).resolve().parents[3] / "app" / "ui" / "shell" / "static"
CODE = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
OTHERS = [name for name in NAMES if name != ENGLISH]


def fields(text: str) -> set[str]:
    """Return the places of a text: {name} and [name]."""
    named = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    return named | set(re.findall(r"\[[a-z]+\]", text))


@pytest.mark.parametrize("language", OTHERS)
def test_languages_are_in_step(language: str) -> None:
    english, other = texts(ENGLISH), texts(language)
    # A language without a plural needs no form for one; settings are translated where English has RunConfig's words.
    shown = {f"setting.{name}.{part}" for name in forms.ORDER for part in ("label", "help")}
    wanted = {key for key in english if not key.endswith(".one")} | shown | {"setting.model.name.label"}
    assert set(other) - set(english) - set(_of_settings()) - set(PLANNER) == set()
    assert (wanted | set(PLANNER)) - set(other) == set()


@pytest.mark.parametrize("language", OTHERS)
def test_places_are_the_same_in_every_language(language: str) -> None:
    english = {**_of_settings(), **PLANNER, **texts(ENGLISH)}
    for key, text in texts(language).items():
        assert fields(text) == fields(english[key]), key


def test_every_key_in_the_code_exists() -> None:
    used = set(re.findall(r'\b(?:t|Key)\(\s*"([a-z_0-9.-]+)"', CODE))
    assert len(used) > 100
    assert used - set(texts(ENGLISH)) - set(_of_settings()) - set(PLANNER) == set()


def test_every_text_is_used() -> None:
    families = (
        "kept.",
        "script.",
        "state.",
        "kind.",
        "phase.",
        "event.",
        "format.",
        "problem.",
        "part.",
        "method.",
        "tour.",
        "take.card.",
        "take.dtype.",
        "take.made.",
        "take.verdict.",
        "data.sample.",
    )
    families += ("play.figure.", "play.figure_help.", "play.score.", "play.column.", "profile.head.", "profile.part.")
    families += ("plan.fold.", "plan.table.", "take.sentence", "tab.", "setting.", "data.map.", "data.length.")
    families += ("said.", "wrong.")
    families += ("train.filter.", "sweep.example.", "compare.", "step.mark.", "step.method.")
    families += ("verdict.", "data.page.", "preset.")
    families += ("month.", "models.kind.", "models.licence.", "models.ask.")
    families += ("evaluate.metric.", "evaluate.draw.", "evaluate.over.")
    families += ("verdict.", "data.page.", "train.table.")
    quoted = set(re.findall(r"""(?<=['"])[\w.-]+(?=['"])""", CODE))
    literal = {key for key in texts(ENGLISH) if key.removesuffix(".one") in quoted}
    built = {"data.drop_action", "data.drop_undo", "data.repair_action", "data.repair_undo"}
    unused = {key for key in texts(ENGLISH) if key not in literal | built and not key.startswith(families)}
    assert unused == set()


def test_no_text_shouts() -> None:
    for language in NAMES:
        for key, text in texts(language).items():
            assert text.strip() == text and text, key
            assert "!" not in text.replace("matey!", "") and "！" not in text, key


def test_speech_falls_back_and_counts() -> None:
    assert (
        Translator("xx").language == ENGLISH
        and Translator(None).language == ENGLISH
        and Translator(["zh"]).language == ENGLISH
    )
    t = Translator("en")
    assert t("strip.cpu", count=1, cpus=1) == "CPU, 1 core"
    assert t("strip.cpu", count=2, cpus=2) == "CPU, 2 cores"
    assert t("setting.adapter.r.label") == "Rank"
    assert t("setting.data.max_length.label") == "Sequence length (tokens)"
    assert t.known("part.of_tomorrow", "of_tomorrow") == "of_tomorrow"


def test_the_planner_speaks_every_language() -> None:
    model = catalog.find("llama-3.1-8b")
    close = PlanRequest(model=model, micro_batch=4, seq_len=8192, dora=True, attn="eager", vram_gb=12)
    tight = PlanRequest(model=model, method="full", vram_gb=4)
    found = [*suggestions(close), *suggestions(tight)]
    assert any(one.fits is False for one in found) and any(len(one.changes) > 2 for one in found)
    for one in found:
        assert Translator(ENGLISH).planned(one.text) == one.text
        assert all(ord(mark) < 128 for mark in one.text)
        chinese = Translator("zh").planned(one.text)
        assert chinese != one.text and re.search("[\u4e00-\u9fff]", chinese)
    assert Translator("zh").planned("as it is") == "as it is"


@pytest.mark.parametrize("language", [ENGLISH, *OTHERS])
def test_a_note_of_the_planner_keeps_its_numbers(language: str) -> None:
    t = Translator(language)
    assert "131,072" in t.planned(Phrase("planner.note.positions", model="m", tokens=131_072))
    one, more = (Phrase("planner.corrected", count=count, error=1.84) for count in (1, 5))
    assert "+1.8 %" in t.planned(one) and "1 " not in t.planned(one).replace("+1.8 %", "")
    assert "5" in t.planned(more)


def test_the_scripts_of_the_page_say_texts_of_the_locale_files_alone() -> None:
    scripts = [path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.js"))]
    used = set(re.findall(r'\bsay\("([a-z_]+)"\)', "\n".join(scripts)))
    own = set(re.findall(r'\$/, "(own_[a-z_]+)"\]', "\n".join(scripts)))
    assert len(own) > 10 and (used | own | {"away", "ended"}) == set(of_scripts(ENGLISH))
    assert not [script[:40] for script in scripts if re.search("[\u4e00-\u9fff]", script)]


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("zh-CN,zh;q=0.9", "zh"),
        ("ZH", "zh"),
        ("en-US,en;q=0.5", ENGLISH),
        ("xx", ENGLISH),
        ("", ENGLISH),
        ("*", ENGLISH),
    ],
)
def test_a_first_visit_is_in_the_language_that_the_browser_asks_for(asked: str, language: str) -> None:
    assert spoken(None, {"accept-language": asked}).language == language
    assert spoken("zh", {"accept-language": asked}).language == "zh"
