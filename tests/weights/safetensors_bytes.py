"""Safetensors files written byte by byte, so that each field can be made wrong. Shares no code."""

from __future__ import annotations

import json
import struct
from typing import Any


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of these header bytes; `length` is what the prefix claims."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def build(header: Any, data: bytes = b"") -> bytes:
    """A file whose header is the JSON of `header`."""
    return raw(json.dumps(header).encode(), data)


def entry(begin: int = 0, end: int = 8, dtype: Any = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def one(data: bytes = bytes(8), name: str = "a", **fields: Any) -> bytes:
    """A file of one tensor, two floats unless told otherwise; a field given as `...` is left out."""
    fields = {**entry(), **fields}
    return build({name: {k: v for k, v in fields.items() if v is not ...}}, data)


def two(first: tuple[int, int], second: tuple[int, int], size: int = 16) -> bytes:
    """A file of two tensors of two floats at these offsets."""
    return build({"a": entry(*first), "b": entry(*second)}, bytes(size))
