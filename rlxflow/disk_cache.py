"""Files kept on disk to save the next start some work.

The directory is `$RLXFLOW_CACHE` or the user's cache directory; it must be the user's own and writable by
nobody else, for code that lies there is executed. A file is a digest, a line about the content, and the
content. Whatever goes wrong (no directory, a full disk, a damaged file) costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from rlxflow.errors import printable

CACHE_VARIABLE = "RLXFLOW_CACHE"  # a directory; empty: keep nothing
DIGEST_BYTES = 32
LARGEST = 64 << 20


def cache_folder() -> Path | None:
    """The directory of what is kept, made if need be; None where there is none to be trusted."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen == "":
        return None
    folder = Path(chosen) if chosen is not None else _default_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if os.name == "posix" and (found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077):
        return None
    return folder


def _default_folder() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "rlxflow" / "objects"


def _digest(path: Path, content: bytes) -> bytes:
    """Of the content under this name: a file that was renamed does not pass."""
    return hashlib.blake2b(path.name.encode() + b"\0" + content, digest_size=DIGEST_BYTES).digest()


def read_kept(path: Path) -> tuple[str, bytes] | None:
    """The line about the content, and the content, of a file that is ours and whole, else None."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            ours = os.name != "posix" or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)
            if not stat.S_ISREG(found.st_mode) or not ours or found.st_size > LARGEST:
                return None
            content = file.read(LARGEST + 1)
    except OSError:
        return None
    if content[:DIGEST_BYTES] != _digest(path, content[DIGEST_BYTES:]):
        return None
    about, _, kept = content[DIGEST_BYTES:].partition(b"\n")
    return (printable(about.decode(errors="replace"), 120), kept) if kept else None


def keep(path: Path, about: str, content: bytes) -> None:
    """Write beside the place and move there, so that nobody reads half a file."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
        with os.fdopen(handle, "wb") as file:
            whole = printable(about, 120).encode() + b"\n" + content
            file.write(_digest(path, whole) + whole)
        Path(temporary).replace(path)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
