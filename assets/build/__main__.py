"""Run one step of the build: `python -m assets.build tokenizer|pretrain|samples|probes|tune`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent
STARTER = ASSETS / "starter"
DATASETS = ASSETS / "datasets"
PROBES = ASSETS / "probes"


def _tokenizer(options: argparse.Namespace) -> None:
    from assets.build import tokenizer

    tokenizer.write(tokenizer.train(), options.out)


def _pretrain(options: argparse.Namespace) -> None:
    import torch

    from assets.build import pretrain, tokenizer

    torch.set_num_threads(options.threads)
    made = tokenizer.train()
    tokenizer.write(made, options.out)
    pretrain.train(made, options.out, options.steps, options.seed)


def _samples(options: argparse.Namespace) -> None:
    from assets.build import samples

    samples.write(options.out)


def _probes(options: argparse.Namespace) -> None:
    from assets.build import probes

    probes.write(options.out)


def _tune(options: argparse.Namespace) -> None:
    import torch

    from assets.build import tuning
    from assets.build.styles import STYLES

    torch.set_num_threads(options.threads)
    recipe = tuning.Recipe()
    for setting in options.set:
        name, value = setting.split("=", 1)
        recipe = replace(recipe, **{name: type(getattr(recipe, name))(value)})
    tuning.report(options.model, recipe, options.seeds, options.styles or list(STYLES))


def main() -> None:
    """Parse the command line and run the step."""
    parser = argparse.ArgumentParser(prog="python -m assets.build", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("tokenizer", help="train the tokenizer")
    verb.set_defaults(run=_tokenizer)
    verb.add_argument("--out", type=Path, default=STARTER)
    verb = verbs.add_parser("pretrain", help="train tokenizer and model")
    verb.set_defaults(run=_pretrain)
    verb.add_argument("--out", type=Path, default=STARTER)
    verb.add_argument("--steps", type=int, default=3500)
    verb.add_argument("--seed", type=int, default=1)
    verb.add_argument("--threads", type=int, default=1)
    verb = verbs.add_parser("samples", help="write the sample datasets and their held-out prompts")
    verb.set_defaults(run=_samples)
    verb.add_argument("--out", type=Path, default=DATASETS)
    verb = verbs.add_parser("probes", help="write the general probes that forgetting is measured on")
    verb.set_defaults(run=_probes)
    verb.add_argument("--out", type=Path, default=PROBES)
    verb = verbs.add_parser("tune", help="prove the tuning recipe: base against adapters on held-out prompts")
    verb.set_defaults(run=_tune)
    verb.add_argument("--model", type=Path, default=STARTER)
    verb.add_argument("--styles", nargs="*")
    verb.add_argument("--seeds", nargs="*", type=int, default=[1, 2])
    verb.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    verb.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
