"""What the commands write: results on stdout, all else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import traceback
import unicodedata
from pathlib import Path
from typing import Any, TextIO

from rlxflow.errors import RlxError, printable


def prepare() -> None:
    """Closed streams are empty; no character that a terminal cannot show is an error: it is an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # its number would go to the next file that is opened
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # the tokenizer says what is wrong with the text


def print_json(value: Any) -> None:
    """One JSON document on one line of ASCII."""
    print(json.dumps(value))


def print_table(rows: list[tuple[str, str]], *, as_json: bool) -> None:
    """Names and what they are."""
    if as_json:
        print_json([{"name": name, "about": about} for name, about in rows])
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, about in rows:
        print(f"{name:<{width}}  {about}".rstrip())


def note(text: str) -> None:
    """A line for people, on stderr."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def write(text: str) -> None:
    """Text of a model, at once. On a terminal, control characters are shown and not obeyed."""
    if sys.stdout.isatty():
        text = "".join(
            c if c in "\n\t" or unicodedata.category(c) != "Cc" else c.encode("unicode_escape").decode()
            for c in text
        )
    print(text, end="", flush=True)


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def abandon_output() -> None:
    """Send what is left in stdout's buffer nowhere, so that Python does not fail on it at its end."""
    _redirect_to_null(sys.stdout)


def report(problem: RlxError, cause: BaseException, code: int, args: argparse.Namespace) -> int:
    """Show an error: code, place and hint on stderr (traceback with -vv), and as JSON with --json."""
    if getattr(args, "verbose", 0) >= 2:
        note("".join(traceback.format_exception(cause)).rstrip())
    note(str(problem))
    try:
        if args.json:
            print_json(problem.as_dict())
        flush()
    except OSError:
        abandon_output()
    return code


def as_rlx_error(error: Exception) -> RlxError:
    """An error that no part of rlxflow raised on purpose."""
    if isinstance(error, MemoryError):
        hint = "use a smaller model or shorter texts, or close other programs"
        return RlxError("there is not enough memory", code="RLX-R062", hint=hint)
    if isinstance(error, OSError):
        where = printable(error.filename or "")
        what = printable(error.strerror or error)
        return RlxError(f"the system says: {what}", code="RLX-R061", where=where, hint="check path and room")
    return RlxError(
        f"internal error: {type(error).__name__}: {printable(error)}",
        code="RLX-R063",
        hint="this is a defect of rlxflow; run it again with -vv and report what it prints",
    )


def _redirect_to_null(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
