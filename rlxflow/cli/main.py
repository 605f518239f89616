"""The command `rlxflow`: finds the command, runs it, and turns what goes wrong into an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from rlxflow import __version__
from rlxflow.cli import console
from rlxflow.cli.exit_codes import INTERRUPTED, USAGE, exit_code
from rlxflow.cli.options import Parser, add_common, add_settings
from rlxflow.errors import RlxError

# Each command is the module rlxflow.cli.NAME with `add_arguments(parser)` and `run(args) -> exit code`.
COMMANDS = {
    "embed": "turn texts into vectors",
    "generate": "continue a text",
    "chat": "talk to a model",
    "explain": "show what fusion does to a model, and why not more",
    "inspect": "show what a model is, from headers only",
    "check": "find everything that is wrong with a model",
    "compare": "find the first stage that differs from the original implementation, and why",
    "dump-activations": "record what the original implementation computes",
    "build": "print a model's graph or flow",
    "profile": "show, check and list compile profiles",
    "bench": "measure a model's speed beside what the machine can do",
    "cache": "list, verify or clear the compiled code kept on disk",
    "list": "list recipes, stages, ops, presets or backends",
    "doctor": "show what this machine and installation have",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `exit_codes`)."""
    console.prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Parsing fills this namespace as it goes, so that a usage error knows how it is to be shown.
    args = argparse.Namespace(json="--json" in arguments)
    try:
        code = _run(arguments, args)
        console.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough, as in `rlxflow list ops | head`
        console.abandon_output()
        return 0
    except KeyboardInterrupt:
        console.note("")
        return INTERRUPTED
    except Exception as error:
        problem = error if isinstance(error, RlxError) else console.as_rlx_error(error)
        return console.report(problem, error, exit_code(problem), args)


def _run(arguments: list[str], args: argparse.Namespace) -> int:
    try:
        top = _top_parser()
        if not arguments:
            top.print_help(sys.stderr)
            return USAGE
        found = top.parse_args(arguments)
        command = import_module(f"rlxflow.cli.{found.command.replace('-', '_')}")
        parser = Parser(prog=f"rlxflow {found.command}", description=command.__doc__)
        command.add_arguments(parser)
        add_common(parser)
        parser.refuse_others(found)
        before = arguments[: -1 - len(found.rest)]
        parser.parse_intermixed_args([*before, *found.rest], args)
    except SystemExit as done:  # --help and --version print and leave
        return int(done.code or 0)
    code: int = command.run(args)
    return code


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    parser = Parser(
        prog="rlxflow",
        usage="rlxflow COMMAND [arguments] [options]",
        description="Transformers declared as a line of stages, run on real weights.",
        epilog=f"commands:\n{table}\n\n`rlxflow COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rlxflow {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help=argparse.SUPPRESS)
    add_common(parser)
    add_settings(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
