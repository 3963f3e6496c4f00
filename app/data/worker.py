"""Answer requests about data in a process of its own: `python -m app.data.worker`.

One request a line on standard input, one answer a line on standard output, both JSON:

    {"id": 1, "verb": "show", "request": {...}}  ->  {"id": 1, "progress": [done, of]} ...  {"id": 1, "result": {...}}
                                    or  {"id": 1, "error": {"type": "TemplateError", "what", "why", "remedy", "line"}}

Foreign code runs here (chat templates), so memory is limited where the system can; the client limits time.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import ModelTokenizer, load_tokenizer
from app.data.dataset.auditing.audit import Check
from app.data.dataset.auditing.rejected import write_rejected
from app.data.dataset.build import build
from app.data.dataset.convert import convert
from app.data.dataset.makers import maker_of
from app.data.dataset.options import DataOptions
from app.data.dataset.token_preview import find_row, show
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
from app.data.reading.readers import Reading, read_pasted, read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError, MemoryShortError, UsageError, WorkbenchError, one_line
from app.reading import parsed_as

# Address space, not resident memory: threads and memory maps reserve far more than they touch.
DEFAULT_MEMORY_BYTES = 8 * 1024**3
_KEPT_TOKENIZERS = 4
Progress = Callable[[int, int], None]
Verb = Callable[[Any, Progress], object]


class Answerer:
    """Answer requests; tokenizers stay loaded between them."""

    def __init__(self) -> None:
        self._tokenizers: dict[tuple[str, int, str], ModelTokenizer] = {}
        self._verbs: dict[str, tuple[type[object], Verb]] = {
            "open": (OpenRequest, self._open),
            "show": (ShowRequest, self._show),
            "check": (CheckRequest, self._check),
            "build": (BuildRequest, self._build),
            "convert": (ConvertRequest, self._convert),
            "rejected": (RejectedRequest, self._rejected),
        }

    def answer(self, verb: str, request: object, progress: Progress) -> object:
        """Return the answer to one request of plain data, or raise WorkbenchError."""
        if verb not in self._verbs:
            raise UsageError(f"{verb} is no request", f"Requests: {', '.join(self._verbs)}")
        kind, act = self._verbs[verb]
        try:
            typed = parsed_as(kind, request)
        except ValueError as error:
            raise UsageError(f"The request {verb} cannot be read", str(error)[:200]) from None
        return act(typed, progress)

    def _tokenizer(self, folder: Path, template: str) -> ModelTokenizer:
        key = (str(folder), _changed_ns(folder), template)
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(folder, template)
            while len(self._tokenizers) > _KEPT_TOKENIZERS:
                self._tokenizers.pop(next(iter(self._tokenizers)))
        return self._tokenizers[key]

    def _renderer(self, tokenizer: str, options: DataOptions) -> Renderer:
        return Renderer(self._tokenizer(Path(tokenizer), options.chat_template), options.train_on)

    def _open(self, request: OpenRequest, progress: Progress) -> Opened:
        tokenizer = self._tokenizer(Path(request.tokenizer), request.chat_template)
        end_tokens, warnings = tuple(tokenizer.end_tokens), tuple(tokenizer.warnings)
        return Opened(tokenizer.digest, tokenizer.template.origin, end_tokens, warnings)

    def _show(self, request: ShowRequest, progress: Progress) -> RowTokens:
        maker = maker_of(self._renderer(request.tokenizer, request.options), request.options)
        records = _records(request.rows)
        shown = show(find_row(records, request.row), maker)
        return replace(shown, warnings=(*shown.warnings, *records.notes))

    def _check(self, request: CheckRequest, progress: Progress) -> CheckAnswer:
        renderer = self._renderer(request.tokenizer, request.options) if request.tokenizer else None
        check = Check(request.options, renderer, request.rows_per_step)
        records = _records(request.rows)
        report = check.run(records, progress)
        return CheckAnswer(
            check=report.facts(),
            problem_rows=tuple(problem.row for problem in report.problems),
            excerpts=tuple(report.excerpts),
            left_out=dict(report.left_out),
            histogram=tuple(report.histogram),
            warnings=(*report.warnings, *records.notes),
        )

    def _build(self, request: BuildRequest, progress: Progress) -> BuildAnswer:
        folder, out_root = Path(request.tokenizer), Path(request.out_root)
        built = build(Path(request.path), folder, request.options, out_root, progress)
        if built is None:
            raise DataError("The build was stopped")
        return BuildAnswer(str(built.path), dict(built.manifest))

    def _convert(self, request: ConvertRequest, progress: Progress) -> ConvertAnswer:
        records = _records(request.rows)
        written = convert(_told(records, progress), Path(request.out), request.options)
        return replace(written, warnings=tuple(records.notes))

    def _rejected(self, request: RejectedRequest, progress: Progress) -> RejectedAnswer:
        renderer = self._renderer(request.tokenizer, request.options) if request.tokenizer else None
        out = Path(request.out)
        return write_rejected(lambda: _told(_records(request.rows), progress), out, request.options, renderer)


def _told(records: Iterable[Row | RowProblem], progress: Progress) -> Iterator[Row | RowProblem]:
    """Pass records on, and give the client a sign of life every thousand."""
    for number, record in enumerate(records, start=1):
        if number % 1000 == 0:
            progress(number, 0)
        yield record


def _changed_ns(folder: Path) -> int:
    """Return when the tokenizer's files last changed."""
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
    return max((path.stat().st_mtime_ns for path in map(folder.joinpath, names) if path.is_file()), default=0)


def _records(rows: Rows) -> Reading:
    return read_pasted(rows.text) if rows.text is not None else read_rows(Path(str(rows.path)))


def limit_memory(limit_bytes: int) -> None:
    """Limit the address space of this process where the system can (POSIX)."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def error_reply(error: WorkbenchError) -> dict[str, str | int | None]:
    """Return an error as the client rebuilds it."""
    line = error.line_number if isinstance(error, DataError) else None
    return {"type": type(error).__name__, "what": error.what, "why": error.why, "remedy": error.remedy, "line": line}


def serve(requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests until the client closes its end."""
    answerer = Answerer()

    for line in requests:
        asked = json.loads(line)
        send = partial(_send, answers, asked.get("id"))
        try:
            answer = answerer.answer(str(asked.get("verb")), asked.get("request"), _Teller(send))
            send(result=_plain(answer))
        except WorkbenchError as error:
            send(error=error_reply(error))
        except MemoryError:
            short = MemoryShortError("The data need more memory than the data child may use", "", "Split the file")
            send(error=error_reply(short))
        except Exception as error:  # a defect of ours: said as one, and no reason to die
            traceback.print_exc()
            defect = WorkbenchError(
                f"The data child failed while it was asked to {asked.get('verb')!s:.20}",
                f"{type(error).__name__}: {one_line(error)}",
                "Report it with the row or the setting that it happens with",
            )
            send(error=error_reply(defect))


def _send(answers: TextIO, number: object, **message: object) -> None:
    answers.write(json.dumps({"id": number, **message}) + "\n")
    answers.flush()


class _Teller:
    """Tell the client how far an answer is."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def __call__(self, done: int, of: int) -> None:
        self._send(progress=[done, of])


def _plain(answer: object) -> object:
    """Return an answer as JSON can hold it."""
    return answer.as_dict() if isinstance(answer, RowTokens) else asdict(answer)  # type: ignore[call-overload]


def main() -> None:
    """Serve standard input and output; whatever libraries print goes to standard error."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ["HF_HUB_OFFLINE"] = "1"
    limit_memory(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MEMORY_BYTES)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with answers:
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
