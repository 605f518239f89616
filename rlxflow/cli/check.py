"""Find everything that is wrong with a model: config, flow, weights, tokenizer, profile. Computes nothing,
unless asked for the accuracy.

The exit code is that of the first part that failed.
"""

from __future__ import annotations

import argparse

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK, exit_code
from rlxflow.cli.options import add_model, chosen_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--values", action="store_true", help="read all tensors, look for NaN and infinity")
    parser.add_argument(
        "--accuracy", action="store_true", help="run it as the profile says and in f32, and compare"
    )


def run(args: argparse.Namespace) -> int:
    from rlxflow.inspect.check import check_model

    profile = chosen_profile(args)
    progress = False if args.quiet else None
    parts = check_model(
        args.path, profile, args.recipe, values=args.values, accuracy=args.accuracy, progress=progress
    )
    errors = [part.error for part in parts if part.error is not None]
    if args.json:
        shown = [
            {
                "part": part.part,
                "status": part.status,
                "note": part.note,
                "error": part.error.as_dict() if part.error else None,
            }
            for part in parts
        ]
        console.print_json({"ok": not errors, "parts": shown})
    else:
        for part in parts:
            print(f"{part.status:<8}{part.part:<15}{part.note}".rstrip())
        console.flush()
        for error in errors:
            console.note(f"\n{error}")
    return exit_code(errors[0]) if errors else OK
