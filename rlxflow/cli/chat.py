"""Talk to a model through its chat template.

Type a message and Enter. /reset forgets the conversation, /exit or Ctrl-D ends it. Ctrl-C stops an answer, at
the prompt it ends the program. Messages may come from a pipe, one per line.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK, exit_code
from rlxflow.cli.options import add_model, load_model
from rlxflow.cli.sampling_options import add_sampling, generation_dict, note_timings, start_run
from rlxflow.errors import RlxError

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model
    from rlxflow.runtime.prompt_cache import PromptCache

Messages = list[dict[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--system", metavar="TEXT", help="a system message")
    add_sampling(parser)


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    opening: Messages = [{"role": "system", "content": args.system}] if args.system else []
    start_run(model, [[*opening, {"role": "user", "content": "?"}]], args)  # what cannot chat is told at once
    cache = model.new_cache()  # a turn computes only what is new in the conversation
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (input() gets line editing)
        if not args.quiet:
            console.note(f"{model.name}: /reset forgets, /exit ends")
    messages, code = list(opening), OK
    while (text := _read(interactive)) is not None and text != "/exit":
        if text == "/reset":
            messages = list(opening)
        elif text:
            code = _turn(model, messages, text, args, cache)
    return code


def _read(interactive: bool) -> str | None:
    """The next message, or None at the end of the input."""
    try:
        return input("> " if interactive else "").strip()
    except EOFError:
        return None


def _turn(model: Model, messages: Messages, text: str, args: argparse.Namespace, cache: PromptCache) -> int:
    """Answer one message. One that fails is forgotten, and the conversation goes on."""
    asked = [*messages, {"role": "user", "content": text}]
    try:
        run = start_run(model, [asked], args, cache)
        try:
            for _, piece in run.pieces():
                if not args.json:
                    console.write(piece)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
        (done,) = run.generations()
        if args.json:
            console.print_json(generation_dict(done))
        else:
            console.write("\n")
    except RlxError as error:
        return console.report(error, error, exit_code(error), args)
    messages[:] = [*asked, {"role": "assistant", "content": done.text}]
    if not args.quiet:
        note_timings(done)
    return OK
