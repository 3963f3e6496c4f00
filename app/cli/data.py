"""`data`: what a file holds, which of its tokens are trained, and the canonical form of its rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from app import downloads
from app.catalog import hub_config
from app.catalog.hub import cached_tokenizer, fetch_tokenizer
from app.catalog.hub_ids import is_repository
from app.cli.terminal import Verbs, answer, progress, workspace_of
from app.data import mappings
from app.data.client import DataClient
from app.data.options import OverLength, TrainOn
from app.errors import UsageError
from app.jobs import supervisor
from app.jobs.directory import Status
from app.models.names import STARTER, is_local, resolve
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
    check_parser.add_argument("--dropped", metavar="OUT", help="write the rows that are left out to a .jsonl file")
    show_parser = group.add(
        "show",
        show,
        help="the tokens of one row, with role, turn and whether each is trained",
        example="python3 launch.py data show assets/datasets/pirate.json --row 1",
    )
    show_parser.add_argument("--row", type=int, required=True, metavar="N", help="number of the row, from 1")
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
    parser.add_argument("--drop", metavar="KIND", action="append", default=[], help="leave rows out; repeatable")
    parser.add_argument("--repair", metavar="KIND", action="append", default=[], help="mend rows; repeatable")


def _add_token_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="M", default=STARTER, help="whose tokenizer and template (default starter)")
    parser.add_argument("--max-length", type=int, metavar="N", help="longest row in tokens")
    parser.add_argument("--train-on", choices=get_args(TrainOn), help="which tokens are trained")
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
        mappings.save(workspace_of(arguments), arguments.save_mapping, mapping)
    return mapping


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"format": "" if arguments.format == "auto" else arguments.format, "mapping": _mapping(arguments)}
    given |= {"drop": arguments.drop, "repair": arguments.repair}
    for name in ("max_length", "train_on", "over_length", "validation_split", "chat_template"):
        if getattr(arguments, name, None) is not None:
            given[name] = getattr(arguments, name)
    return given


def _source(arguments: argparse.Namespace) -> Path:
    """Return the file or folder of rows; a dataset of the hub is fetched first."""
    if not user_path(arguments.file).exists() and is_repository(arguments.file):
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
    source, tokenizer, options = _source(arguments), _tokenizer(arguments), _options(arguments)
    with data_client() as client:
        facts = client.check(tokenizer, options, progress=_print_progress, path=source)["check"]
        if arguments.dropped:
            out = user_path(arguments.dropped)
            progress(f"{client.dropped(out, tokenizer, options, path=source)['rows']:,} rows are left out: {out}")
    answer(arguments, facts, report(facts))


def _print_progress(done: int, total: int) -> None:
    if done and done % 50_000 == 0:
        progress(f"{done:,} of about {total:,} rows" if total else f"{done:,} rows")


def report(facts: dict[str, Any]) -> list[str]:
    """Return a check as lines for people."""
    tokens, packing = facts["tokens"], facts["packing"]
    lines = [f"{facts['rows']:,} rows, {facts['format']}: {facts['why']}"]
    if tokens.get("total"):
        share = 100 * tokens["trained"] / tokens["total"]
        lines.append(f"{share:.0f} % of {tokens['total']:,} tokens are trained; {facts['usable']:,} rows are usable.")
        lines.append(
            f"Lengths: half are up to {tokens['p50']} tokens, 95 % up to {tokens['p95']}, the longest has "
            f"{tokens['max']}; {tokens['over_limit']} over the limit."
        )
    if packing.get("fill") is not None:
        lines.append(f"Packed rows are {100 * packing['fill']:.0f} % full.")
    lines += [f"line {item['line']}: {item['message']}. {item['fix']}." for item in facts["problems"][:_SHOWN_PROBLEMS]]
    more = sum(facts["problem_counts"].values()) - min(len(facts["problems"]), _SHOWN_PROBLEMS)
    return lines + ([f"and {more} more problems; --json lists them"] if more > 0 else [])


def show(arguments: argparse.Namespace) -> None:
    """Print the tokens of one row."""
    source, tokenizer = _source(arguments), _tokenizer(arguments)
    with data_client() as client:
        facts = client.show(arguments.row, tokenizer, _options(arguments), path=source)
    lines = [f"Row {facts['row']} (line {facts['line']}), {facts['format']}"]
    for token in facts["tokens"]:
        mark = "trained" if token["trained"] else "       "
        lines.append(f"{mark}  {token['id']:>7}  {token['role'] or '':<10}  {token['text']!r}")
    lines.append(f"{facts['trained_tokens']} of {facts['total_tokens']} tokens are trained")
    answer(arguments, facts, lines + [f"note: {warning}" for warning in facts["warnings"]])


def convert(arguments: argparse.Namespace) -> None:
    """Write the canonical form of a file."""
    source, out = _source(arguments), user_path(arguments.out)
    with data_client() as client:
        facts = client.convert(out, _options(arguments), path=source)
    why = ", ".join(f"{count:,} {kind}" for kind, count in facts["problem_counts"].items())
    left = f", {facts['left_out']:,} left out ({why})" if facts["left_out"] else ""
    answer(arguments, facts, [f"{out}: {facts['rows']:,} rows{left}"])
