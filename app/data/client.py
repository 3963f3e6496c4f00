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
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import app.errors
from app.data.dataset.options import DataOptions
from app.data.messages import (
    BuildAnswer,
    BuildRequest,
    CheckAnswer,
    CheckRequest,
    ConvertAnswer,
    ConvertRequest,
    Opened,
    OpenRequest,
    RejectedAnswer,
    RejectedRequest,
    Rows,
    RowTokens,
    ShowRequest,
)
from app.errors import ConfigError, DataError, TemplateError, WorkbenchError
from app.reading import parsed_as, parsed_json

CHILD_MODULE = "app.data.worker"
# Seconds without any sign of life. Loading a vocabulary of 250,000 tokens takes about 3 s on a slow machine.
OPEN_LIMIT_S = 60.0
SHOW_LIMIT_S = 4.5
LONG_LIMIT_S = 120.0
Spawn = Callable[[str, list[str]], "subprocess.Popen[Any]"]
Progress = Callable[[int, int], None]
Request = OpenRequest | ShowRequest | CheckRequest | BuildRequest | ConvertRequest | RejectedRequest
Answer = TypeVar("Answer")


class DataClient:
    """Talk to one data child. Requests from several threads wait for one another."""

    def __init__(self, spawn: Spawn, memory_bytes: int | None = None) -> None:
        self._spawn = spawn
        self._arguments = [] if memory_bytes is None else [str(memory_bytes)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[Any] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._opened: set[OpenRequest] = set()
        self._number = 0

    def show(
        self, row: int, tokenizer: Path, options: DataOptions, *, path: Path | None = None, text: str | None = None
    ) -> RowTokens:
        """Return the tokens of one row of a file or of pasted text."""
        with self._lock:
            self._open(tokenizer, options)
            request = ShowRequest(_rows(path, text), row, str(tokenizer), options)
            return self._ask("show", request, RowTokens, SHOW_LIMIT_S)

    def check(
        self,
        tokenizer: Path | None,
        options: DataOptions,
        rows_per_step: int = 1,
        progress: Progress | None = None,
        *,
        path: Path | None = None,
        text: str | None = None,
    ) -> CheckAnswer:
        """Return what is found in a file or in pasted text."""
        with self._lock:
            if tokenizer is not None:
                self._open(tokenizer, options)
            request = CheckRequest(_rows(path, text), options, _text(tokenizer), rows_per_step)
            return self._ask("check", request, CheckAnswer, LONG_LIMIT_S, progress)

    def build(
        self, path: Path, tokenizer: Path, options: DataOptions, out_root: Path, progress: Progress | None = None
    ) -> BuildAnswer:
        """Build the tokenised files; return their folder and manifest."""
        with self._lock:
            self._open(tokenizer, options)
            request = BuildRequest(str(path), str(tokenizer), options, str(out_root))
            return self._ask("build", request, BuildAnswer, LONG_LIMIT_S, progress)

    def convert(
        self, out: Path, options: DataOptions, *, path: Path | None = None, text: str | None = None
    ) -> ConvertAnswer:
        """Write canonical rows; return how many."""
        with self._lock:
            request = ConvertRequest(_rows(path, text), str(out), options)
            return self._ask("convert", request, ConvertAnswer, LONG_LIMIT_S)

    def rejected(
        self,
        out: Path,
        tokenizer: Path | None,
        options: DataOptions,
        *,
        path: Path | None = None,
        text: str | None = None,
    ) -> RejectedAnswer:
        """Write the rows that are not trained, with their lines and reasons; return how many."""
        with self._lock:
            if tokenizer is not None:
                self._open(tokenizer, options)
            request = RejectedRequest(_rows(path, text), str(out), options, _text(tokenizer))
            return self._ask("rejected", request, RejectedAnswer, LONG_LIMIT_S)

    def warm_up(self, tokenizer: Path | None = None) -> None:
        """Start the child before it is needed, with the tokenizer of most first looks where one is named."""
        with self._lock:
            if tokenizer is None:
                self._ensure_started()
            else:
                self._open(tokenizer, DataOptions())

    def close(self) -> None:
        """End the child."""
        self._end()

    def _open(self, tokenizer: Path, options: DataOptions) -> None:
        """Load the tokenizer under a limit of its own, so that the limit of a preview can be short."""
        request = OpenRequest(str(tokenizer), options.chat_template)
        if request not in self._opened or self._process is None or self._process.poll() is not None:
            self._ask("open", request, Opened, OPEN_LIMIT_S)
            self._opened.add(request)

    def _ask(
        self, verb: str, request: Request, answer: type[Answer], limit_s: float, progress: Progress | None = None
    ) -> Answer:
        process = self._ensure_started()
        self._number += 1
        number = self._number
        text = json.dumps({"id": number, "verb": verb, "request": asdict(request)}) + "\n"
        assert process.stdin is not None  # a helper is started with pipes
        try:
            process.stdin.write(text if isinstance(process.stdin, io.TextIOBase) else text.encode())
            process.stdin.flush()
        except OSError as error:
            self._end()
            raise DataError("The data child has ended", str(error), "Try again") from error
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
                return parsed_as(answer, message["result"])

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
        message = parsed_json(line)
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


def _rows(path: Path | None, text: str | None) -> Rows:
    return Rows(_text(path), text)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _rebuilt(error: Mapping[str, Any]) -> WorkbenchError:
    """Return the error that the child met, of its own class."""
    name = "TemplateError" if error.get("type") == "RenderingError" else str(error.get("type"))
    kind = getattr(app.errors, name, WorkbenchError)
    if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)) or kind is ConfigError:
        kind = WorkbenchError
    rebuilt: WorkbenchError = kind(*(str(error.get(part) or "") for part in ("what", "why", "remedy")))
    if isinstance(rebuilt, DataError):
        rebuilt.line_number = error.get("line")
    return rebuilt
