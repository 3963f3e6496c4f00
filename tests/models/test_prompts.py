from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.models.prompts import PromptError, Prompts, PromptTooLong
from tests.models import tiny_models
from tests.pace import at_most

ASK = [{"role": "user", "content": "hi"}]


def prompts(template: str | None = tiny_models.CHATML, eos: str = "<|im_end|>") -> Prompts:
    tokenizer = tiny_models.tokenizer().__class__(
        tokenizer_object=tiny_models.tokenizer().backend_tokenizer, eos_token=eos, pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    model = AutoModelForCausalLM.from_config(tiny_models.config("llama"))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return Prompts(model, tokenizer, PLAIN_TEMPLATES, render_limit)


def text(found: list[int]) -> str:
    return tiny_models.tokenizer().decode(found)


def test_the_model_s_own_template_is_used() -> None:
    made = prompts()
    assert text(made.encode("base", ASK, {})) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert made.end_tokens("base") == {2} and made.context == 512


def test_an_answer_ends_where_the_template_says_so(tmp_path: Path) -> None:
    """Qwen3.5's end token ends a text; its turns end otherwise, and an adapter's template may end them elsewhere."""
    made = prompts(eos="<|endoftext|>")
    ends = {"<|im_end|>", "<|endoftext|>"}
    assert {text([token]) for token in made.end_tokens("base")} == ends
    bare = tiny_models.CHATML.replace("<|im_end|>", "<|endoftext|>")
    (tmp_path / "chat_template.jinja").write_text(bare)
    made.learn("mine", tmp_path)
    assert {text([token]) for token in made.end_tokens("mine")} == {"<|endoftext|>"}
    assert {text([token]) for token in prompts("{{ raise_exception('no') }}").end_tokens("base")} == {"<|im_end|>"}


def test_a_model_without_a_template_gets_the_plain_one() -> None:
    found = text(prompts(None).encode("base", ASK, {}))
    assert found.endswith(("### Response:\n", "<|im_start|>assistant\n")) and "hi" in found


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_an_adapter_is_asked_with_the_template_it_was_trained_with(tmp_path: Path, file: str) -> None:
    template = "{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}"
    (tmp_path / file).write_text(json.dumps({"chat_template": template}) if file.endswith("json") else template)
    made = prompts()
    made.learn("mine", tmp_path)
    assert text(made.encode("mine", ASK, {})) == "Q: hi\nA:"
    assert "<|im_start|>" in text(made.encode("base", ASK, {}))
    made.forget("mine")
    assert "<|im_start|>" in text(made.encode("mine", ASK, {}))


def test_a_template_s_refusal_is_told_and_settings_reach_it() -> None:
    made = prompts("{{ raise_exception('no ' + word) if word is defined else 'fine' }}")
    assert text(made.encode("base", ASK, {})) == "fine"
    with pytest.raises(PromptError, match="no tools"):
        made.encode("base", ASK, {"word": "tools"})
    with pytest.raises(PromptError, match="'chat_template' is no setting"):
        made.encode("base", ASK, {"chat_template": "x"})


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "still computes"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ 1 / 0 }}", "division"),
    ],
    ids=["loop", "recursion", "escape", "division"],
)
def test_a_hostile_template_is_refused_in_a_thread_of_the_engine(template: str, said: str) -> None:
    """The engine renders in worker threads, where no signal arrives; the thread has to be free again afterwards."""
    made = prompts(template)
    with ThreadPoolExecutor(max_workers=1) as threads:
        with pytest.raises(PromptError, match=said):
            threads.submit(made.encode, "base", ASK, {}).result(timeout=15)
        assert threads.submit(lambda: 7).result(timeout=5) == 7


def test_a_prompt_that_cannot_fit_is_refused_before_its_tokens_are_counted() -> None:
    made = prompts()
    refused = pytest.raises(PromptTooLong, match=r"7,000,0\d\d characters; this model's context is 512 tokens")
    with at_most(5), refused:
        made.encode("base", [{"role": "user", "content": "x" * 7_000_000}], {})
    assert len(made.encode("base", [{"role": "user", "content": "x" * 600}], {})) > made.context
