"""Record what Hugging Face computes with a model, as a reference for `rlxflow compare`.

Every module that has weights is recorded, with what goes in and what comes out. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="HF_DIR", help="a Hugging Face directory")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write (.safetensors)"
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="a text to run; may be repeated (default: two sequences of random tokens)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random tokens (default 0)")


def run(args: argparse.Namespace) -> int:
    from rlxflow.porting.activations import write_activations
    from rlxflow.porting.dump import dump_activations
    from rlxflow.runtime.whole_file import want_place

    want_place(args.output)
    activations = dump_activations(Path(args.path), args.prompt or (), args.seed)
    write_activations(Path(args.output), activations)
    if args.json:
        console.print_json({"modules": list(activations.modules), "inputs": list(activations.inputs)})
    elif not args.quiet:
        console.note(f"{len(activations.modules)} modules recorded in {args.output}")
    return OK
