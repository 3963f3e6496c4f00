"""An Ollama for tests that speaks the real one's API and lets llama.cpp answer. Run with the port as its argument.

Blobs are taken under their digest alone, a model is made of blobs that are there, its prompt is rendered from its
template, and an answer ends at its stop texts. State lies in the memory of the process; GET /requests tells what came.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app.export.targets import go_template

BLOBS: dict[str, Path] = {}
MODELS: dict[str, dict[str, Any]] = {}
SEEN: list[str] = []
FOLDER = Path(tempfile.mkdtemp())


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Stay silent."""

    def _answer(self, status: int, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self) -> None:
        SEEN.append(f"HEAD {self.path.rpartition('/')[0]}")
        self._answer(200 if self.path.rpartition("/")[2] in BLOBS else 404)

    def do_GET(self) -> None:
        if self.path == "/requests":
            self._answer(200, SEEN)
        elif self.path == "/api/version":
            self._answer(200, {"version": "0.99.0"})
        elif self.path == "/api/tags":
            self._answer(200, {"models": [{"name": f"{name}:latest"} for name in MODELS]})
        else:
            self._answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        if self.path.startswith("/api/blobs/"):
            SEEN.append("POST /api/blobs")
            self._answer(*self._blob(self.path.rpartition("/")[2], self.rfile.read(size)))
            return
        SEEN.append(f"POST {self.path}")
        body = json.loads(self.rfile.read(size))
        does = {"/api/create": create, "/api/show": show, "/api/chat": chat}.get(self.path)
        self._answer(*does(body)) if does else self._answer(404, {"error": "not found"})

    @staticmethod
    def _blob(digest: str, data: bytes) -> tuple[int, object]:
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            return 400, {"error": "digest mismatch"}
        BLOBS[digest] = FOLDER / digest.partition(":")[2]
        BLOBS[digest].write_bytes(data)
        return 201, None


def create(body: dict[str, Any]) -> tuple[int, object]:
    """Make a model of blobs."""
    files = body.get("files") or {}
    if not files:
        return 400, {"error": "neither 'from' or 'files' was specified"}
    for digest in files.values():
        if digest not in BLOBS:
            return 400, {"error": f"blob {digest} not found"}
    (weights,) = [BLOBS[digest] for name, digest in files.items() if name.endswith(".gguf")]
    if weights.read_bytes()[:4] != b"GGUF":
        return 400, {"error": "invalid file magic"}
    if set(body) - {"model", "files", "stream", "template", "parameters", "system", "license"}:
        return 400, {"error": "unknown field"}
    if body["model"] == "no-room":  # as the real one says it when its disk is full
        return 500, {"error": "write /usr/share/ollama/.ollama/models/blobs: no space left on device"}
    MODELS[body["model"]] = {"weights": weights, **body}
    return 200, {"status": "success"}


def show(body: dict[str, Any]) -> tuple[int, object]:
    """Tell of a model."""
    found = MODELS.get(body["model"])
    if found is None:
        return 404, {"error": f"model '{body['model']}' not found"}
    return 200, {"template": found["template"], "parameters": "", "details": {"format": "gguf"}}


def chat(body: dict[str, Any]) -> tuple[int, object]:
    """Answer by llama.cpp."""
    from xllamacpp import CommonParams, Server

    found = MODELS.get(body["model"])
    if found is None:
        return 404, {"error": f"model '{body['model']}' not found"}
    parameters = CommonParams()
    parameters.model.path, parameters.n_ctx = str(found["weights"]), int(found["parameters"]["num_ctx"])
    parameters.n_parallel, parameters.warmup, parameters.n_gpu_layers = 1, False, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    found["server"] = server = found.get("server") or Server(parameters)
    asked = {"prompt": go_template.render(found["template"], body["messages"]), **body.get("options", {})}
    asked |= {"n_predict": asked.pop("num_predict"), "stop": found["parameters"].get("stop", [])}
    text = server.handle_completions(asked)["choices"][0]["text"]
    return 200, {"model": body["model"], "message": {"role": "assistant", "content": text}, "done": True}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
