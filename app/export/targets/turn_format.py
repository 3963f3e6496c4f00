"""How a chat template frames turns, found by rendering marked conversations with it.

Most templates put fixed text before and after each turn. Such a template is known by a handful of strings, from which
the templates of other programs can be written. What a template does beyond that (tools, thinking, trimming) is not
seen here; whoever uses the strings compares the outcome with the template itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from app.data.chat_template.templates import ChatTemplate
from app.data.chat_template.tokenizer import load_tokenizer as read_tokenizer
from app.data.chat_template.turn_end import turn_ends
from app.errors import TemplateError
from app.models.loading import load_tokenizer

# Marks that no template writes; letters only, so that trimming and escaping leave them alone.
_SYSTEM, _USER, _ANSWER, _SECOND = "XSYSTEMX", "XUSERX", "XANSWERX", "XSECONDX"
# What every renderer of chat templates gives them, and the names by which they are told how to think.
_GIVEN = frozenset(
    ("messages", "tools", "add_generation_prompt", "strftime_now", "raise_exception", "custom_tools", "builtin_tools")
)
_THINKING = frozenset(
    ("enable_thinking", "thinking", "reasoning_effort", "thinking_budget", "enable_reasoning", "think")
)
_MOST_NAMED = 6
Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Frame:
    """The fixed text between turns.

    first: before the first question without a system message; before_system and after_system: around the system
    message and up to the first question, None where the template takes none. before_answer stands between a question
    and its answer, before_question between an answer and the next question, prompt behind the last question.
    """

    first: str
    before_system: str | None
    after_system: str
    before_answer: str
    before_question: str
    prompt: str


@dataclass(frozen=True)
class Turns:
    """A model's tokenizer and chat template. `frame` is None where the template does not frame turns by fixed text.

    `backend` is the `tokenizers.Tokenizer` that training uses, as it is stored; `tokenizer` names the special tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    backend: Tokenizer
    template: ChatTemplate
    frame: Frame | None
    end_tokens: tuple[str, ...]

    @property
    def end_token(self) -> int | None:
        """Return the id of the token that ends an answer, or None where it is not one token."""
        ends = turn_ends(self.template.source, self.template.special_tokens, self.tokenizer.get_added_vocab())
        return int(self.tokenizer.convert_tokens_to_ids(ends[0])) if ends else None

    @property
    def begins_itself(self) -> bool:
        """Tell whether the tokenizer puts the beginning-of-text token in front of every text."""
        begin = self.tokenizer.bos_token_id
        return begin is not None and list(self.backend.encode("a").ids)[:1] == [begin]

    @property
    def ends_itself(self) -> bool:
        """Tell whether the tokenizer puts the end-of-text token behind every text."""
        end = self.tokenizer.eos_token_id
        return end is not None and list(self.backend.encode("a").ids)[-1:] == [end]

    @property
    def end_texts(self) -> list[str]:
        """Return the texts at which an answer is over, the template's own first."""
        found = [] if self.end_token is None else [str(self.tokenizer.convert_ids_to_tokens(self.end_token))]
        if not found and self.frame is not None and self.frame.before_question.strip():
            found = [self.frame.before_question.strip()]
        return list(dict.fromkeys([*found, *self.end_tokens]))


def lost_in_a_frame(template: ChatTemplate) -> list[str]:
    """Return what a template does beyond framing turns, which is lost where only its fixed text is taken."""
    found = []
    if "strftime_now" in template.source:
        found.append(
            "The model's template writes the current date; here the date of the export is frozen into the prompt."
        )
    if _takes_tools(template):
        found.append("The model's template can offer tools; here it cannot, and tool calls do not work.")
    settings = _settings(template)
    if settings & _THINKING or "reasoning_content" in template.source:
        found.append("The model's template can switch thinking on and off; here it always stands as by default.")
    if others := sorted(settings - _THINKING):
        named = ", ".join(others[:_MOST_NAMED])
        found.append(f"The model's template has settings of its own ({named}); here they stand as by default.")
    return found


def _settings(template: ChatTemplate) -> set[str]:
    """Return the names that a template reads from its caller, beyond those that every renderer gives."""
    from jinja2 import TemplateSyntaxError, meta
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        compiled = _compile_jinja_template(template.source)
        named = meta.find_undeclared_variables(compiled.environment.parse(template.source))
    except TemplateSyntaxError:
        return set()
    return {name for name in named if name not in _GIVEN and not name.endswith("_token")} - set(compiled.globals)


def _takes_tools(template: ChatTemplate) -> bool:
    """Tell whether an offered tool changes the prompt; a template that only fails at it names them at least."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": "City"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": schema}}
    try:
        plain = template.render([_user(_USER)], None, generation_prompt=True)
        return template.render([_user(_USER)], [tool], generation_prompt=True) != plain
    except (TemplateError, ValueError):
        return "tools" in template.source


def read_turns(folder: Path) -> Turns:
    """Read the tokenizer and template of a model folder; a model without a template gets the plain one of training."""
    read = read_tokenizer(folder)
    return Turns(load_tokenizer(str(folder)), read.backend, read.template, find_frame(read.template), read.end_tokens)


def find_frame(template: ChatTemplate) -> Frame | None:
    """Return the fixed text around turns, or None where there is none."""
    try:
        asked = template.render([_user(_USER)], None, generation_prompt=True)
        talk = [_user(_USER), _answer(_ANSWER), _user(_SECOND), _answer("XMOREX"), _user("XLASTX")]
        long = template.render(talk, None, generation_prompt=True)
        first, prompt = _around(asked, _USER)
        before_answer, before_question = _between(long, _USER, _ANSWER), _between(long, _ANSWER, _SECOND)
        return Frame(first, *_system(template), before_answer, before_question, prompt)
    except (TemplateError, ValueError):
        return None


def _system(template: ChatTemplate) -> tuple[str | None, str]:
    try:
        text = template.render([{"role": "system", "content": _SYSTEM}, _user(_USER)], None, generation_prompt=True)
        return _around(text, _SYSTEM)[0], _between(text, _SYSTEM, _USER)
    except (TemplateError, ValueError):
        return None, ""


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _around(text: str, mark: str) -> tuple[str, str]:
    """Return what stands before and behind a mark. Raises ValueError when it is not there exactly once."""
    before, behind = text.split(mark)
    return before, behind


def _between(text: str, one: str, other: str) -> str:
    return _around(_around(text, one)[1], other)[0]
