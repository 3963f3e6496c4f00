"""The OpenAI chat protocol: requests as they come in, answers and errors as its clients expect them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.engine.batching.sampling import Choice, Sampling
from app.engine.batching.sequence import Done

_MOST_STOPS, _LONGEST_STOP = 16, 200
_MOST_MIXED, _LARGEST_WEIGHT = 16, 100.0
# Settings beyond the protocol's that change no answer. Any other name that says something is refused: an answer that
# was made without heeding it would look as if it were heeded.
_CHANGES_NOTHING = frozenset(
    (
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "request_id"),
        *(
            "prompt_cache_key",
            "prompt_cache_retention",
            "cache_prompt",
            "keep_alive",
            "priority",
            "id_slot",
            "provider",
        ),
    )
)
# Settings of which only these values are offered; of any other, nothing, zero and false are the same as absent.
_OFFERED_ONLY: dict[str, tuple[object, ...]] = {
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "response_format": (None, {"type": "text"}, {}),
    "add_generation_prompt": (None, True),
    "skip_special_tokens": (None, True),
    "spaces_between_special_tokens": (None, True),
    "enable_thinking": (None,),
    "best_of": (None, 1),
    **dict.fromkeys(("length_penalty", "typical_p", "repeat_penalty", "tfs_z"), (None, 1)),
}
# What other servers call a setting that goes by another name here.
_CALLED_HERE = {
    "repeat_penalty": "repetition_penalty",
    **dict.fromkeys(("num_predict", "n_predict", "max_new_tokens", "max_length"), "max_tokens"),
    **dict.fromkeys(("enable_thinking", "thinking", "reasoning_effort"), "chat_template_kwargs"),
}


class RequestError(Exception):
    """A request that is refused, in the words of the protocol."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, object]:
        """Return the error object."""
        return error_body(self.status, self.message, code=self.code, param=self.param)


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """Return an error object of the protocol."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Function(BaseModel):
    name: str
    arguments: dict[str, object] = {}

    @field_validator("arguments", mode="before")
    @classmethod
    def _parsed(cls, arguments: object) -> object:
        """Read the JSON text that the protocol has as the object that chat templates take; nothing is no argument."""
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            return {}
        if not isinstance(arguments, str):
            return arguments
        try:
            found = json.loads(arguments)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("arguments must be a JSON object")
        return found


class _ToolCall(BaseModel):
    id: str | None = None
    type: Literal["function"] = "function"
    function: _Function

    def plain(self) -> dict[str, object]:
        """Return the call as chat templates read it, and as it is trained."""
        call: dict[str, object] = {"type": "function", "function": self.function.model_dump()}
        return {"id": self.id, **call} if self.id else call


# Of a message, what a client may hand back and no template reads.
_NOTES = {"id", "annotations", "cache_control"}


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_ToolCall] | None = None
    # One thing by three names: DeepSeek's and vLLM's, OpenRouter's, and that of gpt-oss.
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None

    @model_validator(mode="after")
    def _nothing_else(self) -> _Message:
        strange = [name for name, value in (self.model_extra or {}).items() if value and name not in _NOTES]
        if strange:
            raise ValueError(f"{strange[0]:.60} is not offered in a message")
        return self

    @model_validator(mode="after")
    def _asks_something(self) -> _Message:
        if self.role in ("user", "system", "developer") and self.content in (None, []):
            raise ValueError(f"the message of the {self.role} has no content")
        return self

    @field_validator("content", mode="before")
    @classmethod
    def _text_alone(cls, content: object) -> object:
        if content is not None and not isinstance(content, (str, list)):
            raise ValueError("content must be a text or a list of parts")
        parts = content if isinstance(content, list) else []
        if any(isinstance(part, dict) and part.get("type", "text") != "text" for part in parts):
            raise ValueError("only parts of type text are offered")
        if not all(isinstance(part, dict) and "type" in part and isinstance(part.get("text"), str) for part in parts):
            raise ValueError('a part must be {"type": "text", "text": "..."}')
        return content

    def plain(self) -> dict[str, object]:
        """Return the message as chat templates take it; what is empty is left out."""
        parts = self.content if isinstance(self.content, list) else None
        text = "".join(part.text for part in parts) if parts is not None else self.content
        more = {
            "reasoning_content": self.reasoning_content or self.reasoning or self.thinking,
            "tool_calls": [call.plain() for call in self.tool_calls or ()],
            "name": self.name,
            "tool_call_id": self.tool_call_id,
        }
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": str(text or ""), **{name: value for name, value in more.items() if value}}


class _StreamOptions(BaseModel):
    include_usage: bool = False


# Fields of a request that are numbers; pydantic takes true for 1.
_NUMBERS = (
    *("n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "max_completion_tokens"),
    *("seed", "top_logprobs"),
)


class ChatRequest(BaseModel):
    """A chat request. Fields beyond the protocol: top_k, min_p, repetition_penalty, chat_template_kwargs, mix.

    `mix` (adapter name to weight) asks the base with the weighted sum of several loaded adapters.
    """

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[_Message] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: int = Field(1, ge=1, le=16)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    chat_template_kwargs: dict[str, bool | int | float | str] = {}
    mix: dict[str, Annotated[float, Field(ge=-_LARGEST_WEIGHT, le=_LARGEST_WEIGHT, allow_inf_nan=False)]] | None = (
        Field(None, min_length=1, max_length=_MOST_MIXED)
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, found: object) -> object:
        """Take a field that is null for one that is not there, as OpenAI's own server does."""
        return _without_nulls(found) if isinstance(found, dict) else found

    @field_validator(*_NUMBERS, mode="before")
    @classmethod
    def _no_truth_value(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("true and false are no numbers")
        return value

    @model_validator(mode="after")
    def _asks_for_what_it_counts(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > _MOST_STOPS or any(len(text) > _LONGEST_STOP for text in stops):
            raise ValueError(f"at most {_MOST_STOPS} stop strings of {_LONGEST_STOP} characters")
        return stop

    def conversation(self) -> list[dict[str, object]]:
        """Return the messages as chat templates take them."""
        return [message.plain() for message in self.messages]

    def sampling(self, room: int, choice: int = 0) -> Sampling:
        """Return the rules of one choice; `room` is the longest answer that the model's context leaves."""
        wanted = self.max_completion_tokens or self.max_tokens or room
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            max_tokens=min(wanted, room),
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            seed=None if self.seed is None else self.seed + choice,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


def parse_chat(body: bytes) -> ChatRequest:
    """Read a chat request. Raises RequestError with status 400."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise RequestError(400, message, param=where) from None
    extra = request.model_extra or {}
    if name := next((name for name, value in extra.items() if not _is_heeded(name, value)), None):
        message = f"{name:.60} is not offered by this server"
        if name in _CALLED_HERE:
            message = f"{name} is called {_CALLED_HERE[name]} here"
        elif offered := _OFFERED_ONLY.get(name):
            message = f"{name}: only {offered[1]!r} is offered by this server"
        raise RequestError(400, message, param=name, code="unsupported_parameter")
    return request


def _is_heeded(name: str, value: object) -> bool:
    """Say whether an answer is as a setting beyond the known ones wants it."""
    if name in _OFFERED_ONLY:
        return value in _OFFERED_ONLY[name]
    return not value or name in _CHANGES_NOTHING


def _without_nulls(value: object) -> object:
    """Return JSON without the members that are null, at any depth."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


class Answer:
    """Builds the objects of one answer."""

    def __init__(self, identity: str, model: str, token_text: Callable[[int], str]) -> None:
        """`token_text` turns a token id into its text."""
        self._identity, self._model, self._token_text = identity, model, token_text
        self._created = int(time.time())

    def whole(self, choices: list[dict[str, object]], usage: dict[str, object]) -> dict[str, object]:
        """Return a complete answer."""
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def choice(
        self, index: int, text: str, picked: list[Choice] | None, done: Done, workbench: dict[str, object]
    ) -> dict[str, object]:
        """Return one choice of a complete answer."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(picked),
            "finish_reason": finish_reason(done),
            "workbench": workbench,
        }

    def chunk(self, index: int, delta: dict[str, object], picked: list[Choice] | None = None) -> dict[str, object]:
        """Return a piece of a streamed choice."""
        choice = {"index": index, "delta": delta, "logprobs": self._logprobs(picked), "finish_reason": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last_chunk(self, index: int, done: Done, workbench: dict[str, object]) -> dict[str, object]:
        """Return the piece that ends a streamed choice."""
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish_reason(done)}
        return {**self._head("chat.completion.chunk"), "choices": [{**choice, "workbench": workbench}]}

    def usage_chunk(self, usage: dict[str, object]) -> dict[str, object]:
        """Return the piece that carries the usage of a streamed answer."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self._identity, "object": kind, "created": self._created, "model": self._model}

    def _logprobs(self, picked: list[Choice] | None) -> dict[str, object] | None:
        if picked is None:
            return None
        return {"content": [self._token(choice) for choice in picked], "refusal": None}

    def _token(self, choice: Choice) -> dict[str, object]:
        likeliest = [self._entry(token, logprob) for token, logprob in choice.likeliest]
        return {**self._entry(choice.token, choice.logprob or 0.0), "top_logprobs": likeliest}

    def _entry(self, token: int, logprob: float) -> dict[str, object]:
        text = self._token_text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def usage(ends: list[Done]) -> dict[str, object]:
    """Return the token counts of an answer; the prompt counts once, with what was known of it from an earlier turn."""
    prompt, completion = ends[0].prompt_tokens, sum(end.tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": ends[0].cached_tokens},
    }


def finish_reason(done: Done) -> str:
    """Return the end of a row in the protocol's words."""
    return "stop" if done.finish == "cancelled" else done.finish
