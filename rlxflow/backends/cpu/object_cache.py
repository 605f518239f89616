"""Object code kept on disk, under a hash of what it was made from, and whole programs beside it.

The directory is `$RLXFLOW_CACHE` or the user's cache directory; it must be the user's own and writable by
nobody else, for what lies there is executed. A file is a digest, a line about the code, and the code.
Whatever goes wrong (no directory, a full disk, a damaged file) costs a compilation's time and nothing else.
Whoever adds a file removes those of long ago.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import rlxflow
from rlxflow.backends.cpu.llvm import VERSION
from rlxflow.backends.cpu.target import Target
from rlxflow.errors import printable
from rlxflow.quick_dataclass import dataclass

CACHE_VARIABLE = "RLXFLOW_CACHE"  # a directory; empty: keep nothing
GENERATOR = Path(__file__).parent
DIGEST_BYTES = 32
LARGEST = 64 << 20
CODE, PROGRAM, UNFINISHED = SUFFIXES = (".o", ".program", ".new")
SECONDS_KEPT = 60 * 86400  # other versions and other models leave theirs behind; a new file costs a second
SECONDS_TO_WRITE = 3600  # longer, and its writer was killed


@dataclass(frozen=True)
class CachedFile:
    """One file: bytes, time of its last change, what its code is for, and whether it would be used."""

    name: str
    size: int
    modified: float
    about: str
    whole: bool


def cached_code(text: str, target: Target, about: str, make: Callable[[], bytes]) -> bytes:
    """The object code for a plan's text: from the cache, or from `make`, then kept with a line about it."""
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / f"{_name(text, target)}{CODE}"
    found = _content(path)
    code = found[1] if found is not None else None
    if code is None:
        code = make()
        _store(path, about, code)
    return code


def kept_program(name: str) -> bytes | None:
    """What `keep_program` kept under this name; None where it is not whole."""
    folder = cache_folder()
    found = _content(folder / f"{name}{PROGRAM}") if folder is not None else None
    return None if found is None else found[1]


def keep_program(name: str, about: str, content: bytes) -> None:
    """Keep a program, and a line about it, under a name that tells all that it follows from."""
    folder = cache_folder()
    if folder is not None:
        _store(folder / f"{name}{PROGRAM}", about, content)


def cached_files() -> list[CachedFile]:
    """Every file of the cache, newest first; each is read and its digest verified."""
    found = []
    for path in _files():
        content = _content(path)
        about = content[0] if content else ""
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.append(CachedFile(path.name, status.st_size, status.st_mtime, about, content is not None))
    return sorted(found, key=lambda f: -f.modified)


def clear_cache() -> int:
    """Remove every file of the cache, those never finished too; how many were removed."""
    removed = 0
    for path in _files():
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _files() -> list[Path]:
    """What the cache made, whole or not; nothing else that may lie in the directory."""
    folder = cache_folder()
    return [p for p in folder.iterdir() if p.suffix in SUFFIXES] if folder is not None else []


def _remove_old(folder: Path) -> None:
    now = time.time()
    for path in folder.iterdir():
        if path.suffix in SUFFIXES:
            kept = SECONDS_TO_WRITE if path.suffix == UNFINISHED else SECONDS_KEPT
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < now - kept:
                    path.unlink()


def cache_folder() -> Path | None:
    """The directory of compiled code, made if need be; None where there is none to be trusted."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen == "":
        return None
    try:
        folder = Path(chosen) if chosen is not None else _default_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: nothing tells where the user's home is
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


def _name(text: str, target: Target) -> str:
    h = hashlib.blake2b(digest_size=24)
    for part in (text, repr(target), VERSION, rlxflow.__version__, files_digest(GENERATOR)):
        h.update(part.encode() + b"\0")
    return h.hexdigest()


@cache
def files_digest(*folders: Path) -> str:
    """A hash of names, sizes and times of all files below some folders: with another generator's, say, other
    code is made of one plan."""
    left: list[str | Path] = [*folders]
    files = []
    while left:
        for entry in os.scandir(left.pop()):
            if entry.is_dir():
                left += [] if entry.name == "__pycache__" else [entry.path]
            else:
                found = entry.stat()
                files.append((entry.path, found.st_size, found.st_mtime_ns))
    return hashlib.blake2b(repr(sorted(files)).encode(), digest_size=16).hexdigest()


def _digest(path: Path, code: bytes) -> bytes:
    """Of the code under this name: a file that was renamed does not pass."""
    return hashlib.blake2b(path.name.encode() + b"\0" + code, digest_size=DIGEST_BYTES).digest()


def _content(path: Path) -> tuple[str, bytes] | None:
    """The line about the code, and the code, of a file that is ours and whole, else None."""
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
    about, _, code = content[DIGEST_BYTES:].partition(b"\n")
    return (printable(about.decode(errors="replace"), 120), code) if code else None


def _store(path: Path, about: str, code: bytes) -> None:
    """Write beside the place and move there, so that nobody reads half a file."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=UNFINISHED)
        with os.fdopen(handle, "wb") as file:
            content = printable(about, 120).encode() + b"\n" + code
            file.write(_digest(path, content) + content)
        Path(temporary).replace(path)
        _remove_old(path.parent)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
