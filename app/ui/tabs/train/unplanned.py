"""What the Plan and Data tabs show and the next run would not have: said beside Start, and taken over by one click."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.config.schema import RunConfig
from app.errors import ConfigError, UsageError, keyed
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.ui.components import forms, numbers
from app.ui.components.forms import FormValues
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator

_COMPARED = ("model.name", "memory.vram_gb", *forms.ORDER)
_LABELS = {"method": "plan.method", "memory.vram_gb": "plan.card"}
_MOST_NAMED = 6


@dataclass(frozen=True)
class Unplanned:
    """What differs: settings as (name, shown, the run's), the data's name, and whether the form cannot be used."""

    settings: tuple[tuple[str, object, object], ...] = field(default=())
    data: str = ""
    unusable: bool = False

    def __bool__(self) -> bool:
        return bool(self.settings or self.data or self.unusable)


def found(draft: Draft, seen: DatasetSelection, filled: FormValues) -> Unplanned:
    """Compare the filled form and the look at the data with what the draft would train."""
    data = seen.label or seen.file if seen.file and not is_same_data(seen, draft.config) else ""
    try:
        shown, kept = filled.config(draft.config), as_shown(draft.config)
    except ConfigError:
        return Unplanned(data=data, unusable=True)
    methods = ("method", forms.method_of(shown), forms.method_of(kept))
    pairs = [methods, *((name, _of(shown, name), _of(kept, name)) for name in _COMPARED)]
    return Unplanned(tuple(one for one in pairs if one[1] != one[2]), data)


def as_shown(config: RunConfig) -> RunConfig:
    """Return a config as the form would hold it: a card that the form does not offer is this machine's there."""
    return FormValues.showing(config).config(config)


def refuse(differing: Unplanned) -> None:
    """Raise UsageError where a run would have other settings or data than the page shows."""
    if differing:
        raise UsageError(
            keyed("nothing_started", "Nothing was started"),
            keyed("tabs_differ", "the tabs show other settings or data than the run would have"),
            keyed("take_over", "take over what is shown, or put it back, and press again"),
        )


def _of(config: RunConfig, name: str) -> object:
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)


def is_same_data(seen: DatasetSelection, config: RunConfig) -> bool:
    """Tell whether the data that is looked at is the data of a config, read and mended in the same way."""
    data = config.data
    mine = (seen.file, seen.format, dict(seen.mapping), list(seen.drop), list(seen.repair))
    same = mine == (data.file, data.format, data.mapping, data.drop, data.repair)
    return same and seen.over_length in ("", data.over_length)


def look_of(draft: Draft) -> DatasetSelection:
    """Return the look that shows the draft's own data."""
    data = draft.config.data
    lists = (tuple(data.drop), tuple(data.repair))
    return DatasetSelection(data.file, draft.label, data.format, data.mapping, *lists, over_length=data.over_length)


def notice(differing: Unplanned, draft: Draft, t: Translator) -> Html:
    """Return what differs, in words; nothing where nothing does."""
    if not differing:
        return Html("")
    lines: list[Html] = []
    if differing.unusable:
        lines.append(element("li", t("unplanned.unusable")))
    named = [element("li", _line(*one, t)) for one in differing.settings[:_MOST_NAMED]]
    rest = len(differing.settings) - _MOST_NAMED
    lines += [*named, *([element("li", t("unplanned.more", count=rest))] if rest > 0 else [])]
    if differing.data:
        key = "unplanned.data" if draft.config.data.file else "unplanned.first_data"
        lines.append(element("li", t(key, shown=differing.data, mine=draft.label or draft.config.data.file)))
    head = element("b", t("unplanned.head"))
    return element("div", head, element("ul", *lines), class_="wb-warning", role="status")


def _line(name: str, shown: object, mine: object, t: Translator) -> str:
    label = t(_LABELS.get(name, f"setting.{name}.label"))
    return t("unplanned.setting", setting=label, shown=_said(name, shown, t), mine=_said(name, mine, t))


def _said(name: str, value: object, t: Translator) -> str:
    if name == "method":
        return t(f"method.{value}")
    if name == "memory.vram_gb":
        return t("plan.this_machine") if value is None else f"{value:g} GB"
    if isinstance(value, bool):
        return t("unplanned.on" if value else "unplanned.off")
    if value is None or value in ("", []):
        return t("unplanned.none")
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = numbers.written(value) if isinstance(value, (int, float)) else text
    return text if len(text) <= 60 else text[:59] + "…"
