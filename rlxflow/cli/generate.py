"""Continue a text. The completion goes to standard output as it is written."""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK
from rlxflow.cli.options import load_model
from rlxflow.cli.sampling_options import add_sampling, note_timings, run_dict, start_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a model directory, a .gguf file or a hub id")
    parser.add_argument("prompt", metavar="PROMPT", help="taken as it stands, without chat template")
    add_sampling(parser)


def run(args: argparse.Namespace) -> int:
    run = start_run(load_model(args), args.prompt, args)
    if args.json:
        console.print_json(run_dict(run, "".join(run.pieces())))
    else:
        for piece in run.pieces():
            console.write(piece)
        console.write("\n")
    if args.verbose:
        note_timings(run)
    return OK
