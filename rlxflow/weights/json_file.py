"""Strict, bounded JSON for headers, indexes, configs and tokenizer side files.

Python's `json` keeps the last of two equal keys, reads NaN and turns 1e400 into infinity; here each of
these is an error, as is everything that would cost unbounded time, memory or stack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rlxflow.errors import CorruptFile, RlxError, WeightsError, printable
from rlxflow.weights.file_bytes import FileBytes

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
MAX_DIGITS = 64  # some tokenizer configs hold 1e30 written out as an integer

_LONG = 10**MAX_DIGITS
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(
    path: Path | str,
    *,
    what: str,
    max_bytes: int = MAX_BYTES,
    error: type[RlxError] = CorruptFile,
    code: str = "RLX-W013",
) -> Any:
    """The value in the JSON file `path`; `what` names the file in messages ("shard index").

    Every failure, a missing file too, raises `error` with `code`.
    """
    path = Path(path)
    try:
        file = FileBytes(path)
        if file.size > max_bytes:
            raise WeightsError(
                f"the {what} has {file.size:,} bytes, more than the limit of {max_bytes:,}",
                code=code,
                where=printable(path),
                hint=f"this is not the {what} of a model; check the download",
            )
        data = file.read(0, file.size).tobytes()
    except WeightsError as problem:
        raise error(problem.message, code=code, where=problem.where, hint=problem.hint) from problem
    return parse_json(data, str(path), what=what, error=error, code=code)


def parse_json(
    data: bytes,
    where: str,
    *,
    what: str,
    error: type[RlxError] = CorruptFile,
    code: str = "RLX-W013",
) -> Any:
    """The value of the JSON text `data`, which must be UTF-8.

    Refuses equal keys in one object, NaN, infinities, numbers beyond a double, integers of more than 64
    digits, lone surrogates and nesting deeper than 64. Raises `error` with `code`, place and next step.
    """

    def fail(problem: str, place: str = "", hint: str = "") -> NoReturn:
        hint = hint or f"the {what} is damaged or was edited by hand; download it again"
        message = f"the {what} {problem}"
        raise error(message, code=code, where=printable(where) + place, hint=hint)

    try:
        text = data.decode("utf-8-sig")  # a byte order mark is harmless here
    except UnicodeDecodeError as problem:
        fail("is not UTF-8", f":byte {problem.start}")
    if not text.strip():
        fail("is empty", hint=f"the {what} was not written or not downloaded; get it again")
    read = partial(
        json.loads,
        text,
        object_pairs_hook=lambda pairs: _unique(pairs, fail),
        parse_constant=lambda name: fail(f"holds {name}, which JSON does not have"),
        parse_float=lambda digits: _finite(digits, fail),
    )
    try:
        value = read()
    except json.JSONDecodeError as problem:
        fail(f"is not JSON: {problem.msg}", f":{problem.lineno}:{problem.colno}")
    except RecursionError:
        fail(f"is nested deeper than {MAX_DEPTH} levels")
    except ValueError:  # what int() refuses; counting every number's digits takes as long as all the rest
        value = read(parse_int=lambda digits: _bounded(digits, fail))
    _check_values(value, fail)
    if _SURROGATE.search(data) and not _encodable(value):
        fail("holds half of a surrogate pair, which is not a character")
    return value


def _unique(pairs: list[tuple[str, Any]], fail: Callable[..., NoReturn]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                fail(f"has the key {printable(key)!r} twice in one object")
            seen.add(key)
    return found


def _finite(digits: str, fail: Callable[..., NoReturn]) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        fail(f"holds {printable(digits, 40)}, which is too large for a number")
    return number


def _bounded(digits: str, fail: Callable[..., NoReturn]) -> int:
    if len(digits) > MAX_DIGITS:
        fail(f"holds an integer of {len(digits):,} digits")
    return int(digits)


def _check_values(value: Any, fail: Callable[..., NoReturn]) -> None:
    """Refuse what is nested too deep, and long integers."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    fail(f"is nested deeper than {MAX_DEPTH} levels")
                inner.extend(item.values() if kind is dict else item)
            elif kind is int and not -_LONG < item < _LONG:
                _bounded(str(abs(item)), fail)
        level, depth = inner, depth + 1


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
