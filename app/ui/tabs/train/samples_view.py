"""The answers to a run's fixed prompts, as a table over steps."""

from __future__ import annotations

from app.jobs.directory import JobDirectory
from app.jobs.metrics import tail_rows
from app.ui.components import number_format
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator

_SHOWN_STEPS = 12


def samples(job: JobDirectory, t: Translator) -> Html:
    """Return the table, one column a prompt and one row a step; nothing for a run without fixed prompts."""
    rows = tail_rows(job.samples_file)
    prompts = list(dict.fromkeys(str(row.get("prompt", "")) for row in rows))
    if not prompts:
        return Html("")
    steps: dict[int, dict[str, str]] = {}
    for row in rows:
        if isinstance(row.get("step"), int):
            steps.setdefault(row["step"], {})[str(row.get("prompt", ""))] = str(row.get("answer", ""))
    heading = element("tr", *(element("th", text[:200]) for text in (t("train.samples.step"), *prompts)))
    body = [_row(step, [answers.get(prompt, "") for prompt in prompts], t) for step, answers in steps.items()]
    table = element("table", element("thead", heading), element("tbody", *body[-_SHOWN_STEPS:]))
    title = element("h3", t("train.samples"))
    return element("div", title, element("div", table, class_="wb-table", tabindex="0"))


def _row(step: int, answers: list[str], t: Translator) -> Html:
    when = t("train.samples.base") if step == 0 else number_format.count(step)
    cells = (element("td", text[:1000], class_="wb-cell") for text in answers)
    return element("tr", element("td", when, class_="wb-number"), *cells)
