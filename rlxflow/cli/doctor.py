"""Show what this machine and installation have: versions, processor, memory, limits, places."""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import FAILURE, OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.machine import machine, machine_text

    found = machine()
    if args.json:
        console.print_json(found)
    else:
        print(machine_text(found))
    absent = [name for name, version in found["packages"].items() if version is None]
    return FAILURE if absent else OK
