"""Ask the data child, and end it when it does not answer in time.

The client is handed a way to start processes (`app.jobs.supervisor.spawn_helper`). It starts the child at first use,
and again after it had to be ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import app.errors
from app.errors import ConfigError, DataError, TemplateError, WorkbenchError

CHILD_MODULE = "app.data.child"
# Seconds without any sign of life. Loading a vocabulary of 250,000 tokens takes about 3 s on a slow machine.
OPEN_LIMIT_S = 60.0
SHOW_LIMIT_S = 4.5
LONG_LIMIT_S = 120.0
Spawn = Callable[[str, list[str]], "subprocess.Popen[Any]"]
Progress = Callable[[int, int], None]


class DataClient:
    """Talk to one data child. Requests from several threads wait for one another."""

    def __init__(self, spawn: Spawn, memory_bytes: int | None = None) -> None:
        self._spawn = spawn
        self._arguments = [] if memory_bytes is None else [str(memory_bytes)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[Any] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._opened: set[tuple[str, str]] = set()
        self._number = 0

    def show(self, row: int, tokenizer: Path, options: dict[str, Any], **source: Any) -> dict[str, Any]:
        """Return what `data show --json` answers. The source is `path=` or `text=`."""
        with self._lock:
            self._open(tokenizer, options)
            request = {"row": row, "tokenizer": str(tokenizer), "options": options, **_source(source)}
            return self._ask("show", request, SHOW_LIMIT_S)

    def check(
        self,
        tokenizer: Path | None,
        options: dict[str, Any],
        rows_per_step: int = 1,
        progress: Progress | None = None,
        **source: Any,
    ) -> dict[str, Any]:
        """Return {"check": what `data check --json` answers, "problem_rows", "excerpts", "left_out", ...}.

        `problem_rows` are the row numbers of the listed problems and `excerpts` the beginnings of those rows,
        `left_out` counts the rows that are not trained by kind of problem, `histogram` has the lengths of rows.
        """
        with self._lock:
            if tokenizer is not None:
                self._open(tokenizer, options)
            request = {"options": options, "rows_per_step": rows_per_step, **_source(source)}
            request["tokenizer"] = str(tokenizer) if tokenizer is not None else None
            return self._ask("check", request, LONG_LIMIT_S, progress)

    def build(
        self, path: Path, tokenizer: Path, options: dict[str, Any], out_root: Path, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Build the tokenised files; return their folder and manifest."""
        with self._lock:
            self._open(tokenizer, options)
            request = {"path": str(path), "tokenizer": str(tokenizer), "options": options, "out_root": str(out_root)}
            return self._ask("build", request, LONG_LIMIT_S, progress)

    def convert(self, out: Path, options: dict[str, Any], **source: Any) -> dict[str, Any]:
        """Write canonical rows; return how many."""
        with self._lock:
            return self._ask("convert", {"out": str(out), "options": options, **_source(source)}, LONG_LIMIT_S)

    def dropped(self, out: Path, tokenizer: Path | None, options: dict[str, Any], **source: Any) -> dict[str, Any]:
        """Write the rows that are not trained, with their lines and reasons; return how many."""
        with self._lock:
            if tokenizer is not None:
                self._open(tokenizer, options)
            request = {"out": str(out), "options": options, **_source(source)}
            request["tokenizer"] = str(tokenizer) if tokenizer is not None else None
            return self._ask("dropped", request, LONG_LIMIT_S)

    def warm_up(self) -> None:
        """Start the child before it is needed."""
        with self._lock:
            self._ensure_started()

    def close(self) -> None:
        """End the child."""
        self._end()

    def _open(self, tokenizer: Path, options: dict[str, Any]) -> None:
        """Load the tokenizer under a limit of its own, so that the limit of a preview can be short."""
        template = options.get("chat_template") or ""
        key = (str(tokenizer), template)
        if key not in self._opened or self._process is None or self._process.poll() is not None:
            self._ask("open", {"tokenizer": str(tokenizer), "chat_template": template}, OPEN_LIMIT_S)
            self._opened.add(key)

    def _ask(
        self, verb: str, request: dict[str, Any], limit_s: float, progress: Progress | None = None
    ) -> dict[str, Any]:
        process = self._ensure_started()
        self._number += 1
        number = self._number
        self._write(process, json.dumps({"id": number, "verb": verb, **request}) + "\n")
        while True:
            message = self._next_message(verb, limit_s)
            if message.get("id") != number:
                continue
            if "progress" in message:
                if progress:
                    progress(*message["progress"])
            elif "error" in message:
                raise _rebuilt(message["error"])
            else:
                return dict(message["result"])

    def _next_message(self, verb: str, limit_s: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            self._end()
            raise TemplateError(
                f"The data child gave no answer for {limit_s:g} seconds and was ended",
                "A chat template that computes without end does this, or a row of millions of characters",
                "Choose another chat template, or look at a shorter row",
            ) from None
        if line is None:
            self._end()
            raise DataError(
                f"The data child ended while it was asked to {verb}",
                "It may have run out of memory",
                "Try a smaller file",
            )
        message = json.loads(line)
        return message if isinstance(message, dict) else {}

    def _ensure_started(self) -> subprocess.Popen[Any]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = self._spawn(CHILD_MODULE, self._arguments)
            self._lines = queue.Queue()
            self._opened.clear()
            threading.Thread(target=_read_lines, args=(self._process, self._lines), daemon=True).start()
        return self._process

    def _write(self, process: subprocess.Popen[Any], text: str) -> None:
        assert process.stdin is not None  # a helper is started with pipes
        try:
            process.stdin.write(text if isinstance(process.stdin, io.TextIOBase) else text.encode())
            process.stdin.flush()
        except OSError as error:
            self._end()
            raise DataError("The data child has ended", str(error), "Try again") from error

    def _end(self) -> None:
        """Kill the child and wait for it; the next request starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # unsent text of a dead child
                process.stdin.close()


def _read_lines(process: subprocess.Popen[Any], lines: queue.Queue[str | None]) -> None:
    """Pass the child's lines on; None when it has ended."""
    assert process.stdout is not None  # a helper is started with pipes
    with process.stdout:
        for line in process.stdout:
            lines.put(line if isinstance(line, str) else line.decode())
    lines.put(None)


def _source(source: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) for name, value in source.items() if name in ("path", "text") and value is not None}


def _rebuilt(error: dict[str, Any]) -> WorkbenchError:
    """Return the error that the child met, of its own class."""
    name = "TemplateError" if error.get("type") == "RenderingError" else str(error.get("type"))
    kind = getattr(app.errors, name, WorkbenchError)
    if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)) or kind is ConfigError:
        kind = WorkbenchError
    rebuilt: WorkbenchError = kind(*(str(error.get(part) or "") for part in ("what", "why", "remedy")))
    if isinstance(rebuilt, DataError):
        rebuilt.line_number = error.get("line")
    return rebuilt
