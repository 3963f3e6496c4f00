"""A stranger's settings: whatever the text, a RunConfig or a ConfigError, quickly, and nothing outside the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import presets
from app.config.parsing import from_yaml, parse_assignments
from app.config.schema import RunConfig, parse
from app.config.sections import settings as all_settings
from app.errors import ConfigError, UsageError

QUICK = settings(max_examples=60, deadline=5000, suppress_health_check=list(HealthCheck))
NAMES = [name for name, _ in all_settings()]
TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400) | st.just(1e308)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXTS, v, max_size=4), max_leaves=8)
SECTIONS = st.sampled_from([*RunConfig.model_fields, "preset", "output_dir", "token", "script", "__class__"])
KEYS = st.sampled_from([name.partition(".")[2] for name in NAMES] + ["output_dir", "hub_token", "__init__"]) | TEXTS
TREES = st.dictionaries(SECTIONS | TEXTS, st.dictionaries(KEYS, VALUES, max_size=5) | VALUES, max_size=4)


def is_inside_the_schema(config: RunConfig) -> bool:
    return {f"{section}.{name}" for section, values in config.as_dict().items() for name in values} == set(NAMES)


@QUICK
@given(TREES)
def test_any_tree_is_settings_or_a_list_of_problems(tree: dict[str, Any]) -> None:
    try:
        config = parse(tree)
    except ConfigError as error:
        assert error.problems and all(problem.field and problem.message for problem in error.problems)
        error.line().encode("utf-8", "surrogatepass")
        return
    assert is_inside_the_schema(config)
    assert from_yaml(config.to_yaml()) == config


@QUICK
@given(st.text(max_size=300) | st.text("{}[]:&*!|>-#\"' \nab1", max_size=300) | TREES.map(repr))
def test_any_text_is_settings_or_a_list_of_problems(text: str) -> None:
    try:
        assert is_inside_the_schema(from_yaml(text))
    except ConfigError as error:
        assert error.problems


@QUICK
@given(st.lists(st.tuples(st.sampled_from(NAMES) | TEXTS, TEXTS | PLAIN.map(str)).map("=".join) | TEXTS, max_size=4))
def test_any_assignment_is_settings_or_a_list_of_problems(words: list[str]) -> None:
    try:
        assert is_inside_the_schema(RunConfig().changed(parse_assignments(words)))
    except ConfigError as error:
        assert error.problems


@QUICK
@given(st.binary(max_size=200) | TREES.map(lambda tree: f"preset: {{}}\n{tree!r}".encode("utf-8", "replace")))
def test_any_preset_file_is_a_preset_or_one_refusal(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(body)
    try:
        assert is_inside_the_schema(presets.read(file).config)
    except UsageError as error:
        assert "\n" not in error.line()


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 20_000,
        "- " * 20_000,
        "training: &t {seed: *t}",
        "&a [*a]",
        "preset: {title: &a [*a]}",
        "preset: {alternatives: 3}",
        "preset: {alternatives: [{}]}",
        "preset: {vram_gb: .nan}",
        "preset: {vram_gb: true}",
        "preset: {vram_gb: -1}",
        "preset: 3",
        "training: {seed: " + "9" * 5000 + "}",
        "? [a]\n: b",
        "? {a: 1}\n: b",
        "2026-13-45: x",
        "training: {seed: 2026-13-45}",
        "x: !!python/object/apply:os.system [echo]",
        "x: !!binary '%'",
        "\0",
    ],
)
@pytest.mark.timeout(10)
def test_what_strangers_write_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        presets.read(file)
    assert len(caught.value.line()) < 5000


def test_a_strangers_preset_is_told_every_problem_and_nothing_is_taken(tmp_path: Path) -> None:
    tree = {
        "training": {"learning_rate": 1e308, "max_steps": "many", "output_dir": "/etc"},
        "adapter": {"r": -3, "lora_alpha": None},
        "model": {"trust_remote_code": True, "token": "x"},
        "script": "rm -rf /",
    }
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        presets.read(file)
    assert {problem.field for problem in caught.value.problems} == {
        *("training.learning_rate", "training.max_steps", "training.output_dir", "adapter.r", "adapter.lora_alpha"),
        *("model.trust_remote_code", "model.token", "script"),
    }
