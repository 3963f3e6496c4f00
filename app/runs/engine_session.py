"""The engine behind the columns of the playground: what is asked, on what, and how the answers come in."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.engine.client import Ask, EngineClient, wait_for_endpoint
from app.errors import EngineError, UsageError, keyed
from app.evaluation.conversation import MOST_COLUMNS, Answer, Column, Turn
from app.jobs.directory import JobDirectory
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.workspace import Workspace

# Text is drawn this often while it comes in; faster cannot be read.
REDRAW_S = 0.12
_LOOK_S = 0.3
_LONGEST_PROMPT = 100_000


@dataclass(frozen=True)
class Settings:
    """What holds for all columns.

    `temperature` 0 takes the likeliest token each time; `top_p` 1 and `top_k` 0 cut nothing of what is drawn from; a
    `repetition_penalty` above 1 makes tokens that occurred less likely.
    """

    system: str = ""
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int | None = None
    thinks: bool = True
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0

    def request(self, attempt: int = 0) -> dict[str, object]:
        """Return the settings as the protocol has them; asking again moves the seed on."""
        seed = None if self.seed is None else (self.seed + attempt) % 2**32
        quiet = {} if self.thinks else {"chat_template_kwargs": {"enable_thinking": False}}
        # What cuts and changes nothing is left out: a server of other people may not know it.
        plain = Settings()
        cuts = {name: getattr(self, name) for name in ("top_p", "top_k", "repetition_penalty")}
        changed = {name: value for name, value in cuts.items() if value != getattr(plain, name)}
        return {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": seed, **changed, **quiet}


def checked_system(system: object) -> str:
    """Return the system prompt. Raises UsageError for one that is too long."""
    text = str(system or "")
    if len(text) > _LONGEST_PROMPT:
        raise UsageError(
            keyed("the_system_prompt_is_too_long", "The system prompt is too long"),
            keyed(
                "more_than_characters", "more than {longest_prompt} characters", longest_prompt=f"{_LONGEST_PROMPT:,}"
            ),
            keyed("shorten_it", "shorten it"),
        )
    return text.strip()


def checked_prompt(prompt: object) -> str:
    """Return the question. Raises UsageError for none, or one that is too long."""
    text = str(prompt or "").strip()
    if not text:
        raise UsageError(
            keyed("there_is_no_prompt", "There is no prompt"), "", keyed("write_a_question", "write a question")
        )
    if len(text) > _LONGEST_PROMPT:
        raise UsageError(
            keyed("the_prompt_is_too_long", "The prompt is too long"),
            keyed(
                "more_than_characters", "more than {longest_prompt} characters", longest_prompt=f"{_LONGEST_PROMPT:,}"
            ),
            keyed("shorten_it", "shorten it"),
        )
    return text


@dataclass(frozen=True)
class Server:
    """Another OpenAI-compatible server, such as vLLM with the same adapters, and the models that are asked there."""

    url: str
    token: str = field(repr=False)
    models: tuple[str, ...]

    @classmethod
    def checked(cls, url: object, token: object, models: object) -> Server | None:
        """Read the form; None when no server is named. Raises UsageError for an address that is none."""
        address = str(url or "").strip().rstrip("/")
        if not address:
            return None
        refuse_address(address)
        names = tuple(dict.fromkeys(name.strip() for name in str(models or "").split(",") if name.strip()))
        if not names or len(names) > MOST_COLUMNS:
            raise UsageError(
                keyed("the_remote_server_has_no_columns", "The remote server has no columns"),
                keyed("name_1_to_of_its_models", "name 1 to {most_columns} of its models", most_columns=MOST_COLUMNS),
                "",
            )
        secret = str(token or "").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise UsageError(
                keyed("the_token_has_signs_that_no", "The token has signs that no header takes"),
                "",
                keyed("copy_it_again", "copy it again"),
            )
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
            keyed("is_no_address_of_a_server", "{address} is no address of a server", address=f"{address!r:.100}"),
            "",
            keyed("write_for_example_http_127_0", "write for example http://127.0.0.1:8000/v1"),
        )
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port or 80, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError):
        raise UsageError(
            keyed("cannot_be_found", "{host} cannot be found", host=f"{host!r:.100}"),
            keyed("no_machine_has_this_name", "no machine has this name"),
            keyed("check_the_address", "check the address"),
        ) from None
    if any(ipaddress.ip_address(str(one).partition("%")[0]).is_link_local for one in found):
        raise UsageError(
            keyed("is_not_asked", "{host} is not asked", host=f"{host!r:.100}"),
            keyed("link_local_addresses_can_hold_a", "link-local addresses can hold a machine's secrets"),
            "",
        )


@dataclass(frozen=True)
class Choice:
    """What is asked: adapters of the workspace, with or without the base; or the models of a remote server."""

    adapters: tuple[Artifact, ...] = ()
    base: bool = True
    server: Server | None = None

    @classmethod
    def checked(cls, workspace: Workspace, values: object, base: object, server: Server | None = None) -> Choice:
        """Read the form. Raises UsageError for adapters that cannot stand side by side, or too many columns."""
        if server is not None:
            return cls(base=False, server=server)
        chosen = tuple(artifacts.together(workspace, values))
        if len(chosen) + bool(base) > MOST_COLUMNS:
            raise UsageError(
                keyed("these_are_columns", "These are {len} columns", len=len(chosen) + bool(base)),
                keyed("fit_beside_one_another", "{most_columns} fit beside one another", most_columns=MOST_COLUMNS),
                "",
            )
        return cls(chosen, bool(base))


@contextmanager
def connected(client: EngineClient) -> Iterator[EngineClient]:
    """Close the connections at the end."""
    try:
        yield client
    finally:
        client.close()


@dataclass(frozen=True)
class Loading:
    """What an engine does before it serves, and since how many seconds. The phase is empty before it has begun."""

    phase: str
    seconds: float


def loading(workspace: Workspace, choice: Choice) -> Iterator[Loading | EngineClient]:
    """Yield what the engine does until it serves, and at last its client. Raises WorkbenchError when it cannot."""
    if choice.server is not None:
        yield EngineClient.at(choice.server.url, choice.server.token)
        return
    job = artifacts.engine_for(workspace, list(choice.adapters))
    yield from _starting(job)
    client = EngineClient(wait_for_endpoint(job, timeout_s=30.0))
    held = {model.id for model in client.models()}
    for artifact in choice.adapters:
        if artifact.column not in held:
            client.load_adapter(artifact.column, str(artifact.folder))
    yield client


def _starting(job: JobDirectory) -> Iterator[Loading]:
    began = time.monotonic()
    while (status := job.status()).phase != "serving":
        if status.final:
            raise EngineError(
                keyed("the_engine_did_not_start", "The engine did not start"),
                status.page_reason or status.state,
                keyed("see_the_log_of", "see the log of {id}", id=job.id),
            )
        yield Loading(status.phase, time.monotonic() - began)
        time.sleep(_LOOK_S)


def introduce(client: EngineClient, columns: Sequence[Column]) -> None:
    """Fill the headers with what the engine itself says of each column: hash, and a warning where there is one."""
    known = {model.id: model for model in client.models()}
    for column in columns:
        served = known.get(column.name)
        column.hash, column.warning = (served.adapter_hash, served.warning) if served else ("", "")
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
