"""What the shared controls of the playground ask for, and how its columns and its engine are called on the page."""

from __future__ import annotations

from app.engine.requests import BASE
from app.evaluation.conversation import Column
from app.runs.engine_session import Choice, Loading, Settings, checked_system
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.ui.components import number_format
from app.ui.components.number_fields import FieldFault, NumberField
from app.ui.shell.language import Key, Translator

TOKENS = NumberField("wb-most-tokens", Key("play.max_tokens"), 1, 8192)
TEMPERATURE = NumberField("wb-temperature", Key("play.temperature"), 0, 2)
SEED = NumberField("wb-seed", Key("play.seed"), 0, 2**32 - 1, may_be_empty=True)

TOP_P = NumberField("wb-top-p", Key("play.top_p"), 0, 1, above_low=True, may_be_empty=True)
TOP_K = NumberField("wb-top-k", Key("play.top_k"), 0, 1_000_000, may_be_empty=True)
PENALTY = NumberField("wb-repetition-penalty", Key("play.repetition_penalty"), 0.5, 2, may_be_empty=True)


def settings(
    system: object,
    max_tokens: object,
    temperature: object,
    seed: object,
    thinks: object = True,
    top_p: object = None,
    top_k: object = None,
    penalty: object = None,
) -> Settings:
    """Read the form. Raises UsageError for what no engine would take."""
    text = checked_system(system)
    most, warmth = TOKENS.whole(max_tokens), TEMPERATURE.real(temperature)
    assert most is not None and warmth is not None  # neither field may be empty
    cuts = (TOP_P.real(top_p) or 1.0, TOP_K.whole(top_k) or 0, PENALTY.real(penalty) or 1.0)
    return Settings(text, most, warmth, SEED.whole(seed), thinks is not False, *cuts)


def number_faults(
    max_tokens: object,
    temperature: object,
    seed: object,
    top_p: object = None,
    top_k: object = None,
    penalty: object = None,
) -> list[FieldFault]:
    """Return what is wrong with each of the numbers that hold for all columns."""
    found = []
    fields = [(TOKENS.whole, max_tokens), (TEMPERATURE.real, temperature), (SEED.whole, seed)]
    fields += [(TOP_P.real, top_p), (TOP_K.whole, top_k), (PENALTY.real, penalty)]
    for read, value in fields:
        try:
            read(value)
        except FieldFault as fault:
            found.append(fault)
    return found


def columns(choice: Choice, t: Translator) -> list[Column]:
    """Return the columns as their headers begin."""
    if choice.server is not None:
        return [Column(name, name, [t("play.elsewhere")], key=f"server:{name}") for name in choice.server.models]
    model = choice.adapters[0].config.model.name
    found = [Column(BASE, t("play.base"), [model], key=f"base:{model}")] if choice.base else []
    return found + [_column(artifact, t) for artifact in choice.adapters]


def _column(artifact: Artifact, t: Translator) -> Column:
    if artifact.whole:
        made = t("play.merged" if "-merge-" in artifact.job.id else "play.whole", base=artifact.config.model.name)
        stored = t("play.stored", how=artifacts.QUANTS[artifact.quant])
        return Column(artifact.column, artifact.name, [made, stored, artifact.job.id])
    details = [t("play.rank", rank=artifact.rank), t("play.on_base", base=artifact.config.model.name)]
    if artifact.step is not None:
        details.append(t("play.step", step=artifact.step))
    details.append(artifact.job.id)
    return Column(artifact.column, artifact.name, details)


def told(loading: Loading, t: Translator) -> str:
    """Return what an engine does, in words."""
    phase = t.known(f"phase.{loading.phase}", loading.phase or t("play.starting"))
    return t("play.loading", what=phase, seconds=number_format.count(loading.seconds))
