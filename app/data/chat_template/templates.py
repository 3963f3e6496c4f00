"""Chat templates: render the model's own, or a plain one for models that have none.

Rendering goes through transformers' sandboxed renderer, so that what is trained is what the engine will send. A
template is foreign code: its time is limited here, its memory by the data child in which previews are rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.data.chat_template.cpu_limit import CpuLimitExceeded, cpu_limit
from app.data.formats.conversation import Message
from app.errors import TemplateError, foreign_code, one_line

# Rendering takes well under a millisecond; a template that is still busy after this is looping.
RENDER_LIMIT_S = 1.0

_INSTRUCTION = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{ message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' -%}
{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}
{%- else -%}
{{ raise_exception('The plain template instruction has no ' + message['role'] + ' turns') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""

_DIALOGUE = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{ message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' -%}
{{ 'User:\\n' + message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ 'Assistant:\\n' + message['content'] + eos_token + '\\n\\n' }}
{%- else -%}
{{ raise_exception('The plain template dialogue has no ' + message['role'] + ' turns') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:\\n' }}{%- endif -%}
"""

_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

# The answers begin on a line of their own, so that no token joins the heading and the answer.
PLAIN_TEMPLATES = {"instruction": _INSTRUCTION, "dialogue": _DIALOGUE, "chatml": _CHATML}


class RenderingError(TemplateError):
    """The template itself refused or crashed, as against writing something that cannot be masked."""


class EndlessTemplateError(RenderingError):
    """The template computes without end; there is no point in asking it again."""


@contextmanager
def render_limit() -> Iterator[None]:
    """Raise EndlessTemplateError in a rendering that takes too long."""
    try:
        with cpu_limit(RENDER_LIMIT_S):
            yield
    except CpuLimitExceeded as error:
        raise EndlessTemplateError(
            f"The chat template still computes after {RENDER_LIMIT_S:g} seconds",
            str(error),
            "Choose another chat template",
        ) from error


@contextmanager
def rendering() -> Iterator[None]:
    """Raise RenderingError for whatever a template raises, from KeyError to MemoryError, and where it never ends."""
    with foreign_code(_refusal), render_limit():
        yield


def _refusal(error: Exception) -> RenderingError:
    if isinstance(error, MemoryError):
        return EndlessTemplateError(
            "The chat template fills the memory", "It writes without end", "Choose another chat template"
        )
    return RenderingError(
        "The chat template cannot render this conversation",
        one_line(error),
        "Change the row (roles, order, tools), or choose another chat template",
    )


@dataclass(frozen=True)
class ChatTemplate:
    """A template's source, where it came from, and the special tokens it may write."""

    source: str
    origin: str
    special_tokens: dict[str, str]

    def render(self, messages: list[Message], tools: list[Message] | None, generation_prompt: bool = False) -> str:
        """Render one conversation; raise TemplateError with the template's own complaint."""
        from transformers.utils.chat_template_utils import render_jinja_template

        with rendering():
            rendered, _ = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self.source,
                add_generation_prompt=generation_prompt,
                **self.special_tokens,
            )
        return str(rendered[0])


def plain_template(name: str, special_tokens: dict[str, str]) -> ChatTemplate:
    """Return a plain template by name."""
    if name not in PLAIN_TEMPLATES:
        raise TemplateError(
            f"{name} is no plain chat template", f"There are {', '.join(PLAIN_TEMPLATES)}", "Choose one of them"
        )
    return ChatTemplate(PLAIN_TEMPLATES[name], f"the plain template {name}", special_tokens)
