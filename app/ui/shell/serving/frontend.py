"""The framework's script with a few places changed on its way to the browser, and the page's document made small.

The framework (gradio 6.31) takes every input of every handler that was ever answered for one that shows a status, and
sets the status of all of them anew twice for each event: nine tenths of the script's work at a click, and more with
each click. Each change is an exact piece of text that stands once in a file; where it does not, as in another version
of the framework, the file is served as it is, and the page works as before, only slower.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import gradio
from starlette.datastructures import Headers, MutableHeaders

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
# What the framework itself leaves uncompressed: its own compression stops at bodies that are made in one piece.
_DOCUMENTS = ("/", "/config")
_SMALLEST_BYTES = 1000
# Asked by the page when an answer does not come. Another server, or the same one started anew, says another word.
ALIVE = "/assets/workbench-alive"
THIS_SERVER = secrets.token_hex(8)


@dataclass(frozen=True)
class Change:
    """A piece of the framework's script, by the beginning of its file's name, and what stands in its place."""

    file: str
    before: str
    after: str


# The document loads a script that tells a frame around it how tall it is; no page may be put into a frame here.
_RESIZER = b"document.head.appendChild(script);"

# The framework's word for: run this handler again, and only this one.
_ONCE_MORE = "this.dispatch({type:`fn`,fn_index:r.id,event_data:e.event_data,target_id:l})"

CHANGES = (
    # An answered handler has closed a stream only if it had one.
    Change(
        "Blocks-",
        "if(s.stage===`complete`){n=`closed`,",
        "if(s.stage===`complete`){r.connection_type===`stream`&&(n=`closed`),",
    ),
    # A change that came while the handler worked is still to be shown when that work failed.
    Change(
        "Blocks-",
        "c&&this.clear_submission(r.id,c),o.forEach(",
        f"c&&this.clear_submission(r.id,c),this.queue.delete(r.id)&&{_ONCE_MORE},o.forEach(",
    ),
    # A handler whose change came while it worked runs once more, and with it every other handler of that change ran.
    # Each that was at work then did the same: two that follow one change kept each other going for ever.
    Change(
        "Blocks-",
        "(this.queue.delete(r.id),this.dispatch(e));return}",
        f"(this.queue.delete(r.id),{_ONCE_MORE});return}}",
    ),
    Change(
        "Blocks-",
        "(this.queue.delete(r.id),this.dispatch(e))}}catch{",
        f"(this.queue.delete(r.id),{_ONCE_MORE})}}}}catch{{",
    ),
    # The clock of the first "Loading" went on sixty times a second for ever after; others did where nobody saw them.
    Change("statustracker-", "/1e3),W&&ze()})}", "/1e3),W&&U?.isConnected&&ze()})}"),
    Change("statustracker-", "W=!0,ze())}function He()", "W=!0,w(Ne)||ze())}function He()"),
    # What the browser kept was told as a change when the page opened, beside the page's own load: a page that is loaded
    # again asked everything twice, and each handler that follows the language once for nothing.
    Change(
        "Index-",
        "s.props.value=JSON.parse(t)}catch(e){console.error(`Error reading from localStorage:`",
        "s.props.value=JSON.parse(t),d=s.props.value}catch(e){console.error(`Error reading from localStorage:`",
    ),
)  # fmt: skip


@lru_cache(maxsize=1)
def changed_files() -> dict[str, bytes]:
    """Return the files that are changed, by name; those without any of the pieces are not among them."""
    found: dict[str, str] = {}
    for change in CHANGES:
        for path in ASSETS.glob(f"{change.file}*.js"):
            script = found.get(path.name) or path.read_text(encoding="utf-8")
            if script.count(change.before) == 1:
                found[path.name] = script.replace(change.before, change.after)
    return {name: script.encode() for name, script in found.items()}


def packed(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return a body as a browser takes it, and the name of its coding; empty where it takes none."""
    if "br" in accepted:
        return brotli.compress(body, quality=5), "br"
    return (gzip.compress(body, compresslevel=6), "gzip") if "gzip" in accepted else (body, "")


@dataclass(frozen=True)
class StyleSheet:
    """The style sheets of many components in one, and the names of the files that it stands for."""

    files: tuple[str, ...]
    text: bytes

    @property
    def name(self) -> str:
        """Return the name that it is served under: another one for other contents."""
        return f"workbench-{hashlib.sha256(self.text).hexdigest()[:16]}.css"

    def links(self) -> bytes:
        """Return what the document says of it: the one is loaded, and of each that it stands for, that it is there.

        The framework's loader asks for no style sheet that has a link already, loaded or not.
        """
        link = '<link rel="stylesheet" crossorigin href="./assets/{}"{}>'
        made = [link.format(self.name, ""), *(link.format(name, " disabled") for name in self.files)]
        return "".join(made).encode()


@lru_cache(maxsize=4)
def style_sheet(kinds: frozenset[str]) -> StyleSheet | None:
    """Return the style sheets that components of these kinds need, by the framework's own list; None without one.

    The list is a script of calls `kind:{component:()=>v(()=>import(...),__vite__mapDeps([numbers of files]))`. What is
    not found in it is asked for by the framework as always.
    """
    script = next((path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob("core-*.js"))), "")
    listed = re.search(r"m\.f=(\[[^\]]*\])", script)
    files: list[str] = json.loads(listed[1]) if listed else []
    numbers = set[int]()
    for kind in kinds:
        for entry in re.finditer(rf"[{{,]{kind}:\{{(.{{0,1200}})", script):
            call = re.search(r"component:\(\)=>\w+\(\(\)=>import\(.*?__vite__mapDeps\(\[([\d,]*)\]\)", entry[1])
            numbers |= {int(one) for one in call[1].split(",") if one} if call else set()
    names = [Path(files[one]).name for one in sorted(numbers) if one < len(files) and files[one].endswith(".css")]
    found = [name for name in dict.fromkeys(names) if (ASSETS / name).is_file()]
    if not found:
        return None
    return StyleSheet(tuple(found), b"\n".join((ASSETS / name).read_bytes() for name in found))


class Frontend:
    """The layer that serves the changed files and sends the documents compressed.

    `kinds` returns the names of the kinds of components that stand in the page, once it is built.
    """

    def __init__(self, app: App, kinds: Callable[[], frozenset[str]]) -> None:
        self.app = app
        self._kinds = kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a changed file, or pass the request on."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        accepted = Headers(scope=scope).get("accept-encoding", "")
        if scope["path"] == ALIVE:
            await _serve(THIS_SERVER.encode(), "", send, head_only=scope["method"] == "HEAD", kind="text/plain")
            return
        folder, _, name = str(scope["path"]).rpartition("/")
        script = changed_files().get(name) if folder == "/assets" else None
        sheet = (
            style_sheet(self._kinds())
            if (scope["path"], scope["method"]) == ("/", "GET") or name.startswith("workbench-")
            else None
        )
        if script is not None:
            await _serve(script, accepted, send, head_only=scope["method"] == "HEAD")
        elif sheet is not None and folder == "/assets" and name == sheet.name:
            await _serve(sheet.text, accepted, send, head_only=scope["method"] == "HEAD", kind="text/css")
        elif scope["path"] in _DOCUMENTS and scope["method"] == "GET":
            await self.app(scope, receive, _Packing(send, accepted, sheet.links() if sheet else b""))
        else:
            await self.app(scope, receive, send)


async def _serve(
    script: bytes, accepted: str, send: Send, *, head_only: bool, kind: str = "application/javascript"
) -> None:
    body, coding = packed(script, accepted)
    headers = {"content-type": kind, "content-length": str(len(body)), "vary": "Accept-Encoding"}
    headers |= {"cache-control": "no-cache", **({"content-encoding": coding} if coding else {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head_only else body})


class _Packing:
    """Sends an answer compressed: it waits for the whole of it, which for a document comes in one piece."""

    def __init__(self, send: Send, accepted: str, into_head: bytes) -> None:
        self._send = send
        self._accepted = accepted
        self._into_head = into_head
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Take a message of the answer; send it all with the last one."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self._start["headers"]))
        self._body = self._body.replace(b"</head>", self._into_head + b"</head>", 1)
        if self._body.count(_RESIZER) == 1:
            self._body = self._body.replace(_RESIZER, b"")
        headers["content-length"] = str(len(self._body))
        if "content-encoding" not in headers and len(self._body) >= _SMALLEST_BYTES:
            self._body, coding = packed(self._body, self._accepted)
            if coding:
                headers["content-encoding"] = coding
            headers["content-length"] = str(len(self._body))
            headers.add_vary_header("Accept-Encoding")
        await self._send({**self._start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})
