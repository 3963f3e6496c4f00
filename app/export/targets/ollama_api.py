"""Ollama's own API: is it here, does it have a model of a name, make one of files, ask it once.

Blobs first, then the model that names them: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.errors import ExportError, TakenError, UsageError
from app.export.requests import OLLAMA_QUESTION
from app.reading import parsed_json
from app.workspace import file_sha256

_PORT, _PIECE = 11434, 1 << 20
_SOON_S, _LONG_S = 2.0, 3600.0
_ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Ollama:
    """A running Ollama. It is spoken to directly, never by way of a proxy."""

    host: str
    port: int
    secure: bool = False

    @classmethod
    def of(cls, address: str = "") -> Ollama:
        """Return the one that OLLAMA_HOST names, as Ollama's own client reads it, or the usual one on this machine."""
        address = (address or os.environ.get("OLLAMA_HOST") or "").strip().strip("\"'")
        split = urlsplit(address if "://" in address else f"//{address}")
        usual = {"http": 80, "https": 443}.get(split.scheme, _PORT)
        try:
            port = split.port or usual
        except ValueError:
            raise UsageError(f"OLLAMA_HOST {address!r:.80} is no address", "", "write HOST:PORT") from None
        host = split.hostname or "127.0.0.1"
        return cls("127.0.0.1" if host in ("0.0.0.0", "::") else host, port, split.scheme == "https")

    @property
    def place(self) -> str:
        """Return its address, as people write it."""
        return f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """Return its address as `of` reads it."""
        return f"{'https' if self.secure else 'http'}://{self.place}"

    def is_here(self) -> bool:
        """Tell whether it answers."""
        try:
            return self._call("GET", "/api/version", limit_s=_SOON_S)[0] == 200
        except ExportError:
            return False

    def has(self, name: str) -> bool:
        """Tell whether there is a model of this name. Raises ExportError."""
        status, _ = self._call("POST", "/api/show", {"model": name}, limit_s=30)
        return status == 200

    def create(
        self,
        name: str,
        files: Mapping[str, Path],
        settings: Mapping[str, object],
        *,
        replace: bool = False,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a model of files by their names, with template and parameters, and hold it against them.

        Raises TakenError where the name is in use and may not be replaced, ExportError when Ollama refuses.
        """
        if not replace:
            self.refuse_taken(name)
        digests = {called: self._blob(path, pause) for called, path in files.items()}
        body = {"model": name, "files": digests, "stream": False, **settings}
        status, said = self._call("POST", "/api/create", body, limit_s=_LONG_S)
        if status != 200 or said.get("error") or said.get("status") != "success":
            raise self._refused(f"did not create {name}", status, said)
        status, shown = self._call("POST", "/api/show", {"model": name}, limit_s=30)
        template = settings.get("template")
        if status != 200 or (template and str(shown.get("template", "")).strip() != str(template).strip()):
            raise self._refused(f"created {name} with another template", status, shown)

    def refuse_taken(self, name: str) -> None:
        """Raise TakenError where there is a model of this name."""
        if self.has(name):
            raise TakenError(
                f"Ollama has a model {name}", "it is not replaced unasked", "choose another name, or add --replace"
            )

    def ask(self, name: str, question: str = OLLAMA_QUESTION) -> str:
        """Return one greedy answer of a model. Raises ExportError when there is none."""
        options = {"temperature": 0, "num_predict": _ANSWER_TOKENS}
        body = {"model": name, "messages": [{"role": "user", "content": question}], "stream": False, "options": options}
        status, said = self._call("POST", "/api/chat", body, limit_s=_LONG_S)
        message = said.get("message")
        text = str(message.get("content") or "") if isinstance(message, dict) else ""
        if status != 200 or not text.strip():
            raise self._refused(f"does not answer with {name}", status, said)
        return text.strip()

    def _blob(self, path: Path, pause: Callable[[], None]) -> str:
        """Hand over a file unless it is there already, and return its digest."""
        digest = f"sha256:{file_sha256(path)}"
        if self._call("HEAD", f"/api/blobs/{digest}", limit_s=30)[0] != 200:

            def pieces() -> Iterator[bytes]:
                with path.open("rb") as file:
                    while piece := file.read(_PIECE):
                        pause()
                        yield piece

            headers = {"Content-Length": str(path.stat().st_size)}
            status, said = self._call("POST", f"/api/blobs/{digest}", pieces(), limit_s=_LONG_S, headers=headers)
            if status not in (200, 201):
                raise self._refused(f"did not take {path.name}", status, said)
        return digest

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | Iterator[bytes] | None = None,
        *,
        limit_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, object]]:
        """Return status and JSON of one request. Raises ExportError when nobody answers."""
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=limit_s)
        sent = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            what = f"Ollama does not answer at {self.place}"
            raise ExportError(what, why[:200], "start Ollama, or leave --create out") from None
        finally:
            connection.close()
        try:
            found = parsed_json(text) if text.strip() else {}
        except ValueError:
            found = {"error": text[:200]}
        return answer.status, found if isinstance(found, dict) else {}

    def _refused(self, what: str, status: int, said: Mapping[str, object]) -> ExportError:
        why = str(said.get("error") or f"it answered with status {status}")
        return ExportError(f"Ollama {what}", why[:300], "the folder stays; `ollama create` can be tried by hand")
