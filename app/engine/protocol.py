"""The OpenAI chat protocol: requests as they come in, answers and errors as its clients expect them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.engine.rows import Done
from app.engine.sampling import Choice, Sampling

_MOST_STOPS, _LONGEST_STOP = 16, 200
_MOST_MIXED, _LARGEST_WEIGHT = 16, 100.0
# Settings, OpenAI's and vLLM's, that change an answer and are not offered; zero or empty is the same as absent.
_NOT_OFFERED = (
    *("tools", "functions", "frequency_penalty", "presence_penalty", "logit_bias", "audio", "prediction"),
    *("web_search_options", "stop_token_ids", "min_tokens", "ignore_eos", "bad_words", "logits_processors", "echo"),
    *("prompt_logprobs", "continue_final_message", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
# Settings of which only these values are offered.
_OFFERED_ONLY: dict[str, tuple[Any, ...]] = {
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "response_format": (None, {"type": "text"}),
}


class RequestError(Exception):
    """A request that is refused, in the words of the protocol."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """Return the error object."""
        return error_body(self.status, self.message, code=self.code, param=self.param)


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return an error object of the protocol."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_alone(cls, content: Any) -> Any:
        parts = content if isinstance(content, list) else []
        if any(isinstance(part, dict) and part.get("type", "text") != "text" for part in parts):
            raise ValueError("only parts of type text are offered")
        return content

    def plain(self) -> dict[str, str]:
        """Return role and text, as chat templates take them."""
        parts = self.content if isinstance(self.content, list) else None
        text = "".join(part.text for part in parts) if parts is not None else self.content
        return {"role": "system" if self.role == "developer" else self.role, "content": str(text or "")}


class _StreamOptions(BaseModel):
    include_usage: bool = False


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

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > _MOST_STOPS or any(len(text) > _LONGEST_STOP for text in stops):
            raise ValueError(f"at most {_MOST_STOPS} stop strings of {_LONGEST_STOP} characters")
        return stop

    def conversation(self) -> list[dict[str, str]]:
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
    refused = [name for name in _NOT_OFFERED if extra.get(name)]
    refused += [name for name, offered in _OFFERED_ONLY.items() if extra.get(name) not in offered]
    if refused:
        message = f"{refused[0]} is not offered by this server"
        if refused[0] in _OFFERED_ONLY:
            message = f"{refused[0]}: only {_OFFERED_ONLY[refused[0]][1]!r} is offered by this server"
        raise RequestError(400, message, param=refused[0], code="unsupported_parameter")
    return request


class Answer:
    """Builds the objects of one answer."""

    def __init__(self, identity: str, model: str, token_text: Any) -> None:
        """`token_text` turns a token id into its text."""
        self._identity, self._model, self._token_text = identity, model, token_text
        self._created = int(time.time())

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """Return a complete answer."""
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def choice(
        self, index: int, text: str, picked: list[Choice] | None, done: Done, workbench: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one choice of a complete answer."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(picked),
            "finish_reason": finish_reason(done),
            "workbench": workbench,
        }

    def chunk(self, index: int, delta: dict[str, Any], picked: list[Choice] | None = None) -> dict[str, Any]:
        """Return a piece of a streamed choice."""
        choice = {"index": index, "delta": delta, "logprobs": self._logprobs(picked), "finish_reason": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last_chunk(self, index: int, done: Done, workbench: dict[str, Any]) -> dict[str, Any]:
        """Return the piece that ends a streamed choice."""
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish_reason(done)}
        return {**self._head("chat.completion.chunk"), "choices": [{**choice, "workbench": workbench}]}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return the piece that carries the usage of a streamed answer."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._identity, "object": kind, "created": self._created, "model": self._model}

    def _logprobs(self, picked: list[Choice] | None) -> dict[str, Any] | None:
        if picked is None:
            return None
        return {"content": [self._token(choice) for choice in picked], "refusal": None}

    def _token(self, choice: Choice) -> dict[str, Any]:
        likeliest = [self._entry(token, logprob) for token, logprob in choice.likeliest]
        return {**self._entry(choice.token, choice.logprob or 0.0), "top_logprobs": likeliest}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._token_text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def usage(ends: list[Done]) -> dict[str, int]:
    """Return the token counts of an answer; the prompt counts once."""
    prompt, completion = ends[0].prompt_tokens, sum(end.tokens for end in ends)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def finish_reason(done: Done) -> str:
    """Return the end of a row in the protocol's words."""
    return "stop" if done.finish == "cancelled" else done.finish
