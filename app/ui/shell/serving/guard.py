"""The request guard: which requests reach the page at all.

A page on loopback is reachable by every web page the user visits: by a form or a script aimed at 127.0.0.1, and by a
foreign name that resolves to 127.0.0.1 (DNS rebinding). The guard is an ASGI middleware around all routes and compares
whole values, never parts of them:

1. Host must be one of our names with our exact port, once, or the proxy's that the page was told to stand behind.
2. Origin, where a browser sends one, must be the address that was asked for, or that proxy's over https; a request that
   a foreign page started is refused, apart from following a link to the page itself.
3. With a token set, every route needs it.
4. Only the routes that the page uses exist; a body has a size limit.

Every answer forbids framing, foreign requests and sniffing, and carries no CORS grant.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.formparsers import MultiPartException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
# Carried by every answer, so that a second start can tell our page from a stranger on the same port.
MARK_HEADER = "x-lora-workbench"
LARGEST_UPLOAD_BYTES = 512 * 1024**2
# A pasted data set is the largest thing that comes in any other way.
LARGEST_MESSAGE_BYTES = 32 * 1024**2
STARTUP_PATH = "/gradio_api/startup-events"

_READS = frozenset({"GET", "HEAD"})
_WRITES = frozenset({"POST"})
# What the page asks for, read from its requests in the browser; the framework's other routes (its own history, code
# editing, monitoring, proxying and recording) are of no use here and answer 404.
_PATHS = frozenset({"/", "/config", "/config/", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"})
_FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
_API = (
    "queue/join",
    "queue/data",
    "upload",
    "upload_progress",
    "file=",
    "heartbeat/",
    "reset",
    "cancel",
    "info",
    "call/",
    "run/",
    "app_id",
    "theme.css",
    "startup-events",
    "component_server",
)
# The framework starts its scripts from the page itself and compiles handlers from text, hence the two unsafe words;
# what matters here is that nothing is loaded from, or sent to, anywhere else.
_CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' blob:",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (MARK_HEADER.encode(), b"page"),
)


@dataclass
class Rules:
    """What the guard lets through. `hosts` are full authorities in lower case, such as 127.0.0.1:7860.

    `proxy` is the authority of the only proxy that the page stands behind, empty without one. `launching` lets the
    framework's own knock at the door through without a token; it ends before anyone is told the address.
    """

    hosts: frozenset[str]
    token: str | None = None
    largest_upload_bytes: int = LARGEST_UPLOAD_BYTES
    proxy: str = ""
    launching: bool = False
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Return the cookie's name; cookies are shared by all ports of a host, so the port is part of it."""
        return "workbench-" + min(self.hosts).rpartition(":")[2]


def authorities(names: Iterable[str], port: int) -> frozenset[str]:
    """Return the Host values of these names at this port; browsers leave the port out when it is 80."""
    with_port = {f"{name.lower()}:{port}" for name in names}
    return frozenset(with_port | {name.lower() for name in names} if port == 80 else with_port)


@dataclass(frozen=True)
class Refusal:
    """An answer given in place of the page's."""

    status: int
    text: str


class Guard:
    """The middleware. Build it with the app it protects and the rules."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self.judge(request)
        if scope["type"] != "http":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
        elif refusal is not None:
            await _answer(send, refusal)
        elif request.brings_token:
            await self._keep_token(request, send)
        else:
            await self._pass_on(request, scope, receive, send)

    def judge(self, request: Request) -> Refusal | None:
        """Return why a request is refused, or None."""
        if not self._host_is_ours(request):
            return Refusal(403, "This page answers only under its own address.")
        if not request.is_from_itself(self.rules.proxy):
            return Refusal(403, "This page takes requests only from itself.")
        if self.rules.token is not None and not self._has_token(request):
            return Refusal(401, "A token is needed. Open the address with ?token= and the token once.")
        if not request.path_exists:
            return Refusal(404, "There is nothing here.")
        if request.declared_bytes > self._limit(request):
            return Refusal(413, "This is too large for the page. Name the file on the command line instead.")
        return None

    def _host_is_ours(self, request: Request) -> bool:
        hosts = request.values("host")
        return len(hosts) == 1 and (hosts[0].lower() in self.rules.hosts or self._is_proxy(hosts[0]))

    def _is_proxy(self, host: str) -> bool:
        return bool(self.rules.proxy) and host.lower() == self.rules.proxy

    def _has_token(self, request: Request) -> bool:
        token, session = self.rules.token or "", self.rules.session
        if self.rules.launching and request.is_launch_knock:
            return True
        if request.token_parameter is not None:
            return _equal(request.token_parameter, token)
        if any(_equal(_bearer(value), token) for value in request.values("authorization")):
            return True
        return _equal(request.cookie(self.rules.cookie), session)

    def _limit(self, request: Request) -> int:
        return self.rules.largest_upload_bytes if request.is_upload else LARGEST_MESSAGE_BYTES

    async def _keep_token(self, request: Request, send: Send) -> None:
        """Put the session into a cookie and lead to the address without the token."""
        cookie = f"{self.rules.cookie}={self.rules.session}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        if self.rules.token is None:
            headers = [header for header in headers if header[0] != b"set-cookie"]
        await _send_all(send, 303, b"", headers)

    async def _pass_on(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; count the body, and answer 413 in its place when the body outgrows the limit."""
        limit, seen = self._limit(request), 0
        too_large = started = False

        async def counted() -> Message:
            nonlocal seen, too_large
            message = await receive()
            seen += len(message.get("body", b""))
            too_large = too_large or seen > limit
            if request.is_upload and (too_large or message["type"] == "http.disconnect"):
                raise MultiPartException("The upload ended early.")  # at this word alone the parser removes its files
            return {"type": "http.disconnect"} if too_large else message

        async def headed(message: Message) -> None:
            nonlocal started
            if too_large and not started:
                return
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": with_headers(message.get("headers", []))}
            await send(message)

        try:
            await self.app(scope, counted, headed)
        finally:
            if too_large and not started:
                await _answer(send, Refusal(413, "This is too large for the page."))


class Request:
    """One request as the guard reads it."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope.get("method", "GET")
        self.is_socket = scope["type"] == "websocket"
        self.path: str = scope["path"]
        self._query: bytes = scope.get("query_string", b"")
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._headers if key.lower() == wanted]

    def is_from_itself(self, proxy: str = "") -> bool:
        """Tell whether no other site had a hand in this request, which may have come through a proxy over https."""
        origins = self.values("origin")
        ours = [[f"http://{self.values('host')[0]}"], *([[f"https://{proxy}"]] if proxy else [])]
        if origins and origins not in ours:
            return False
        sites = self.values("sec-fetch-site")
        return not sites or all(site in ("same-origin", "none") for site in sites) or self._is_followed_link

    @property
    def _is_followed_link(self) -> bool:
        """Tell whether a person follows a link or a bookmark to the page: it opens in a window of its own."""
        mode, goal = self.values("sec-fetch-mode"), self.values("sec-fetch-dest")
        return self.method == "GET" and self.path == "/" and mode == ["navigate"] and goal == ["document"]

    @property
    def path_exists(self) -> bool:
        """Tell whether the page has a use for this route and method."""
        if self.is_socket:
            return False
        if self.method in _READS and (self.path in _PATHS or self.path.startswith(_FOLDERS)):
            return True
        prefix, _, rest = self.path.partition("/gradio_api/")
        return not prefix and self.method in _READS | _WRITES and rest.startswith(_API)

    @property
    def is_upload(self) -> bool:
        """Tell whether the request brings files."""
        return self.path in ("/gradio_api/upload", "/gradio_api/upload/")

    @property
    def is_launch_knock(self) -> bool:
        """Tell whether this is what the framework asks of itself while it starts."""
        return (self.method, self.path) in (("GET", STARTUP_PATH), ("HEAD", "/"))

    @property
    def token_parameter(self) -> str | None:
        """Return the token in the address, if the address has one."""
        if self.path != "/" or self.method != "GET":
            return None
        values = parse_qs(self._query.decode("latin-1"), keep_blank_values=True).get("token")
        return values[0] if values else None

    @property
    def brings_token(self) -> bool:
        """Tell whether the address carries a token."""
        return self.token_parameter is not None

    @property
    def declared_bytes(self) -> int:
        """Return the length the request announces; 0 when it announces none."""
        lengths = self.values("content-length")
        # Twenty digits are too many anyway, and of thousands Python makes no number.
        return max((int(length.lstrip("0")[:20] or "0") for length in lengths if length.isdecimal()), default=0)

    def cookie(self, name: str) -> str:
        """Return a cookie's value, or an empty string."""
        for line in self.values("cookie"):
            try:
                found = SimpleCookie(line).get(name)
            except CookieError:
                continue
            if found is not None:
                return found.value
        return ""


def _bearer(value: str) -> str:
    """Return the token of an Authorization header; the name of the scheme has no case (RFC 9110, section 11.1)."""
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


def _equal(given: str, wanted: str) -> bool:
    """Compare in constant time; an empty wanted value equals nothing."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def with_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the answer's headers without CORS grants and with ours."""
    ours = {name for name, _ in _HEADERS}
    kept = [
        (name, value)
        for name, value in headers
        if not name.lower().startswith(b"access-control-") and name.lower() not in ours
    ]
    return [*kept, *_HEADERS]


async def _answer(send: Send, refusal: Refusal) -> None:
    await _send_all(send, refusal.status, refusal.text.encode(), [(b"content-type", b"text/plain; charset=utf-8")])


async def _send_all(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": with_headers([*headers, length])})
    await send({"type": "http.response.body", "body": body})
