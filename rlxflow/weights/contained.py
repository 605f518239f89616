"""Files of a model directory: which names a model may use, and where they may lead."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rlxflow.errors import PathEscape, WeightsError, printable

_HINT = "file names in a model are relative, without '..'; download the model again from its source"


def contained_file(directory: Path, name: str) -> Path:
    """The real path of the file `name` of a model directory.

    The name must be a relative POSIX path of plain parts. The real path must lie under the directory or,
    when that is a snapshot in a Hugging Face cache (`models--*/snapshots/<revision>`), under the model's
    `blobs` or the cache's shared `blobs`, where such snapshots link to. Hard links are not told apart.

    Raises `PathEscape` (W028) otherwise, `WeightsError` (W001) where the file does not exist.
    """
    problem = name_problem(name)
    if problem:
        message = f"the file name {printable(name, 80)!r} {problem}"
        raise PathEscape(message, code="RLX-W028", where=printable(directory), hint=_HINT)
    path = directory.joinpath(*name.split("/"))
    try:
        real = Path(os.path.realpath(path, strict=True))
        roots = [Path(os.path.realpath(root)) for root in (directory, *_blob_folders(directory))]
    except OSError as error:
        raise WeightsError(
            f"cannot open {printable(name, 80)!r}: {error.strerror}",
            code="RLX-W001",
            where=printable(path),
            hint="complete the download, or repair the link",
        ) from error
    if not any(real.is_relative_to(root) for root in roots):
        raise PathEscape(
            f"{printable(name, 80)!r} is a link that leads out of the model directory",
            code="RLX-W028",
            where=f"{printable(path)} -> {printable(real)}",
            hint="copy the file into the directory, or open the directory that it lies in",
        )
    return real


def name_problem(name: str) -> str:
    """What is wrong with a file name taken from a model, or an empty string."""
    parts = name.split("/")
    if not name or "\0" in name or not name.isprintable():
        return "is empty or holds control characters"
    if name.startswith("/") or re.match(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", name):
        return "is absolute"
    if "\\" in name or ":" in name or name.startswith("~"):
        return "holds a backslash, a colon or a leading tilde"
    if any(part in ("", ".", "..") for part in parts):
        return "holds an empty, '.' or '..' part"
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(name) > 1024:
        return "is too long"
    return ""


def _blob_folders(directory: Path) -> list[Path]:
    """Where the links of a Hugging Face cache snapshot lead: the repo's blobs and the cache's own."""
    for place in (Path(os.path.abspath(directory)), Path(os.path.realpath(directory))):  # noqa: PTH100
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            repo = place.parent.parent
            return [repo / "blobs", repo.parent / "blobs"]
    return []
