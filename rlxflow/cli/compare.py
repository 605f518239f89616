"""Find the first stage whose numbers differ from the original implementation's, and what explains it.

The reference is `hf` (runs transformers, which needs torch), or a file that `rlxflow dump-activations` wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rlxflow.cli import console
from rlxflow.cli.exit_codes import FAILURE, OK
from rlxflow.cli.options import add_model, chosen_profile
from rlxflow.errors import InputError

if TYPE_CHECKING:
    from rlxflow.porting.activations import Activations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--reference", required=True, metavar="hf|FILE", help="what to compare with")
    parser.add_argument(
        "--tolerance", type=float, default=2e-5, metavar="E", help="max|a-b|/max(1, max|b|) (default 2e-5)"
    )
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="with hf: a text to run")
    parser.add_argument("--all", action="store_true", help="list every activation")


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.examine import examine
    from rlxflow.porting.compare import compare
    from rlxflow.porting.compare_text import comparison_text

    if not args.tolerance > 0:
        raise InputError(f"--tolerance is {args.tolerance}", code="RLX-R070", hint="give a number above 0")
    profile = chosen_profile(args)
    examined = examine(args.path, profile, args.recipe)
    if examined.built is None:
        raise next(iter(examined.errors.values()))
    found = compare(examined.built, _reference(args), profile, args.tolerance, examined.config)
    if args.json:
        console.print_json(found.as_dict())
    else:
        print(comparison_text(found, args.all))
    return OK if found.agrees else FAILURE


def _reference(args: argparse.Namespace) -> Activations:
    if args.reference != "hf":
        from rlxflow.porting.activations import read_activations

        return read_activations(Path(args.reference))
    from rlxflow.porting.dump import dump_activations
    from rlxflow.runtime.hub import resolve

    return dump_activations(Path(resolve(args.path)), args.prompt or ())
