"""Writing a file whole or not at all, where a file may be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rlxflow.errors import RlxError, printable


def want_place(path: str | os.PathLike[str]) -> None:
    """Raise `RlxError` (R061) where no file can be written: to be told before anything is computed for it.

    What is there and is no file (a folder, a device) would be replaced by one.
    """
    target = Path(path)
    if target.is_dir():
        raise _refusal(path, "Is a directory")
    if target.exists() and not target.is_file():
        raise _refusal(path, "it is not a regular file")
    if not target.parent.is_dir():
        raise _refusal(path, "No such file or directory")
    if not os.access(target.parent, os.W_OK):
        raise _refusal(path, "Permission denied")


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, under its name once all is written; raises `RlxError` (R061)."""
    want_place(path)
    target = Path(path)
    try:
        unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with unfinished.open("xb") as file:
                yield file
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise _refusal(path, getattr(error, "strerror", None) or error) from error


def _refusal(path: object, why: object) -> RlxError:
    hint = "name a file in a folder that you may write to"
    message = f"cannot write the file: {printable(why)}"
    return RlxError(message, code="RLX-R061", where=printable(path), hint=hint)
