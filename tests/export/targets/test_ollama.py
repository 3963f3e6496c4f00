"""Modelfiles: the template that is written says what the model's own says, or nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.data.chat_template.templates import PLAIN_TEMPLATES, ChatTemplate
from app.errors import ExportError
from app.export.targets import go_template
from app.export.targets.ollama import write_modelfile
from app.export.targets.turn_format import Turns, find_frame, read_turns
from app.models.names import resolve
from tests.export.gguf import gguf_models

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One."},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


def chat(source: str) -> ChatTemplate:
    return ChatTemplate(source, "test", {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize("name", [*gguf_models.TEMPLATES, *PLAIN_TEMPLATES])
def test_the_go_template_writes_the_same_prompts(name: str) -> None:
    template = chat({**PLAIN_TEMPLATES, **gguf_models.TEMPLATES}[name])
    frame = find_frame(template)
    assert frame is not None
    written = go_template.write_template(frame)
    talk = TALK if frame.before_system is not None else TALK[1:]
    assert (name == "gemma") == (frame.before_system is None)
    assert go_template.render(written, talk) == template.render(talk, None, generation_prompt=True)
    assert (
        go_template.differences(written, lambda talk: template.render(talk, None, generation_prompt=True), [talk], "")
        == []
    )


@pytest.mark.parametrize(("old", "new"), [("<|im_end|>", "<|im_end|"), ("$.System", ".Content"), ("\n", "")])
def test_a_wrong_go_template_is_noticed(old: str, new: str) -> None:
    template = chat(gguf_models.TEMPLATES["chatml"])
    frame = find_frame(template)
    assert frame is not None
    wrong = go_template.write_template(frame).replace(old, new)
    assert go_template.differences(wrong, lambda talk: template.render(talk, None, generation_prompt=True), [TALK], "")


def test_neighbours_of_one_role_are_joined_as_ollama_does() -> None:
    written = "{{ range .Messages }}[{{ .Role }}|{{ .Content }}]{{ end }}{{ .System }}"
    talk = [*TALK[:2], {"role": "user", "content": "More."}]
    assert go_template.render(written, talk) == "[system|Be brief.][user|One.\n\nMore.]Be brief."
    with pytest.raises(ExportError, match="not closed"):
        go_template.render("{{ if .System }}x", talk)


@pytest.mark.parametrize(
    ("family", "stop", "system"),
    [
        ("qwen3", "<|im_end|>", True),
        ("llama", "<|eot_id|>", True),
        ("mistral", "</s>", True),
        ("gemma2", "<end_of_turn>", False),
        ("phi3", "<|end|>", True),
    ],
)
def test_the_modelfile_of_known_families(tmp_path: Path, family: str, stop: str, system: bool) -> None:
    turns = read_turns(gguf_models.save(tmp_path / "model", family))
    begin = turns.tokenizer.bos_token if family in ("llama", "mistral", "gemma2") else ""
    made = write_modelfile("./model.gguf", turns, 8192, {"do_sample": True, "temperature": 0.6, "top_p": 0.95})
    lines = made.text.splitlines()
    assert lines[0] == "FROM ./model.gguf" and f'PARAMETER stop "{stop}"' in lines
    assert {"PARAMETER num_ctx 4096", "PARAMETER temperature 0.6", "PARAMETER top_p 0.95"} <= set(lines)
    assert made.compared == (8 if system else 4) and bool(made.notes) != system
    assert not begin or begin not in made.text  # Ollama puts it in front by itself


def test_the_starter_is_greedy(tmp_path: Path) -> None:
    turns = read_turns(Path(resolve("starter")))
    made = write_modelfile(".", turns, 1024, {"do_sample": False})
    assert "PARAMETER temperature 0\n" in made.text and "PARAMETER num_ctx 1024" in made.text


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ("{% if tools %}{{ tools | tojson }}{% endif %}", "tools"),
        ("{% if tools is defined and tools %}{{ tools[0].function.name }}{% endif %}", "tools"),
        ("{{ strftime_now('%d %b %Y') }}", "date"),
        ("{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}", "thinking"),
        ("{% if reasoning_effort == 'high' %}Think hard.{% endif %}", "thinking"),
        ("{% if thinking %}Think.{% endif %}", "thinking"),
        ("{% if documents %}{{ documents | length }}{% endif %}", "documents"),
        ("{% set tone = persona or 'kind' %}Be {{ tone }}.", "persona"),
        ("{% set messages = messages %}{{ bos_token | default('') }}", ""),
        ("", ""),
    ],
)
def test_what_a_modelfile_loses_of_the_template_is_said(more: str, word: str) -> None:
    starter = read_turns(Path(resolve("starter")))
    template = chat(more + gguf_models.TEMPLATES["chatml"])
    turns = Turns(starter.tokenizer, starter.backend, template, find_frame(template), ())
    lost = write_modelfile(".", turns, 1024, {}).lost
    assert len(lost) == bool(word) and word in " ".join(lost)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_does_more_is_refused(source: str) -> None:
    starter = read_turns(Path(resolve("starter")))
    template = chat(source)
    with pytest.raises(ExportError, match="cannot be written for Ollama"):
        write_modelfile(".", Turns(starter.tokenizer, starter.backend, template, find_frame(template), ()), 1024, {})
