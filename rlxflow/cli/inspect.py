"""Show what a model is: files, config, tensors, memory, and how the weights fit. Reads headers only.

Each part that cannot be shown has its error at the end; where weights cannot be opened, the command fails.
"""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK, exit_code
from rlxflow.cli.options import add_model, chosen_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--context", type=_count, metavar="N", help="tell the cache of so many tokens of one sequence"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.inspection import inspect_model
    from rlxflow.inspect.text import inspection_text

    found = inspect_model(args.path, chosen_profile(args), args.recipe, args.context)
    if args.json:
        console.print_json(found.as_dict())
    else:
        print(inspection_text(found))
    unread = found.errors.get("files")
    return exit_code(unread) if unread else OK
