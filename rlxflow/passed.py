"""Settings of files that passed their checks, kept on disk with what they were checked to be.

One small file of JSON in the cache directory, under hashes of the settings and of what they were checked
against; the latest `MOST` are kept. Whatever is wrong with it, the settings are checked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import rlxflow
from rlxflow.disk_cache import cache_folder, keep, read_kept

MOST = 64
NAME = "checked.json"
_PLAIN = (str, int, float, bool, type(None))


def recall(checks: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What these values became when they passed these checks, or None. Enums come back as text."""
    folder, key = cache_folder(), _key(checks, values)
    found = _kept(folder / NAME).get(key) if folder is not None and key else None
    return dict(found) if isinstance(found, dict) else None


def remember(checks: str, values: Mapping[str, Any], checked: Mapping[str, Any]) -> None:
    """Keep what these values became; not where JSON would not give it back."""
    folder, key = cache_folder(), _key(checks, values)
    if folder is None or not key or not is_plain(checked, 8):
        return
    kept = _kept(folder / NAME)
    kept[key] = dict(checked)
    for old in list(kept)[:-MOST]:
        del kept[old]
    keep(folder / NAME, "settings that passed their checks", json.dumps(kept).encode())


def is_plain(value: Any, depth: int) -> bool:
    """Whether a value is made of what JSON has and nothing else, up to so many levels deep."""
    if depth and type(value) is dict:
        return all(type(name) is str and is_plain(inner, depth - 1) for name, inner in value.items())
    if depth and type(value) is list:
        return all(is_plain(inner, depth - 1) for inner in value)
    return isinstance(value, _PLAIN)


@cache
def _kept(path: Path) -> dict[str, Any]:
    """The file as this process found it, with what it added."""
    found = read_kept(path)
    try:
        kept = json.loads(found[1]) if found is not None else {}
    except (ValueError, RecursionError):
        kept = {}
    return kept if isinstance(kept, dict) else {}


def _key(checks: str, values: Mapping[str, Any]) -> str:
    """A hash of the checks and the values; empty where the values are not all what JSON has."""
    if not is_plain(dict(values), 8):
        return ""
    try:
        text = json.dumps([rlxflow.__version__, checks, values], sort_keys=True)
    except ValueError:  # whole numbers of thousands of digits
        return ""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=24).hexdigest()
