"""The service behind the protocol: requests become rows, rows become events on the server's loop."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.engine.batching.adapter_stack import Mix
from app.engine.batching.sampling import Choice
from app.engine.batching.sequence import DecodeSequence, Delta, Done, Event, Failed
from app.engine.batching.text import TextStream
from app.engine.http.protocol import Answer, ChatRequest, RequestError
from app.engine.scheduler import Decoder
from app.engine.variants import BASE, Variant, VariantSet
from app.errors import WorkbenchError
from app.models.adapter_files import locate
from app.models.prompts import PromptError, Prompts, PromptTooLong

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")


@dataclass
class Ended:
    """One choice of an answer, complete."""

    text: str
    picked: list[Choice] | None
    done: Done


class InFlightRequest:
    """One request under way: its rows, and their events as they come. Close it when the client has gone."""

    def __init__(
        self, rows: list[DecodeSequence], answer: Answer, column: Variant, events: asyncio.Queue[tuple[int, Event]]
    ):
        self._rows, self._events = rows, events
        self.answer, self.column = answer, column

    def workbench(self, done: Done) -> dict[str, object]:
        """Return the workbench's own facts about a choice."""
        mix = self._rows[0].mix
        return {
            "adapter_hash": self.column.hash,
            **({"mix": dict(mix.parts)} if mix else {}),
            **({"warning": self.column.warning} if self.column.warning else {}),
            "batched": done.batched,
            "tokens": done.tokens,
            "tokens_per_s": round(done.tokens_per_s, 3),
            "time_to_first_token_s": round(done.time_to_first_token_s, 6),
        }

    async def events(self) -> AsyncIterator[tuple[int, Delta | Done]]:
        """Yield events with the index of their choice until all have ended. Raises RequestError when a row fails."""
        open_rows = len(self._rows)
        while open_rows:
            index, event = await self._events.get()
            if isinstance(event, Failed):
                raise RequestError(500, event.message)
            yield index, event
            open_rows -= isinstance(event, Done)

    async def whole(self) -> list[Ended]:
        """Wait for all choices."""
        texts = [""] * len(self._rows)
        picked: list[list[Choice]] = [[] for _ in self._rows]
        done: dict[int, Done] = {}
        async for index, event in self.events():
            if isinstance(event, Done):
                done[index] = event
            else:
                texts[index] += event.text
                picked[index].extend(event.choices)
        wanted = self._rows[0].sampling.top_logprobs is not None
        return [Ended(texts[i], picked[i] if wanted else None, done[i]) for i in range(len(self._rows))]

    def close(self) -> None:
        """Let the rows end at the next token."""
        for row in self._rows:
            row.cancelled = True


class Service:
    """What the routes call. Lives on the server's loop; the decoder's thread only delivers events to it."""

    def __init__(self, columns: VariantSet, prompts: Prompts, decoder: Decoder, alias: str = "") -> None:
        """`alias` is another name of the base, beside `base`."""
        self._columns, self._prompts, self._decoder, self._alias = columns, prompts, decoder, alias
        self.known = dict(columns.columns)
        for column in self.known.values():
            if column.folder is not None:
                prompts.learn(column.name, column.folder)

    def column(self, model: str) -> Variant:
        """Return the column of a model name. Raises RequestError 404."""
        found = self.known.get(BASE if model == self._alias else model)
        if found is None:
            raise RequestError(404, f"The model {model!r:.100} does not exist", code="model_not_found", param="model")
        return found

    async def begin(self, request: ChatRequest) -> InFlightRequest:
        """Render the prompt and hand in its rows. Raises RequestError."""
        column = self.column(request.model)
        mix = self._mix(request, column)
        try:
            prompt = await asyncio.to_thread(
                self._prompts.encode, column.name, request.conversation(), request.chat_template_kwargs
            )
        except PromptTooLong as error:
            raise _too_long(str(error)) from None
        except PromptError as error:
            raise RequestError(400, f"The chat template refuses: {error}", param="messages") from None
        room = self._prompts.context - len(prompt)
        if room < 1 or not prompt:
            raise _too_long(f"The prompt has {len(prompt)} tokens; this model's context is {self._prompts.context}")
        return self._hand_in(request, column, prompt, room, mix)

    def _mix(self, request: ChatRequest, column: Variant) -> Mix | None:
        """Return the mix of a request. Raises RequestError when its adapters cannot be mixed."""
        if request.mix is None:
            return None
        if column.name != BASE:
            raise RequestError(400, f"a mix is asked of the model {BASE}, which its adapters change", param="model")
        for name in request.mix:
            if name == BASE or not self.column(name).shared:
                why = "is in every mix already" if name == BASE else "runs beside the batch and cannot be mixed"
                raise RequestError(400, f"{name} {why}", param="mix")
        return Mix(tuple(request.mix.items()))

    def _hand_in(
        self, request: ChatRequest, column: Variant, prompt: list[int], room: int, mix: Mix | None
    ) -> InFlightRequest:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        rows, ends = [], self._prompts.end_tokens(column.name)
        for index in range(request.n):
            sampling = request.sampling(room, index)
            text = TextStream(self._prompts.decode, sampling.stop)

            def deliver(event: Event, index: int = index) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
                    loop.call_soon_threadsafe(events.put_nowait, (index, event))

            rows.append(DecodeSequence(column.name, prompt, sampling, text, ends, deliver, mix))
        for row in rows:
            self._decoder.submit(row)
        answer = Answer(f"chatcmpl-{uuid.uuid4().hex}", request.model, self._prompts.token_text)
        return InFlightRequest(rows, answer, column, events)

    async def load(self, name: str, folder: str) -> Variant:
        """Load an adapter, or a model beside the base, without touching the base. Raises RequestError 400 or 409."""
        if not _NAME.fullmatch(name) or name == self._alias:
            raise RequestError(400, "the name must be 1 to 64 letters, digits, dots, hyphens or blanks", param="name")
        if name in self.known:
            raise RequestError(409, f"There is a model {name!r} already", param="name", code="model_exists")
        try:
            place = await asyncio.to_thread(locate, folder)
            model = await asyncio.to_thread(self._columns.opened, place)
            column = await asyncio.wrap_future(self._decoder.call(lambda: self._columns.add(name, place, model)))
        except WorkbenchError as error:
            raise RequestError(400, error.line(), param="dir") from None
        self._prompts.learn(name, place)
        self.known[name] = column
        return column

    async def unload(self, name: str) -> None:
        """Unload an adapter; its answers under way end with an error. Raises RequestError 404."""
        column = self.known.get(name)
        if column is None or name == BASE:
            raise RequestError(404, f"There is no adapter {name!r:.100}", code="model_not_found")
        del self.known[name]
        self._prompts.forget(name)
        await asyncio.wrap_future(self._decoder.remove(name))

    def models(self) -> list[dict[str, object]]:
        """Return the base and every adapter, as /v1/models lists them."""
        return [model_object(column) for column in self.known.values()]


def _too_long(message: str) -> RequestError:
    return RequestError(400, message, code="context_length_exceeded", param="messages")


def model_object(column: Variant) -> dict[str, object]:
    """Return a column as a model of the protocol, with its hash and whether it shares the batch."""
    created = int(column.folder.stat().st_mtime) if column.folder and column.folder.exists() else 0
    return {
        "id": column.name,
        "object": "model",
        "created": created,
        "owned_by": "workbench",
        "parent": None if column.name == BASE or column.whole else BASE,
        "workbench": {
            "adapter_hash": column.hash,
            "batched": column.shared,
            "rank": column.rank,
            "warning": column.warning,
        },
    }
