"""Every text of the page can be read: the contrast of each pair of colours, by WCAG 2.2's formula."""

from __future__ import annotations

import re
import warnings

import pytest

from app.ui.shell import theme

LEAST = 4.5
# Lines around fields and charts need less (WCAG 2.2, 1.4.11).
LEAST_LINE = 3.0


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_formula() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("roles", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "ground"), theme.TEXT_PAIRS)
def test_text_can_be_read(roles: theme.Roles, front: str, ground: str) -> None:
    assert contrast(getattr(roles, front), getattr(roles, ground)) >= LEAST


@pytest.mark.parametrize("roles", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_edges_of_fields_can_be_seen(roles: theme.Roles) -> None:
    assert contrast(roles.field_line, roles.surface) >= LEAST_LINE
    assert contrast(roles.accent, roles.surface) >= LEAST_LINE


@pytest.mark.parametrize(("roles", "series"), [(theme.LIGHT, theme.SERIES_LIGHT), (theme.DARK, theme.SERIES_DARK)])
def test_curves_can_be_seen(roles: theme.Roles, series: tuple[str, ...]) -> None:
    assert len(theme.SERIES_LIGHT) == len(theme.SERIES_DARK)
    for colour in series:
        assert contrast(colour, roles.surface) >= LEAST_LINE


def test_every_variable_of_the_style_is_a_role() -> None:
    defined = set(re.findall(r"(--wb-[a-z0-9-]+):", theme.variables()))
    used = set(re.findall(r"var\((--wb-[a-z0-9-]+)\)", theme.style()))
    assert used <= defined
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", re.sub(r"#wb-[a-z-]+", "", theme.style()))


def test_no_rule_loses_a_border_on_its_way() -> None:
    # The framework writes rules anew, and a shorthand with a variable is lost when a part of it follows.
    for rule in re.findall(r"\{([^{}]*)\}", theme.style()):
        if re.search(r"(?<![a-z-])border:[^;]*var\(", rule):
            assert not re.search(r"border-(top|right|bottom|left|width|style|color)", rule), rule


def test_nothing_is_loaded_from_elsewhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the framework's own imports
        made = theme.theme()
    assert not made._stylesheets
    for text in (theme.style(), theme.frame(), theme.scripts(), theme.variables()):
        # Our icons are drawn in the text itself; the namespace of SVG is a name and no address.
        own = text.replace('url("data:image/svg+xml,', "").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in own and "@import" not in own and "url(" not in own


def test_every_colour_of_the_framework_is_a_role() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = theme.theme()
    for name in theme._THEME:
        if theme._THEME[name].startswith("@"):
            assert getattr(made, name).startswith("var(--wb-")
            assert getattr(made, f"{name}_dark", None) in (None, getattr(made, name))
