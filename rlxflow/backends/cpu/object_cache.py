"""Object code kept on disk, under a hash of what it was made from, and the other files kept beside it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import rlxflow
from rlxflow.backends.cpu.llvm import VERSION
from rlxflow.backends.cpu.target import Target
from rlxflow.disk_cache import cache_folder, keep, read_kept
from rlxflow.quick_dataclass import dataclass

SUFFIXES = (".o", ".json", ".new")  # code, checked settings, and what is being written


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
    path = folder / f"{_name(text, target)}.o"
    found = read_kept(path)
    code = found[1] if found is not None else None
    if code is None:
        code = make()
        keep(path, about, code)
    return code


def cached_files() -> list[CachedFile]:
    """Every file of the cache, newest first; each is read and its digest verified."""
    found = []
    for path in _files():
        content = read_kept(path)
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
