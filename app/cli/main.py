"""Read the command line, run one verb, and turn every error into one plain line and an exit status."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
from collections.abc import Collection, Sequence

from app import __version__, proxies
from app.cli.terminal import Parser, Verbs, progress
from app.cli.verbs import (
    data,
    demo,
    doctor,
    evaluate,
    export,
    jobs,
    on_disk,
    page,
    plan,
    playground,
    profile,
    train,
    votes,
)
from app.errors import UsageError, WorkbenchError, WorkspaceError
from app.hub import address
from app.redaction import redact
from app.workspace import expanded

_VERBS = (page, demo, doctor, plan, data, train, profile, jobs, on_disk, playground, votes, evaluate, export)
_LAUNCHER_VERBS = {
    "test": "install the development requirements and run the tests",
    "check": "check format, lint and types of the project",
    "fix": "mend format and lint of the project, where a tool can",
    "audit": "the installed packages with their licences, and what is known against them",
}
_INTERRUPTED = 130
# What the system says of names that a person typed.
_NAMES_NOTHING = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.ELOOP, errno.EISDIR)


def build_parser() -> tuple[Parser, Verbs]:
    """Return the parser and the verbs it knows."""
    common = Parser(add_help=False)
    common.add_argument(
        "--workspace",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where jobs, datasets and models live (default: WORKBENCH_HOME, else ~/lora-workbench)",
    )
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of a failure"
    )
    parser = Parser(
        prog="launch.py",
        description="LoRA Workbench: plan, format, train, compare and export LoRA adapters on one consumer GPU.",
        epilog="example: python3 launch.py demo",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"LoRA Workbench {__version__}")
    verbs = Verbs(parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser), common)
    for module in _VERBS:
        module.register(verbs)
    for name, help in _LAUNCHER_VERBS.items():
        verbs.add(name, _by_launcher, help=help, example=f"python3 launch.py {name}", answers=False)
    return parser, verbs


def _by_launcher(arguments: argparse.Namespace) -> None:
    """Say where the verb is: the launcher runs it before this command line is loaded."""
    verb = arguments.verb
    raise UsageError(f"`{verb}` is run by the launcher", "", f"run `python3 launch.py {verb}`")


def with_default_verb(words: Sequence[str], verbs: Collection[str]) -> list[str]:
    """Return the words with `ui` put in front where no verb is named."""
    if any(word in verbs or word in ("-h", "--help", "--version") for word in words):
        return list(words)
    return ["ui", *words] if not words or words[0].startswith("-") else list(words)


def main(words: Sequence[str]) -> int:
    """Run one verb and return the exit status: 0 success, 1 failure, 2 usage error."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without a letter shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parser, verbs = build_parser()
        arguments = parser.parse_args(with_default_verb(words, verbs.names))
        _settle_proxies()
        named = getattr(arguments, "workspace", None)
        address.use(expanded(named) if named else None)
        arguments.run(arguments)
        if sys.stdout is not None:  # a shell can start us with standard output closed
            sys.stdout.flush()
        return 0
    except WorkbenchError as error:
        return _report(error.line(), error.exit_code, debug)
    except KeyboardInterrupt:
        return _report("Interrupted.", _INTERRUPTED, debug=False)
    except BrokenPipeError:  # the reader of our output left; nothing is wrong
        _forget_output()
        return 0
    except OSError as error:
        if error.errno in _NAMES_NOTHING and error.filename is not None:
            why = str(error.strerror or "").lower()
            return _report(WorkspaceError(f"{str(error.filename)!r:.200} cannot be used", why).line(), 1, debug)
        if error.errno != errno.ENOSPC:
            return _unforeseen(error, debug)
        _forget_output()
        return _report("The answer cannot be written. The disk is full. Free some space and try again.", 1, debug)
    except Exception as error:  # a defect of ours: one line for the person, the traceback on request
        return _unforeseen(error, debug)


def _settle_proxies() -> None:
    dropped = proxies.settle()
    if dropped:
        names = ", ".join(dropped)
        progress(f"Ignored {names}: a proxy is used when it is http or https, a certificate file when it is there.")


def _unforeseen(error: Exception, debug: bool) -> int:
    line = f"Something unforeseen failed: {type(error).__name__}: {' '.join(str(error).split())}"
    return _report(f"{line}. Run the same command with --debug and report what it shows.", 1, debug)


def _forget_output() -> None:
    """Drop what standard output still holds, so that the interpreter's end does not try to write it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(line: str, status: int, debug: bool) -> int:
    if debug:
        print(redact(traceback.format_exc()), file=sys.stderr)
    # A name in bytes of another encoding is half characters here, which standard error may refuse to write.
    print(redact(line).encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return status
