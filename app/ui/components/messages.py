"""What went wrong, said where the hand is: what, why, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.errors import ConfigError, ModelError, NetworkError, PlanError, Problem, WorkbenchError
from app.planner.from_config import setting_of
from app.ui.components import icons
from app.ui.components.markup import Html, element, joined
from app.ui.components.number_fields import FieldFault
from app.ui.shell.language import Translator

# In an HTML block: what it says of a setting stands at that setting's control as well, and goes when it goes.
AT_FIELDS = """
// One box says what is wrong with the fields of one form: it takes away its own errors and no other's.
const owner = element.id || element.closest("[id]")?.id || "";
const clear = () => {
  document.querySelectorAll(`.wb-field-error[data-owner="${owner}"]`).forEach((said) => said.remove());
  document.querySelectorAll(`[aria-invalid][data-wb-marked="${owner}"]`).forEach((input) => {
    ["aria-invalid", "aria-describedby", "data-wb-marked"].forEach((name) => input.removeAttribute(name));
  });
};
const mark = () => {
  clear();
  element.querySelectorAll("[data-field]").forEach((problem) => {
    const place = document.getElementById(problem.dataset.field);
    if (!place) return;
    const said = document.createElement("div");
    said.className = "wb-field-error";
    said.dataset.owner = owner;
    said.id = problem.dataset.field + "-error";
    said.textContent = problem.dataset.said;
    place.append(said);
    place.querySelectorAll("input, textarea").forEach((input) => {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", said.id);
      input.setAttribute("data-wb-marked", owner);
    });
  });
};
watch("value", mark);
element.addEventListener("click", (event) => {
  const link = event.target.closest("button[data-goto]");
  const place = link && document.getElementById(link.dataset.goto);
  if (!place) return;
  place.scrollIntoView({ block: "center" });
  place.querySelector("input, textarea")?.focus();
});
mark();
"""
# The opening tag of a box stands within these.
_HEAD_CHARS = 200
# Settings whose controls are not named after them.
_CONTROLS = {"model.name": "wb-model", "adapter.method": "wb-method", "memory.vram_gb": "wb-card"}


@dataclass(frozen=True)
class Action:
    """A button that the page's script answers: it opens a tab (`tab:data`) or presses a control (`#wb-sample-0`)."""

    label: str
    goes_to: str


def element_id(name: str) -> str:
    """Return the id of a setting's control in the page."""
    return _CONTROLS.get(name) or "set-" + name.replace(".", "-").replace("_", "-")


def problem(error: WorkbenchError, t: Translator, faults: Mapping[str, str] | None = None, cause: str = "") -> Html:
    """Return an error as a box: what, why, what to do; of settings one line each, with the control that it is about.

    `faults` says in this language what is wrong with single settings, where that is known. `cause` is what the error
    goes away with, for a box that stays while it is true; `cause_of` reads it again.
    """
    box: dict[str, object] = {"class_": "wb-error", "role": "alert", "data_cause": cause or None}
    if isinstance(error, ConfigError):
        lines = [_at_control(one, t, (faults or {}).get(one.field)) for one in error.problems]
        head = t("wrong.settings", count=len(lines))
        return element("div", element("b", head), element("ul", *lines), **box)
    if isinstance(error, FieldFault):
        return number_fault(error, t)
    field = _field_of(error)
    if isinstance(error, PlanError) and field:
        line = _at_control(Problem(field, error.why, error.page_remedy), t, None)
        return element("div", element("b", t("wrong.settings", count=1)), element("ul", line), **box)
    return _told(error, element_id(field) if field else "", t, box)


def problem_at(error: WorkbenchError, control: str, t: Translator) -> Html:
    """Return an error as a box that is said at one control of the page as well, by the control's id."""
    return _told(error, control, t, {"class_": "wb-error", "role": "alert"})


def _told(error: WorkbenchError, control: str, t: Translator, box: Mapping[str, object]) -> Html:
    first, *more = (_closed(part, t) for part in (error.what, error.why, error.page_remedy) if part)
    rest = [f" {part[:1].upper()}{part[1:]}" for part in more]
    named = {"data_field": control, "data_said": first} if control else {}
    return element("div", element("b", first), *rest, **box, **named)


def _closed(part: str, t: Translator) -> str:
    """Return a part of an error in the page's language, with the stop of the language it is in."""
    said = t.heard(part)
    if said.endswith(("?", "\uff1f")):
        return said
    return said + (t("planner.stop") if said != part else ".")


def number_fault(error: FieldFault, t: Translator) -> Html:
    """Return what is wrong with a number's field as a box, which says it at the field as well."""
    label, said, at = t(error.field.label), error.said(t), error.field.element_id
    link = element("button", label, type="button", class_="wb-link", data_goto=at)
    line = element("div", link, ": ", said, data_field=at, data_said=said)
    return element("div", line, class_="wb-error", role="alert")


def number_faults(errors: Sequence[FieldFault], t: Translator) -> Html:
    """Return what is wrong with several fields, a box for each; empty for none."""
    return joined([number_fault(error, t) for error in errors])


def fault(text: str) -> Html:
    """Return what is wrong with one value as a box."""
    return element("div", text, class_="wb-error", role="alert")


def cause_of(shown: object) -> str:
    """Return what the error in a box goes away with; empty for a box without an error or one that names no cause."""
    found = re.search(r'data-cause="([a-z]+)"', shown[:_HEAD_CHARS]) if isinstance(shown, str) else None
    return found[1] if found else ""


def _field_of(error: WorkbenchError) -> str:
    """Return the setting that an error is about, empty where it is about none."""
    if isinstance(error, PlanError):
        return setting_of(error.field)
    return "model.name" if isinstance(error, (ModelError, NetworkError)) else ""


def _at_control(wrong: Problem, t: Translator, fault: str | None) -> Html:
    """Return a wrong setting as a line that leads to its control."""
    said = fault or t.heard(wrong.message)
    if wrong.remedy and not fault:
        remedy = _closed(wrong.remedy, t)
        said = f"{_closed(wrong.message, t)} {remedy[:1].upper()}{remedy[1:]}"
    label = t(f"setting.{wrong.field}.label")
    label = wrong.field if label.startswith("setting.") else label
    at = element_id(wrong.field)
    link = element("button", label, type="button", class_="wb-link", data_goto=at)
    name = element("code", wrong.field, class_="wb-muted")
    return element("li", link, " ", name, ": ", said, data_field=at, data_said=said)


def note(text: str) -> Html:
    """Return a quiet line."""
    return element("div", text, class_="wb-note wb-muted")


def empty(title: str, text: str, picture: str = "", action: Action | None = None) -> Html:
    """Return what stands where something will appear: an icon, two lines, and one way to get there."""
    drawn = icons.icon(picture, 44) if picture else ""
    return element("div", drawn, element("b", title), element("p", text), _button(action), class_="wb-empty")


def _button(action: Action | None) -> Html:
    if action is None:
        return Html("")
    return element("button", action.label, type="button", class_="wb-primary", data_go=action.goes_to)


def sentence(text: object) -> Html:
    """Return a tab's answer in one sentence."""
    return element("p", text, class_="wb-sentence")
