"""Object code kept on disk, under a hash of what it was made from.

The directory is `$RLXFLOW_CACHE` or the user's cache directory; it must be the user's own and writable by
nobody else, for what lies there is executed. A file is a digest and the code behind it. Whatever goes wrong
(no directory, a full disk, a damaged file) costs the time of a compilation and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import rlxflow
from rlxflow.backends.cpu.llvm import VERSION
from rlxflow.backends.cpu.target import Target

CACHE_VARIABLE = "RLXFLOW_CACHE"  # a directory; empty: keep nothing
DIGEST_BYTES = 32
LARGEST = 64 << 20


def cached_code(text: str, target: Target, make: Callable[[], bytes]) -> bytes:
    """The object code for a plan's text: from the cache, or from `make`, and then kept."""
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / f"{_name(text, target)}.o"
    code = _load(path)
    if code is None:
        code = make()
        _store(path, code)
    return code


def cache_folder() -> Path | None:
    """The directory of compiled code, made if need be; None where there is none to be trusted."""
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


def _name(text: str, target: Target) -> str:
    h = hashlib.blake2b(digest_size=24)
    for part in (text, repr(target), VERSION, rlxflow.__version__, generator_digest()):
        h.update(part.encode() + b"\0")
    return h.hexdigest()


@cache
def generator_digest() -> str:
    """A hash of the generator's own source: another generator makes other code from one plan."""
    h = hashlib.blake2b(digest_size=16)
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        h.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return h.hexdigest()


def _digest(path: Path, code: bytes) -> bytes:
    """Of the code under this name: a file that was renamed does not pass."""
    return hashlib.blake2b(path.name.encode() + b"\0" + code, digest_size=DIGEST_BYTES).digest()


def _load(path: Path) -> bytes | None:
    """The code of a file that is ours and whole, else None."""
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
    code = content[DIGEST_BYTES:]
    return code if code and content[:DIGEST_BYTES] == _digest(path, code) else None


def _store(path: Path, code: bytes) -> None:
    """Write beside the place and move there, so that nobody reads half a file."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(path, code) + code)
        Path(temporary).replace(path)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
