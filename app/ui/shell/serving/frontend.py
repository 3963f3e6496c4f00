"""The framework's own files as the page sends them: some changed, all compressed once and kept, the document small.

The framework (gradio 6.31) reads and compresses each of the sixty files of a page anew for every browser, and makes the
document, which is the same for all, anew each time: half of what the server did while a page opened.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
from starlette.datastructures import Headers, MutableHeaders

from app.ui.shell.serving.linked_files import linked_files
from app.ui.shell.serving.script_changes import ASSETS, changed_files

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What the framework itself leaves uncompressed: its own compression stops at bodies that are made in one piece.
_DOCUMENTS = ("/", "/config")
_SMALLEST_BYTES = 1000
# Asked by the page when an answer does not come. Another server, or the same one started anew, says another word.
ALIVE = "/assets/workbench-alive"
THIS_SERVER = secrets.token_hex(8)
_KINDS = {".js": "application/javascript", ".css": "text/css"}
# The document names its own address, which it takes from these; behind a proxy it is made anew each time.
_FORWARDED = ("x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "forwarded")
_MOST_DOCUMENTS = 16
# The name of a file that is not changed holds a sum of its contents.
_FRESH_S = 86_400
# The document loads a script that tells a frame around it how tall it is; no page may be put into a frame here.
_RESIZER = b"document.head.appendChild(script);"
# Before the first of the document's style sheets: a script that stands behind one waits for it.
_EARLY = b'<link rel="manifest"'
_CONFIG = b"window.gradio_config = "


def packed(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return a body as a browser takes it, and the name of its coding; empty where it takes none."""
    if "br" in accepted:
        return brotli.compress(body, quality=5), "br"
    return (gzip.compress(body, compresslevel=6), "gzip") if "gzip" in accepted else (body, "")


@dataclass(frozen=True)
class Asset:
    """A file of the page as it is sent: what it is, its bytes, and a mark that is another one for other bytes."""

    kind: str
    body: bytes
    # A file that is changed keeps the framework's name, so that a browser asks each time whether it is still the same.
    changed: bool

    @cached_property
    def mark(self) -> str:
        """Return the mark, an HTTP entity tag."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


@cache
def asset(name: str) -> Asset | None:
    """Return one of the framework's scripts or style sheets by its name; None for what is not served from here."""
    changed = changed_files().get(name)
    if changed is not None:
        return Asset(_KINDS[".js"], changed, changed=True)
    kind = _KINDS.get(Path(name).suffix)
    if kind is None or name not in _names():
        return None
    return Asset(kind, (ASSETS / name).read_bytes(), changed=False)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(path.name for path in ASSETS.iterdir() if path.is_file())


@lru_cache(maxsize=512)
def _packed_once(one: Asset, accepted: str) -> tuple[bytes, str]:
    return packed(one.body, accepted)


@dataclass(frozen=True)
class Own:
    """What the page puts into the head of the document, where it is read while the framework's scripts are awaited.

    The framework itself would put it there when they have run.
    """

    scripts: str
    styles: str


class Frontend:
    """The layer that serves the framework's files and sends the documents compressed.

    `kinds` returns the names of the kinds of components that stand in the page, once it is built.
    """

    def __init__(self, app: App, kinds: Callable[[], frozenset[str]], own: Own) -> None:
        self.app = app
        self._kinds = kinds
        self._own = own
        self._documents: dict[tuple[str, ...], tuple[Message, bytes]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file of the framework's, or pass the request on."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["path"] == ALIVE:
            await _serve(Asset("text/plain", THIS_SERVER.encode(), changed=True), scope, send)
            return
        folder, _, name = str(scope["path"]).rpartition("/")
        found = self._asset(name) if folder == "/assets" else None
        if found is not None:
            await _serve(found, scope, send)
        elif scope["path"] in _DOCUMENTS and scope["method"] == "GET":
            await self._document(scope, receive, send, headers)
        else:
            await self.app(scope, receive, send)

    def _asset(self, name: str) -> Asset | None:
        if not name.startswith("workbench-"):
            return asset(name)
        linked = linked_files(self._kinds())
        return Asset("text/css", linked.text, changed=False) if linked and name == linked.sheet else None

    async def _document(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Send a document: as it was sent before to the same address, where nothing else decides what is in it."""
        accepted = headers.get("accept-encoding", "")
        key = (scope["scheme"], headers.get("host", ""), scope["path"], accepted)
        same_for_all = not scope["query_string"] and not any(name in headers for name in _FORWARDED)
        if same_for_all and key in self._documents:
            start, body = self._documents[key]
            await send(start)
            await send({"type": "http.response.body", "body": body})
            return
        sending = _Packing(send, accepted, self._with_head if scope["path"] == "/" else bytes)
        await self.app(scope, receive, sending)
        if same_for_all and sending.sent is not None and len(self._documents) < _MOST_DOCUMENTS:
            self._documents[key] = sending.sent

    def _with_head(self, document: bytes) -> bytes:
        """Return the document with what belongs into its head."""
        linked = linked_files(self._kinds())
        links = (linked.links() if linked else b"") + _theme_link(document)
        document = document.replace(_EARLY, self._own.scripts.encode() + _EARLY, 1)
        document = document.replace(b"</head>", links + self._own.styles.encode() + b"</head>", 1)
        return document.replace(_RESIZER, b"") if document.count(_RESIZER) == 1 else document


def _theme_link(document: bytes) -> bytes:
    """Return a link to the framework's theme.

    The framework asks for it when its scripts have run, and waits; one that is linked by the same address it takes.
    """
    _, _, rest = document.partition(_CONFIG)
    config: dict[str, object] = json.JSONDecoder().raw_decode(rest.decode())[0] if rest else {}
    if not config.get("theme_hash"):
        return b""
    address = f"{str(config.get('root', '')).rstrip('/')}/theme.css?v={config['theme_hash']}"
    return f'<link rel="stylesheet" href="{html.escape(address)}">'.encode()


async def _serve(one: Asset, scope: Scope, send: Send) -> None:
    asked = Headers(scope=scope)
    body, coding = _packed_once(one, _coding(asked.get("accept-encoding", "")))
    headers = {"etag": one.mark, "vary": "Accept-Encoding"}
    headers["cache-control"] = "no-cache" if one.changed else f"public, max-age={_FRESH_S}"
    known = asked.get("if-none-match", "")
    if one.mark in known:
        await _send(send, 304, headers, b"")
        return
    headers |= {"content-type": one.kind, "content-length": str(len(body))}
    headers |= {"content-encoding": coding} if coding else {}
    await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)


async def _send(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _coding(accepted: str) -> str:
    return next((coding for coding in ("br", "gzip") if coding in accepted), "")


class _Packing:
    """Sends an answer compressed: it waits for the whole of it, which for a document comes in one piece.

    `sent` is what was sent in the end, where it may be sent again: a whole document that sets no cookie.
    """

    def __init__(self, send: Send, accepted: str, completed: Callable[[bytes], bytes]) -> None:
        self._send = send
        self._accepted = accepted
        self._completed = completed
        self._start: Message = {}
        self._body = b""
        self.sent: tuple[Message, bytes] | None = None

    async def __call__(self, message: Message) -> None:
        """Take a message of the answer; send it all with the last one."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self._start["headers"]))
        self._body = self._completed(self._body)
        headers["content-length"] = str(len(self._body))
        if "content-encoding" not in headers and len(self._body) >= _SMALLEST_BYTES:
            self._body, coding = packed(self._body, self._accepted)
            if coding:
                headers["content-encoding"] = coding
            headers["content-length"] = str(len(self._body))
            headers.add_vary_header("Accept-Encoding")
        start = {**self._start, "headers": headers.raw}
        if start["status"] == 200 and "set-cookie" not in headers:
            self.sent = (start, self._body)
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})
