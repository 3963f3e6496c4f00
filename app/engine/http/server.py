"""The routes of the engine, behind one guard: this machine's own Host, and the bearer token, on every route."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.engine.batching.sequence import Done
from app.engine.http.protocol import ChatRequest, RequestError, error_body, parse_chat, usage
from app.engine.http.service import InFlightRequest, Service, model_object

_MOST_BODY_BYTES = 8 << 20


class Guard:
    """Refuse a foreign Host (a page that rebinds its name to this machine), a foreign page, and a wrong token."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app, self._token, self._hosts = app, token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400, 401 or 403."""
        if scope["type"] == "http":
            refusal = self._refusal(scope["headers"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> Response | None:
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return _error(RequestError(400, "This server answers only under its own address", code="invalid_host"))
        origins = {value.decode("latin-1").lower() for name, value in headers if name == b"origin"}
        if origins - {f"http://{host}" for host in self._hosts}:
            return _error(RequestError(403, "This server answers no page of another origin", code="invalid_origin"))
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # The scheme goes by any case (RFC 9110); the token by its own.
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            return _error(RequestError(401, "The bearer token is missing or wrong", code="invalid_api_key"))
        return None


def build_app(service: Service, token: str, port: int) -> ASGIApp:
    """Return the guarded application for a port of this machine."""
    routes = Routes(service)
    app = Starlette(
        routes=[
            Route("/health", _answering(routes.health)),
            Route("/v1/models", _answering(routes.models)),
            Route("/v1/models/{name:path}", _answering(routes.model)),
            Route("/v1/chat/completions", _answering(routes.chat), methods=["POST"]),
            Route("/v1/adapters", _answering(routes.load), methods=["POST"]),
            Route("/v1/adapters/{name:path}", _answering(routes.unload), methods=["DELETE"]),
        ],
        exception_handlers={404: _not_found, 405: _not_found, 500: _failed},
    )
    return Guard(app, token, frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")))


class Routes:
    """One method a route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, request: Request) -> Response:
        """Say that the server lives."""
        return JSONResponse({"status": "ok", "models": len(self._service.known)})

    async def models(self, request: Request) -> Response:
        """List the base and every adapter."""
        return JSONResponse({"object": "list", "data": self._service.models()})

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        return JSONResponse(model_object(self._service.column(request.path_params["name"])))

    async def chat(self, request: Request) -> Response:
        """Answer a conversation, streaming or whole."""
        wanted = parse_chat(await _body(request))
        in_flight = await self._service.begin(wanted)
        if wanted.stream:
            return StreamingResponse(_stream(in_flight, wanted), media_type="text/event-stream")
        return await _whole(request, in_flight)

    async def load(self, request: Request) -> Response:
        """Load an adapter: {"name", "dir"}."""
        body = _object(await _body(request))
        name, folder = body.get("name"), body.get("dir")
        if not isinstance(name, str) or not isinstance(folder, str):
            raise RequestError(400, "name and dir must be texts")
        return JSONResponse(model_object(await self._service.load(name, folder)), 201)

    async def unload(self, request: Request) -> Response:
        """Unload an adapter."""
        name = request.path_params["name"]
        await self._service.unload(name)
        return JSONResponse({"id": name, "object": "model", "deleted": True})


async def _whole(request: Request, in_flight: InFlightRequest) -> Response:
    """Answer at once, unless the client leaves first."""
    answering = asyncio.ensure_future(in_flight.whole())
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            return Response(status_code=499)  # nobody reads it: the client has gone
        ended = answering.result()
    finally:
        in_flight.close()
        for task in (answering, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RequestError):
                await task
    choices = [
        in_flight.answer.choice(index, one.text, one.picked, one.done, in_flight.workbench(one.done))
        for index, one in enumerate(ended)
    ]
    return JSONResponse(in_flight.answer.whole(choices, usage([one.done for one in ended])))


async def _stream(in_flight: InFlightRequest, wanted: ChatRequest) -> AsyncIterator[str]:
    """Yield server-sent events; when the client leaves, the rows end at the next token."""
    ends: list[Done] = []
    try:
        for index in range(wanted.n):
            yield _event(in_flight.answer.chunk(index, {"role": "assistant", "content": ""}))
        async for index, event in in_flight.events():
            if isinstance(event, Done):
                ends.append(event)
                yield _event(in_flight.answer.last_chunk(index, event, in_flight.workbench(event)))
            else:
                picked = list(event.choices) if wanted.logprobs else None
                yield _event(in_flight.answer.chunk(index, {"content": event.text}, picked))
        if wanted.stream_options and wanted.stream_options.include_usage:
            yield _event(in_flight.answer.usage_chunk(usage(ends)))
        yield "data: [DONE]\n\n"
    except RequestError as error:
        yield _event(error.body())
    finally:
        in_flight.close()


async def _disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _body(request: Request) -> bytes:
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > _MOST_BODY_BYTES:
                raise RequestError(413, f"The request is larger than {_MOST_BODY_BYTES >> 20} MiB")
            pieces.append(piece)
    except ClientDisconnect:
        raise RequestError(400, "The request broke off") from None
    return b"".join(pieces)


def _object(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "The request is not JSON") from None
    if not isinstance(found, dict):
        raise RequestError(400, "The request is no JSON object")
    return found


def _event(found: dict[str, object]) -> str:
    return f"data: {json.dumps(found, ensure_ascii=False)}\n\n"


def _error(error: RequestError) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse(error.body(), error.status, headers=headers)


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turn a refusal into an error object of the protocol."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return _error(error)

    return answer


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse(error_body(status, f"There is no {request.method} {request.url.path}"), status)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(500, "The server failed at this request; its log has the details"), 500)
