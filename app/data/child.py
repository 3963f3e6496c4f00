"""Answer requests about data in a process of its own: `python -m app.data.child`.

One request a line on standard input, one answer a line on standard output, both JSON:

    {"id": 1, "verb": "show", ...}  ->  {"id": 1, "progress": [done, of]} ...  {"id": 1, "result": {...}}
                                    or  {"id": 1, "error": {"type": "TemplateError", "what", "why", "remedy", "line"}}

Foreign code runs here (chat templates), so memory is limited where the system can; the client limits time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from app.data.audit import Check
from app.data.build import build
from app.data.convert import convert
from app.data.dropped import write_dropped
from app.data.examples import ExampleMaker
from app.data.options import DataOptions
from app.data.readers import read_pasted, read_rows
from app.data.render import Renderer
from app.data.rows import Row, RowProblem
from app.data.show import find_row, show
from app.data.tokenizer import ModelTokenizer, load_tokenizer
from app.errors import DataError, MemoryShortError, UsageError, WorkbenchError

# Address space, not resident memory: threads and memory maps reserve far more than they touch.
DEFAULT_MEMORY_BYTES = 8 * 1024**3
_KEPT_TOKENIZERS = 4
Reply = Callable[[dict[str, Any]], None]


class Answerer:
    """Answer requests; tokenizers stay loaded between them."""

    def __init__(self) -> None:
        self._tokenizers: dict[tuple[str, int, str], ModelTokenizer] = {}
        self._verbs: dict[str, Callable[[dict[str, Any], Reply], Any]] = {
            "open": self._open,
            "show": self._show,
            "check": self._check,
            "build": self._build,
            "convert": self._convert,
            "dropped": self._dropped,
        }

    def answer(self, request: dict[str, Any], progress: Reply) -> Any:
        """Return the result of one request, or raise WorkbenchError."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            raise UsageError(f"{request.get('verb')} is no request", f"Requests: {', '.join(self._verbs)}")
        return verb(request, progress)

    def _tokenizer(self, request: dict[str, Any]) -> ModelTokenizer:
        folder, template = Path(str(request["tokenizer"])), str(request.get("chat_template") or "")
        key = (str(folder), _changed_ns(folder), template)
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(folder, template)
            while len(self._tokenizers) > _KEPT_TOKENIZERS:
                self._tokenizers.pop(next(iter(self._tokenizers)))
        return self._tokenizers[key]

    def _renderer(self, request: dict[str, Any], options: DataOptions) -> Renderer:
        return Renderer(self._tokenizer({**request, "chat_template": options.chat_template}), options.train_on)

    def _open(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        tokenizer = self._tokenizer(request)
        return {
            "digest": tokenizer.digest,
            "template_origin": tokenizer.template.origin,
            "end_tokens": list(tokenizer.end_tokens),
            "warnings": list(tokenizer.warnings),
        }

    def _show(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        options = _options(request)
        maker = ExampleMaker(self._renderer(request, options), options)
        return show(find_row(_records(request), int(request["row"])), maker)

    def _check(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        options = _options(request)
        renderer = self._renderer(request, options) if request.get("tokenizer") else None
        check = Check(options, renderer, int(request.get("rows_per_step") or 1))
        report = check.run(_records(request), lambda done, of: progress({"progress": [done, of]}))
        histogram = [{"up_to": up_to, "rows": rows} for up_to, rows in report.histogram]
        return {
            "check": report.as_dict(),
            "problem_rows": [problem.row for problem in report.problems],
            "excerpts": report.excerpts,
            "left_out": dict(report.left_out),
            "histogram": histogram,
            "warnings": list(report.warnings),
        }

    def _build(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        folder, out_root = Path(request["tokenizer"]), Path(request["out_root"])

        def tell(done: int, of: int) -> None:
            progress({"progress": [done, of]})

        built = build(Path(request["path"]), folder, _options(request), out_root, tell)
        if built is None:
            raise DataError("The build was stopped")
        return {"path": str(built.path), "manifest": built.manifest}

    def _convert(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        return convert(_told(_records(request), progress), Path(request["out"]), _options(request))

    def _dropped(self, request: dict[str, Any], progress: Reply) -> dict[str, Any]:
        options = _options(request)
        renderer = self._renderer(request, options) if request.get("tokenizer") else None
        return write_dropped(lambda: _told(_records(request), progress), Path(request["out"]), options, renderer)


def _told(records: Iterable[Row | RowProblem], progress: Reply) -> Iterator[Row | RowProblem]:
    """Pass records on, and give the client a sign of life every thousand."""
    for number, record in enumerate(records, start=1):
        if number % 1000 == 0:
            progress({"progress": [number, 0]})
        yield record


def _changed_ns(folder: Path) -> int:
    """Return when the tokenizer's files last changed."""
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
    return max((path.stat().st_mtime_ns for path in map(folder.joinpath, names) if path.is_file()), default=0)


def _options(request: dict[str, Any]) -> DataOptions:
    return DataOptions.checked(**request.get("options", {}))


def _records(request: dict[str, Any]) -> Iterable[Row | RowProblem]:
    if request.get("text") is not None:
        return read_pasted(str(request["text"]))
    return read_rows(Path(str(request["path"])))


def limit_memory(limit_bytes: int) -> None:
    """Limit the address space of this process where the system can (POSIX)."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def error_reply(error: WorkbenchError) -> dict[str, Any]:
    """Return an error as the client rebuilds it."""
    line = error.line_number if isinstance(error, DataError) else None
    return {"type": type(error).__name__, "what": error.what, "why": error.why, "remedy": error.remedy, "line": line}


def serve(requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests until the client closes its end."""
    answerer = Answerer()

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    for line in requests:
        request = json.loads(line)
        number = request.get("id")
        try:
            result = answerer.answer(request, lambda message, number=number: send({"id": number, **message}))  # type: ignore[misc]
            send({"id": number, "result": result})
        except WorkbenchError as error:
            send({"id": number, "error": error_reply(error)})
        except MemoryError:
            short = MemoryShortError("The data need more memory than the data child may use", "", "Split the file")
            send({"id": number, "error": error_reply(short)})


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
