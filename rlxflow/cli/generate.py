"""Continue a text. The completion goes to standard output as it is written, speeds to standard error.

Several prompts are continued together; their completions come in order when all are done, an empty line
between them.
"""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK
from rlxflow.cli.options import add_model, add_trace, load_model, save_trace
from rlxflow.cli.sampling_options import add_sampling, generation_dict, note_timings, start_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "prompts", nargs="+", metavar="PROMPT", help="taken as it stands, without chat template"
    )
    add_sampling(parser)
    add_trace(parser)


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    run = start_run(model, args.prompts, args)
    alone = len(args.prompts) == 1
    for _, piece in run.pieces():
        if alone and not args.json:
            console.write(piece)
    done = run.generations()
    if args.json:
        found = [generation_dict(generation) for generation in done]
        console.print_json(found[0] if alone else found)
    else:
        console.write("\n" if alone else "".join(f"{generation.text}\n\n" for generation in done))
    if not args.quiet:
        for generation in done:
            note_timings(generation)
    save_trace(args, model)
    return OK
