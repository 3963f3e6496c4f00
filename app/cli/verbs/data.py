"""`data`: what a file holds, which of its tokens are trained, and the canonical form of its rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from app import outputs
from app.catalog import hub_config
from app.cli.terminal import Verbs, answer, positive, progress, root_of, workspace_of
from app.config.schema import RunConfig
from app.config.sections import Objective
from app.data.client import DataClient
from app.data.dataset.options import DataOptions, OverLength, TrainOn
from app.data.formats import mappings
from app.data.messages import CheckFacts, Problem, RowTokens, ShownToken
from app.errors import UsageError
from app.hub import downloads
from app.hub.client import cached_tokenizer, fetch_tokenizer
from app.hub.ids import is_local, is_repository
from app.jobs import supervisor
from app.jobs.directory import Status
from app.models.names import STARTER, resolve
from app.planner import packing
from app.workspace import existing_source, user_path

_SHOWN_PROBLEMS = 10


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    group = verbs.group("data", help="what exactly would be trained", example="python3 launch.py data check rows.jsonl")
    check_parser = group.add(
        "check",
        check,
        help="format, problems with their lines, token lengths, share of trained tokens",
        example="python3 launch.py data check assets/datasets/pirate.json --model starter",
    )
    check_parser.add_argument("--rejected", metavar="OUT", help="write the rows that are left out to a .jsonl file")
    check_parser.add_argument("--dropped", dest="rejected", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    show_parser = group.add(
        "show",
        show,
        help="the tokens of one row, with role, turn and whether each is trained",
        example="python3 launch.py data show assets/datasets/pirate.json --row 1",
    )
    show_parser.add_argument("--row", type=positive, required=True, metavar="N", help="number of the row, from 1")
    convert_parser = group.add(
        "convert",
        convert,
        help="write the rows as canonical messages",
        example="python3 launch.py data convert rows.csv --out rows.jsonl",
    )
    convert_parser.add_argument("--out", required=True, metavar="OUT", help="a .jsonl or .parquet file to write")
    for parser in (check_parser, show_parser, convert_parser):
        _add_source_options(parser)
    for parser in (check_parser, show_parser):
        _add_token_options(parser)


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="file or folder of rows, or owner/name of a dataset of the hub")
    parser.add_argument("--part", metavar="NAME", default="", help="split, file or folder of a dataset of the hub")
    parser.add_argument("--format", metavar="F", default="", help="row format, where detection is not wanted")
    parser.add_argument(
        "--map", metavar="ROLE=COLUMN", action="append", default=[], help="which column plays which role; repeatable"
    )
    parser.add_argument("--mapping", metavar="NAME", help="a mapping that was saved under a name")
    parser.add_argument("--save-mapping", metavar="NAME", help="save what --map says under a name")
    parser.add_argument("--force", action="store_true", help="let --save-mapping replace another of the same name")
    parser.add_argument("--drop", metavar="KIND", action="append", default=[], help="leave rows out; repeatable")
    parser.add_argument("--repair", metavar="KIND", action="append", default=[], help="mend rows; repeatable")


def _add_token_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="M", default=STARTER, help="whose tokenizer and template (default starter)")
    parser.add_argument("--max-length", type=int, metavar="N", help="longest row in tokens")
    parser.add_argument("--train-on", choices=get_args(TrainOn), help="which tokens are trained")
    parser.add_argument("--objective", choices=get_args(Objective), help="what is learned of the rows (default sft)")
    parser.add_argument("--over-length", choices=get_args(OverLength), help="what happens to rows over the length")
    parser.add_argument("--validation-split", type=float, metavar="SHARE", help="share of rows kept back")
    parser.add_argument("--chat-template", metavar="T", help="plain template for models that have none")


def _mapping(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the mapping of --mapping or --map, and save it where that is asked for."""
    if arguments.mapping and arguments.map:
        raise UsageError("--mapping and --map exclude each other", "", "give one of them")
    if arguments.mapping:
        return mappings.load(workspace_of(arguments), arguments.mapping)
    mapping = {}
    for word in arguments.map:
        role, separator, column = word.partition("=")
        if not separator:
            raise UsageError(
                f"--map {word!r:.80} has no '='", "", "write --map role=column, for example --map prompt=q"
            )
        mapping[role] = column
    if arguments.save_mapping is not None:
        mappings.save(workspace_of(arguments), arguments.save_mapping, mapping, replace=arguments.force)
    return mapping


def _options(arguments: argparse.Namespace) -> DataOptions:
    given: dict[str, object] = {
        "format": "" if arguments.format == "auto" else arguments.format,
        "mapping": _mapping(arguments),
    }
    given |= {"drop": arguments.drop, "repair": arguments.repair}
    for name in ("max_length", "train_on", "over_length", "validation_split", "chat_template", "objective"):
        if getattr(arguments, name, None) is not None:
            given[name] = getattr(arguments, name)
    return DataOptions.checked(**given)


def _source(arguments: argparse.Namespace) -> Path:
    """Return the file or folder of rows; a dataset of the hub is fetched first."""
    path = user_path(arguments.file)
    if not path.exists() and not path.parent.is_file() and is_repository(arguments.file):
        return downloads.fetch(workspace_of(arguments), arguments.file, _print_download, arguments.part)
    return existing_source(arguments.file)


def _print_download(status: Status) -> None:
    if status.of:
        progress(f"\rdownloading {status.step / 1e6:,.1f} of {status.of / 1e6:,.1f} MB", end="")


def _tokenizer(arguments: argparse.Namespace) -> Path:
    resolved = resolve(arguments.model)
    if is_local(resolved):
        return Path(resolved)
    found = cached_tokenizer(resolved)
    if found is None:
        hub_config(resolved)  # its errors say best why nothing comes
        progress(f"fetching the tokenizer of {resolved}")
        found = fetch_tokenizer(resolved)
    return found


@contextmanager
def data_client() -> Iterator[DataClient]:
    """Give a data child for the length of a verb."""
    client = DataClient(supervisor.spawn_helper)
    try:
        yield client
    finally:
        client.close()


def check(arguments: argparse.Namespace) -> None:
    """Check a file and print what was found."""
    source = _source(arguments)
    out = _free_output(arguments, arguments.rejected, source) if arguments.rejected is not None else None
    tokenizer, options = _tokenizer(arguments), _options(arguments)
    with data_client() as client:
        checked = client.check(tokenizer, options, progress=_print_progress, path=source)
        facts = checked.check
        for warning in checked.warnings:
            progress(f"note: {warning}")
        if out is not None:
            progress(f"{client.rejected(out, tokenizer, options, path=source).rows:,} rows are left out: {out}")
            outputs.remember(getattr(arguments, "workspace", None), out)
    unpacked = packing.note_of_run(RunConfig().changed({"model.name": arguments.model}), root_of(arguments))
    answer(arguments, facts.as_dict(), report(facts, unpacked))


def _free_output(arguments: argparse.Namespace, text: str, source: Path) -> Path:
    """Return the place of an output. Raises UsageError where it is the source, in it, or a file of somebody else."""
    out = user_path(text)
    outputs.refuse_inputs(out, [source])
    outputs.refuse_foreign(getattr(arguments, "workspace", None), out)
    return out


def _print_progress(done: int, total: int) -> None:
    if done and done % 50_000 == 0:
        progress(f"{done:,} of about {total:,} rows" if total else f"{done:,} rows")


def report(facts: CheckFacts, unpacked: str | None = None) -> list[str]:
    """Return a check as lines for people; `unpacked` says why rows of this model are not packed."""
    tokens = facts.tokens
    lines = [f"{facts.rows:,} rows, {facts.format}: {facts.why}"]
    if tokens.total:
        share = 100 * (tokens.trained or 0) / tokens.total
        lines.append(f"{share:.0f} % of {tokens.total:,} tokens are trained; {facts.usable:,} rows are usable.")
        lines.append(
            f"Lengths: half are up to {tokens.p50} tokens, 95 % up to {tokens.p95}, the longest has "
            f"{tokens.max}; {tokens.over_limit} over the limit."
        )
    if unpacked:
        lines.append(f"{unpacked}.")
    elif facts.packing.fill:
        lines.append(f"Packed rows are {100 * facts.packing.fill:.0f} % full.")
    lines += [_problem_line(one) for one in facts.problems[:_SHOWN_PROBLEMS]]
    more = sum(facts.problem_counts.values()) - min(len(facts.problems), _SHOWN_PROBLEMS)
    return lines + ([f"and {more} more problems; --json lists them"] if more > 0 else [])


def _problem_line(problem: Problem) -> str:
    where = f"line {problem.line}: " if problem.line is not None else ""  # what is wrong with all rows has no line
    return f"{where}{problem.message}. {problem.fix}."


def show(arguments: argparse.Namespace) -> None:
    """Print the tokens of one row."""
    source, tokenizer = _source(arguments), _tokenizer(arguments)
    with data_client() as client:
        shown = client.show(arguments.row, tokenizer, _options(arguments), path=source)
    lines = [f"Row {shown.row} (line {shown.line}), {shown.format}"]
    for heading, tokens in _sides(shown):
        lines += [heading] * bool(heading)
        for token in tokens:
            mark = "trained" if token.trained else "       "
            lines.append(f"{mark}  {token.id:>7}  {token.role or '':<10}  {token.text!r}")
    lines.append(f"{shown.trained_tokens} of {shown.total_tokens} tokens are trained")
    answer(arguments, shown.as_dict(), lines + [f"note: {warning}" for warning in shown.warnings])


def _sides(shown: RowTokens) -> list[tuple[str, Sequence[ShownToken]]]:
    """Return the tokens under what they are: the prompt once, then each answer."""
    if shown.prompt_tokens is None:
        return [("", shown.tokens)]
    answer = "chosen" if shown.rejected else "thumbs up" if shown.label else "thumbs down"
    prompt, said = shown.tokens[: shown.prompt_tokens], shown.tokens[shown.prompt_tokens :]
    found: list[tuple[str, Sequence[ShownToken]]] = [("-- prompt", prompt), (f"-- {answer}", said)]
    return [*found, ("-- rejected", shown.rejected)] if shown.rejected else found


def convert(arguments: argparse.Namespace) -> None:
    """Write the canonical form of a file."""
    source = _source(arguments)
    out = _free_output(arguments, arguments.out, source)
    with data_client() as client:
        facts = client.convert(out, _options(arguments), path=source)
    outputs.remember(getattr(arguments, "workspace", None), out)
    for warning in facts.warnings:
        progress(f"note: {warning}")
    why = ", ".join(f"{count:,} {kind}" for kind, count in facts.problem_counts.items())
    left = f", {facts.left_out:,} left out ({why})" if facts.left_out else ""
    answer(arguments, facts.as_dict(), [f"{out}: {facts.rows:,} rows{left}"])
