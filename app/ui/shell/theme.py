"""The look of the page in one place: colour roles for light and dark, fonts, and the framework's theme built on them.

Every colour of the page is one of these roles; charts, tables and the framework's own controls take them from CSS
variables, so light and dark need nothing else. tests/ui/shell/test_theme.py computes the contrast of every text pair.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.ui.components import icons, library_names
from app.ui.shell.language import NAMES, of_scripts

if TYPE_CHECKING:
    import gradio as gr

_FOLDER = Path(__file__).parent / "static"
# What the scripts say, by its key. While the page loads, its language is the browser's whole one, such as zh-CN.
_SAY = '(texts) => (key) => (texts[document.documentElement.lang.split("-")[0]] || texts.en)[key]'
_SCRIPTS = ("answers.js", "page.js", "shell.js", "keys.js", "charts.js")


@dataclass(frozen=True)
class Roles:
    """One set of colours, as #rrggbb."""

    page: str
    surface: str
    raised: str
    line: str
    field_line: str
    text: str
    muted: str
    accent: str
    accent_strong: str
    on_accent: str
    tint: str
    good: str
    warn: str
    bad: str


LIGHT = Roles(
    page="#fafbfc",
    surface="#ffffff",
    raised="#eceff3",
    line="#d9dee5",
    field_line="#7d8794",
    text="#1a1f26",
    muted="#525c69",
    accent="#1d5fa8",
    accent_strong="#174c87",
    on_accent="#ffffff",
    tint="#dce9f8",
    good="#1b6e3c",
    warn="#7a5200",
    bad="#ad2a22",
)
DARK = Roles(
    page="#12151a",
    surface="#1a1e25",
    raised="#242a33",
    line="#313845",
    field_line="#76818f",
    text="#e7eaee",
    muted="#a7b0bc",
    accent="#82b4f0",
    accent_strong="#a5c9f5",
    on_accent="#0d1a2b",
    tint="#20344d",
    good="#6fcf8f",
    warn="#e5b454",
    bad="#ff9389",
)

_FRONTS = ("text", "muted", "accent", "good", "warn", "bad")
# Every text colour with every ground it stands on.
TEXT_PAIRS = (
    *((front, ground) for front in _FRONTS for ground in ("page", "surface", "raised")),
    ("on_accent", "accent"),
    ("on_accent", "accent_strong"),
    ("text", "tint"),
    ("accent_strong", "tint"),
)

# Parts of memory keep their colour everywhere. Okabe and Ito's set, which most colour-blind people can tell apart
# (Okabe & Ito 2008, "Color Universal Design"), with two greys for what belongs to nobody.
PART_COLOURS = {
    "base_weights": "#0072b2",
    "adapter_weights": "#e69f00",
    "gradients": "#d55e00",
    "optimizer": "#cc79a7",
    "activations": "#009e73",
    "logits": "#56b4e9",
    "scratch": "#f0e442",
    "kv_cache": "#8c6bb1",
    "cuda_context": "#8a929c",
    "allocator_reserve": "#b9c0c9",
}
# Curves and columns beside one another, in this order: the same set, darker or lighter, so that thin lines are seen.
SERIES_LIGHT = ("#0072b2", "#c24e00", "#00805f", "#a4497f", "#6b5b00", "#5b6570")
SERIES_DARK = ("#56b4e9", "#f28c4a", "#35c79b", "#e0a3c9", "#f0e442", "#b9c0c9")

# System fonts only; the second half are the CJK faces of Windows, macOS, Android and Linux.
FONT = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "sans-serif",
)
FONT_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Consolas", "DejaVu Sans Mono", "Noto Sans Mono", "monospace")


def variables() -> str:
    """Return the colour roles as CSS variables, `--wb-text` and so on, for light and dark."""
    parts = {f"part-{name}": colour for name, colour in PART_COLOURS.items()}
    light = _declarations({**asdict(LIGHT), **parts, **_series(SERIES_LIGHT)})
    dark = _declarations({**asdict(DARK), **_series(SERIES_DARK)})
    return f":root{{color-scheme:light;{light}}}\n.dark{{color-scheme:dark;{dark}}}\n"


def _series(colours: tuple[str, ...]) -> dict[str, str]:
    return {f"series-{index}": colour for index, colour in enumerate(colours)}


def _declarations(colours: dict[str, str]) -> str:
    return "".join(f"--wb-{name.replace('_', '-')}:{colour};" for name, colour in colours.items())


def style() -> str:
    """Return the page's style sheet."""
    return (_FOLDER / "page.css").read_text(encoding="utf-8") + library_names.style()


def frame() -> str:
    """Return the styles of the document's head: colours and frame, so that nothing flashes."""
    return f"<style>{variables()}{icons.variables()}{(_FOLDER / 'frame.css').read_text(encoding='utf-8')}</style>"


def scripts() -> str:
    """Return the page's small scripts as one, and the words that they say."""
    texts = json.dumps({language: of_scripts(language) for language in NAMES}, ensure_ascii=False)
    read = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f"<script>window.workbenchSay = ({_SAY})({texts});{read}</script>"


def theme() -> gr.themes.Base:
    """Return the framework's theme, every colour of which is one of our roles."""
    import gradio as gr

    base = gr.themes.Base(font=list(FONT), font_mono=list(FONT_MONO), text_size="sm", radius_size="sm")
    roles = {name: f"var(--wb-{value[1:]})" if value.startswith("@") else value for name, value in _THEME.items()}
    dark = {f"{name}_dark": value for name, value in roles.items() if hasattr(base, f"{name}_dark")}
    return base.set(**roles, **dark)


_THEME = {
    "body_background_fill": "@page",
    "body_text_color": "@text",
    "body_text_color_subdued": "@muted",
    "background_fill_primary": "@surface",
    "background_fill_secondary": "@page",
    "border_color_primary": "@line",
    "border_color_accent": "@accent",
    "border_color_accent_subdued": "@accent",
    "color_accent": "@accent",
    "color_accent_soft": "@tint",
    "link_text_color": "@accent",
    "link_text_color_active": "@accent-strong",
    "link_text_color_hover": "@accent-strong",
    "link_text_color_visited": "@accent",
    "block_background_fill": "@surface",
    "block_border_color": "@line",
    "block_border_width": "1px",
    "block_info_text_color": "@muted",
    "block_label_background_fill": "@surface",
    "block_label_text_color": "@muted",
    "block_label_border_width": "0px",
    "block_label_shadow": "none",
    "block_title_text_color": "@text",
    "block_title_background_fill": "transparent",
    "block_title_text_weight": "500",
    "block_shadow": "none",
    "block_radius": "8px",
    "panel_background_fill": "@surface",
    "panel_border_color": "@line",
    "accordion_text_color": "@text",
    "table_text_color": "@text",
    "table_border_color": "@line",
    "table_even_background_fill": "@surface",
    "table_odd_background_fill": "@surface",
    "table_row_focus": "@tint",
    "code_background_fill": "@raised",
    "checkbox_background_color": "@surface",
    "checkbox_background_color_hover": "@surface",
    "checkbox_background_color_focus": "@surface",
    "checkbox_background_color_selected": "@accent",
    "checkbox_border_color": "@field-line",
    "checkbox_border_color_focus": "@accent",
    "checkbox_border_color_hover": "@accent",
    "checkbox_border_color_selected": "@accent",
    "checkbox_label_background_fill": "@surface",
    "checkbox_label_background_fill_hover": "@raised",
    "checkbox_label_background_fill_selected": "@tint",
    "checkbox_label_border_color": "@line",
    "checkbox_label_border_color_hover": "@field-line",
    "checkbox_label_border_color_selected": "@accent",
    "checkbox_label_border_width": "1px",
    "checkbox_label_padding": "6px 12px",
    "checkbox_label_shadow": "none",
    "checkbox_label_text_color": "@text",
    "checkbox_label_text_color_selected": "@text",
    "checkbox_shadow": "none",
    "error_background_fill": "@surface",
    "error_border_color": "@bad",
    "error_text_color": "@bad",
    "error_icon_color": "@bad",
    "input_background_fill": "@surface",
    "input_background_fill_focus": "@surface",
    "input_background_fill_hover": "@surface",
    "input_border_color": "@field-line",
    "input_border_color_focus": "@accent",
    "input_border_color_hover": "@accent",
    "input_border_width": "1px",
    "input_placeholder_color": "@muted",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_radius": "6px",
    "loader_color": "@accent",
    "slider_color": "@accent",
    "stat_background_fill": "@accent",
    "shadow_drop": "none",
    "shadow_drop_lg": "0 4px 16px rgba(0, 0, 0, 0.18)",
    "shadow_spread": "0px",
    "button_border_width": "1px",
    "button_transition": "none",
    "button_primary_background_fill": "@accent",
    "button_primary_background_fill_hover": "@accent-strong",
    "button_primary_border_color": "@accent",
    "button_primary_border_color_hover": "@accent-strong",
    "button_primary_text_color": "@on-accent",
    "button_primary_text_color_hover": "@on-accent",
    "button_primary_shadow": "none",
    "button_primary_shadow_hover": "none",
    "button_primary_shadow_active": "none",
    "button_secondary_background_fill": "@surface",
    "button_secondary_background_fill_hover": "@raised",
    "button_secondary_border_color": "@field-line",
    "button_secondary_border_color_hover": "@field-line",
    "button_secondary_text_color": "@text",
    "button_secondary_text_color_hover": "@text",
    "button_secondary_shadow": "none",
    "button_secondary_shadow_hover": "none",
    "button_secondary_shadow_active": "none",
    "button_cancel_background_fill": "@surface",
    "button_cancel_background_fill_hover": "@raised",
    "button_cancel_border_color": "@bad",
    "button_cancel_border_color_hover": "@bad",
    "button_cancel_text_color": "@bad",
    "button_cancel_text_color_hover": "@bad",
    "button_cancel_shadow": "none",
    "button_cancel_shadow_hover": "none",
    "button_cancel_shadow_active": "none",
}
