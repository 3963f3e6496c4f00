"""The engine behind the columns: which are asked, on what, and how their answers come in."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app.engine.client import Ask, EngineClient, wait_for_endpoint
from app.engine.requests import BASE
from app.errors import EngineError, UsageError
from app.jobs.directory import JobDirectory
from app.ui import figures, trials
from app.ui.language import Speech
from app.ui.playground.conversation import MOST_COLUMNS, Answer, Column, Turn
from app.ui.trials import Trial
from app.workspace import Workspace

# Text is drawn this often while it comes in; faster cannot be read.
REDRAW_S = 0.12
_LOOK_S = 0.3
_LONGEST_PROMPT = 100_000


@dataclass(frozen=True)
class Settings:
    """What holds for all columns. `temperature` 0 takes the likeliest token each time."""

    system: str = ""
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int | None = None
    thinks: bool = True

    @classmethod
    def checked(cls, system: Any, max_tokens: Any, temperature: Any, seed: Any, thinks: Any = True) -> Settings:
        """Read the form. Raises UsageError for what no engine would take."""
        if len(str(system or "")) > _LONGEST_PROMPT:
            raise UsageError("The system prompt is too long", f"more than {_LONGEST_PROMPT:,} characters", "shorten it")
        if not isinstance(max_tokens, (int, float)) or not 1 <= max_tokens <= 8192:
            raise UsageError("The number of tokens is out of range", "", "choose 1 to 8,192")
        if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 2:
            raise UsageError("The temperature is out of range", "", "choose 0 to 2; 0 takes the likeliest token")
        if seed is not None and (not isinstance(seed, (int, float)) or not 0 <= seed < 2**32):
            raise UsageError("The seed is out of range", "", "choose 0 to 4,294,967,295, or none")
        whole = None if seed is None else int(seed)
        return cls(str(system or "").strip(), int(max_tokens), float(temperature), whole, thinks is not False)

    def request(self, attempt: int = 0) -> dict[str, Any]:
        """Return the settings as the protocol has them; asking again moves the seed on."""
        seed = None if self.seed is None else (self.seed + attempt) % 2**32
        quiet = {} if self.thinks else {"chat_template_kwargs": {"enable_thinking": False}}
        return {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": seed, **quiet}


def checked_prompt(prompt: Any) -> str:
    """Return the question. Raises UsageError for none, or one that is too long."""
    text = str(prompt or "").strip()
    if not text:
        raise UsageError("There is no prompt", "", "write a question")
    if len(text) > _LONGEST_PROMPT:
        raise UsageError("The prompt is too long", f"more than {_LONGEST_PROMPT:,} characters", "shorten it")
    return text


@dataclass(frozen=True)
class Server:
    """Another OpenAI-compatible server, such as vLLM with the same adapters, and the models that are asked there."""

    url: str
    token: str = field(repr=False)
    models: tuple[str, ...]

    @classmethod
    def checked(cls, url: Any, token: Any, models: Any) -> Server | None:
        """Read the form; None when no server is named. Raises UsageError for an address that is none."""
        address = str(url or "").strip().rstrip("/")
        if not address:
            return None
        refuse_address(address)
        names = tuple(dict.fromkeys(name.strip() for name in str(models or "").split(",") if name.strip()))
        if not names or len(names) > MOST_COLUMNS:
            raise UsageError("The other server has no columns", f"name 1 to {MOST_COLUMNS} of its models", "")
        secret = str(token or "").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise UsageError("The token has signs that no header takes", "", "copy it again")
        return cls(address, secret, names)


def refuse_address(address: str) -> None:
    """Refuse what is no web address, and those that a cloud answers with its own secrets (link-local ones)."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        raise UsageError(
            f"{address!r:.100} is no address of a server", "", "write for example http://127.0.0.1:8000/v1"
        )
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port or 80, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError):
        raise UsageError(f"{host!r:.100} cannot be found", "no machine has this name", "check the address") from None
    if any(ipaddress.ip_address(str(one).partition("%")[0]).is_link_local for one in found):
        raise UsageError(f"{host!r:.100} is not asked", "link-local addresses can hold a machine's secrets", "")


@dataclass(frozen=True)
class Choice:
    """What is asked: adapters of the workspace, with or without the base; or the models of another server."""

    trials: tuple[Trial, ...] = ()
    base: bool = True
    server: Server | None = None

    @classmethod
    def checked(cls, workspace: Workspace, values: Any, base: Any, server: Server | None = None) -> Choice:
        """Read the form. Raises UsageError for adapters that cannot stand side by side, or too many columns."""
        if server is not None:
            return cls(base=False, server=server)
        chosen = tuple(trials.together(workspace, values))
        if len(chosen) + bool(base) > MOST_COLUMNS:
            raise UsageError(
                f"These are {len(chosen) + bool(base)} columns", f"{MOST_COLUMNS} fit beside one another", ""
            )
        return cls(chosen, bool(base))

    def columns(self, say: Speech) -> list[Column]:
        """Return the columns as their headers begin."""
        if self.server is not None:
            return [Column(name, name, [say("play.elsewhere")], key=f"server:{name}") for name in self.server.models]
        model = self.trials[0].config.model.name
        found = [Column(BASE, say("play.base"), [model], key=f"base:{model}")] if self.base else []
        return found + [_column(trial, say) for trial in self.trials]


def _column(trial: Trial, say: Speech) -> Column:
    if trial.whole:
        made = say("play.merged" if "-merge-" in trial.job.id else "play.whole", base=trial.config.model.name)
        stored = say("play.stored", how=trials.QUANTS[trial.quant])
        return Column(trial.column, trial.name, [made, stored, trial.job.id])
    details = [say("play.rank", rank=trial.rank), say("play.on_base", base=trial.config.model.name)]
    if trial.step is not None:
        details.append(say("play.step", step=trial.step))
    details.append(trial.job.id)
    return Column(trial.column, trial.name, details)


@contextmanager
def connected(client: EngineClient) -> Iterator[EngineClient]:
    """Close the connections at the end."""
    try:
        yield client
    finally:
        client.close()


def loading(workspace: Workspace, choice: Choice, say: Speech) -> Iterator[str | EngineClient]:
    """Yield what the engine does until it serves, and at last its client. Raises WorkbenchError when it cannot."""
    if choice.server is not None:
        yield EngineClient.at(choice.server.url, choice.server.token)
        return
    job = trials.engine_for(workspace, list(choice.trials))
    yield from _starting(job, say)
    client = EngineClient(wait_for_endpoint(job, timeout_s=30.0))
    _load_missing(client, choice.trials)
    yield client


def _starting(job: JobDirectory, say: Speech) -> Iterator[str]:
    began = time.monotonic()
    while (status := job.status()).phase != "serving":
        if status.final:
            raise EngineError(
                "The engine did not start", status.page_reason or status.state, f"see the log of {job.id}"
            )
        phase = say.known(f"phase.{status.phase}", status.phase or say("play.starting"))
        yield say("play.loading", what=phase, seconds=figures.count(time.monotonic() - began))
        time.sleep(_LOOK_S)


def _load_missing(client: EngineClient, chosen: Sequence[Trial]) -> None:
    held = {model["id"] for model in client.models()}
    for trial in chosen:
        if trial.column not in held:
            client.load_adapter(trial.column, str(trial.folder))


def introduce(client: EngineClient, columns: Sequence[Column]) -> None:
    """Fill the headers with what the engine itself says of each column: hash, and a warning where there is one."""
    known: Mapping[str, Any] = {model["id"]: model.get("workbench") or {} for model in client.models()}
    for column in columns:
        facts = known.get(column.name, {})
        column.hash = str(facts.get("adapter_hash") or "")
        column.warning = str(facts.get("warning") or "")
        column.key = column.key or column.hash


def first_messages(prompt: str, system: str) -> list[dict[str, str]]:
    """Return the messages of a conversation of one question."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": prompt}]


def open_turn(prompt: str, columns: Sequence[Column]) -> Turn:
    """Return a question with an empty answer for each column."""
    return Turn(prompt, {column.name: Answer() for column in columns})


def stream(client: EngineClient, asks: Sequence[Ask], answers: Mapping[str, Answer]) -> Iterator[None]:
    """Fill the answers as text comes in; yield whenever there is something to draw, and once at the end."""
    began, drawn = time.monotonic(), 0.0
    for event in client.answers(asks):
        now = time.monotonic()
        answers[event.column].take(event, now - began)
        if now - drawn > REDRAW_S:
            drawn = now
            yield
    yield
