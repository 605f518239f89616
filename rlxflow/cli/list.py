"""List what rlxflow knows, one name and one line each."""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK

KINDS = ("recipes", "stages", "ops", "presets", "backends")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.catalog import CATALOG

    console.print_table(CATALOG[args.kind](), as_json=args.json)
    return OK
