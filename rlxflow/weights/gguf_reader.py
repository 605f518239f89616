"""The header of one GGUF file, parsed within bounds: metadata, tensor entries, and where the data lies.

Format: ggml's docs/gguf.md, versions 2 and 3, little endian. No number from the file is used before it is
compared with the bytes that remain, and nothing is allocated that is larger than those bytes. Errors
name the file and the byte offset.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

import numpy as np

from rlxflow.dtypes import DType
from rlxflow.errors import CorruptFile, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.gguf_cursor import Cursor
from rlxflow.weights.gguf_types import GGML_TYPES, REMOVED_TYPES
from rlxflow.weights.source import TensorInfo

MAX_KEYS = 65_536
MAX_TENSORS = 1_000_000
MAX_KEY_BYTES = 65_535
MAX_STRING_BYTES = 64 << 20
MAX_ARRAY_ITEMS = 4 << 20
MAX_ALIGNMENT = 1 << 20
MAX_TENSOR_NAME_BYTES = 63
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 48

_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY, _BOOL, _U32 = 8, 9, 7, 4
# Value type id → little-endian NumPy type. Booleans are bytes that must be 0 or 1.
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "<u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
# First bytes of files that people give by mistake.
_OTHER_FILES = {
    b"GGML": "a GGML file, older than GGUF; convert it again from the original weights",
    b"lmgg": "a GGML file, older than GGUF; convert it again from the original weights",
    b"fmgg": "a GGMF file, older than GGUF; convert it again from the original weights",
    b"tjgg": "a GGJT file, older than GGUF; convert it again from the original weights",
    b"vers": "probably a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"PK\x03\x04": "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF or safetensors",
    b"<!DO": "a web page; download the file itself",
    b"<htm": "a web page; download the file itself",
}


@dataclass(frozen=True)
class GgufHeader:
    """What one file's header says. Tensor shapes are row-major, `[out, in]` for a linear weight."""

    version: int
    alignment: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    offsets: dict[str, int]  # of each tensor's data, from the start of the file


def read_header(file: FileBytes) -> GgufHeader:
    """Parse and check a whole header.

    Raises `CorruptFile` where the bytes contradict the format, `UnsupportedFile` for other versions,
    big-endian files, unknown tensor types, nested arrays and zero-sized tensors, and `WeightsError` for a
    number over its limit.
    """
    cursor = Cursor(file)
    version = _read_version(cursor)
    tensor_count = cursor.count("the tensor count", MAX_TENSORS, item_bytes=25)
    key_count = cursor.count("the metadata count", MAX_KEYS, item_bytes=14)
    metadata, alignment = _read_metadata(cursor, key_count)
    entries = [_read_entry(cursor) for _ in range(tensor_count)]
    data_start = -(-cursor.at // alignment) * alignment
    tensors, offsets = _place_tensors(file, entries, data_start, alignment)
    return GgufHeader(version, alignment, metadata, tensors, offsets)


def _read_version(cursor: Cursor) -> int:
    magic = cursor.take(4, "the magic bytes")
    if magic == b"FUGG":
        cursor.unsupported("the file is big endian", "convert it to little endian", 0)
    if magic != b"GGUF":
        guess = _OTHER_FILES.get(magic, "give a file that starts with 'GGUF'")
        cursor.corrupt("RLX-W040", f"not a GGUF file: it starts with {magic!r}", guess, 0)
    version = cursor.u32("the version")
    if version not in (2, 3):
        _refuse_version(cursor, version)
    return version


def _refuse_version(cursor: Cursor, version: int) -> NoReturn:
    if version & 0xFFFF == 0 and version:
        cursor.unsupported("the file is big endian", "convert it to little endian", 4)
    if version == 0:
        cursor.corrupt("RLX-W040", "the GGUF version is 0", "the file is damaged; fetch it again", 4)
    older = "convert the model again with a current converter"
    hint = older if version == 1 else "a newer rlxflow may read it"
    cursor.unsupported(f"GGUF version {version}; versions 2 and 3 are read", hint, 4)


def _read_metadata(cursor: Cursor, count: int) -> tuple[dict[str, Any], int]:
    """All key/value pairs, and the alignment of the tensor data."""
    metadata: dict[str, Any] = {}
    alignment = _DEFAULT_ALIGNMENT
    for index in range(count):
        start = cursor.at
        key = cursor.name(f"metadata key {index}", MAX_KEY_BYTES, "RLX-W044")
        if key in metadata:
            cursor.corrupt("RLX-W044", f"metadata key {printable(key)!r} is there twice", _CONVERT, start)
        value_at = cursor.at
        kind = cursor.u32(f"the type of {printable(key)!r}")
        metadata[key] = _read_value(cursor, kind, f"the value of {printable(key)!r}", value_at)
        if key == "general.alignment":
            alignment = _check_alignment(cursor, kind, metadata[key], value_at)
    return metadata, alignment


_CONVERT = "the file was written wrongly; convert the model again"


def _check_alignment(cursor: Cursor, kind: int, value: Any, at: int) -> int:
    if kind != _U32:
        cursor.corrupt("RLX-W044", "general.alignment is not a u32", _CONVERT, at)
    if value < 1 or value & (value - 1):
        cursor.corrupt("RLX-W044", f"general.alignment is {value}, not a power of two", _CONVERT, at)
    if value > MAX_ALIGNMENT:
        cursor.limit("general.alignment", value, MAX_ALIGNMENT, at)
    return int(value)


def _read_value(cursor: Cursor, kind: int, what: str, at: int) -> Any:
    """One value. Strings that are not UTF-8 keep their bytes as surrogate escapes."""
    if kind == _STRING:
        return cursor.raw_string(what, MAX_STRING_BYTES).decode("utf-8", "surrogateescape")
    if kind in _NUMBERS:
        return _read_numbers(cursor, kind, 1, what)[0]
    if kind != _ARRAY:
        cursor.corrupt("RLX-W044", f"{what} has the unknown type {kind}", _CONVERT, at)
    item_kind = cursor.u32(f"the item type of {what}")
    if item_kind == _ARRAY:
        cursor.unsupported(f"{what} is an array of arrays", "no model needs one; convert it again", at)
    if item_kind == _STRING:
        count = cursor.count(f"the length of {what}", MAX_ARRAY_ITEMS, item_bytes=8)
        return cursor.strings(count, what, MAX_STRING_BYTES)
    if item_kind not in _NUMBERS:
        cursor.corrupt("RLX-W044", f"{what} has items of the unknown type {item_kind}", _CONVERT, at)
    width = np.dtype(_NUMBERS[item_kind]).itemsize
    count = cursor.count(f"the length of {what}", MAX_ARRAY_ITEMS, width)
    return _read_numbers(cursor, item_kind, count, what)


def _read_numbers(cursor: Cursor, kind: int, count: int, what: str) -> list[Any]:
    """Numbers as plain Python values."""
    at = cursor.at
    dtype = np.dtype(_NUMBERS[kind])
    values = np.frombuffer(cursor.take(count * dtype.itemsize, what), dtype)
    if kind == _BOOL:
        if values.size and values.max() > 1:
            cursor.corrupt("RLX-W044", f"{what} holds a boolean that is neither 0 nor 1", _CONVERT, at)
        return [bool(value) for value in values]
    if dtype == np.float32:
        # The shortest decimal that rounds to the same float32: 1e-05, as the model's config.json has it.
        return [float(str(value)) for value in values]
    return values.tolist()


@dataclass(frozen=True)
class _Entry:
    """One tensor entry as it stands in the file; `at` is the entry's own place."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    at: int


def _read_entry(cursor: Cursor) -> _Entry:
    at = cursor.at
    name = cursor.name("a tensor name", MAX_TENSOR_NAME_BYTES, "RLX-W045")
    shown = printable(name)
    rank = cursor.u32(f"the rank of {shown!r}")
    if rank > MAX_DIMS:
        cursor.limit(f"the rank of tensor {shown!r}", rank, MAX_DIMS, at)
    dims = struct.unpack(f"<{rank}Q", cursor.take(8 * rank, f"the shape of {shown!r}"))
    kind = cursor.u32(f"the type of {shown!r}")
    dtype = GGML_TYPES.get(kind)
    if dtype is None:
        known = REMOVED_TYPES.get(kind)
        label = f"{known}, which ggml has removed" if known else f"unknown to rlxflow (id {kind})"
        cursor.unsupported(
            f"tensor {shown!r} has a type {label}", "quantise the model again, e.g. to Q4_K_M", at
        )
    offset = cursor.u64(f"the offset of {shown!r}")
    _check_shape(cursor, shown, dims, dtype, at)
    return _Entry(name, dtype, dims[::-1], offset, at)


def _check_shape(cursor: Cursor, name: str, dims: tuple[int, ...], dtype: DType, at: int) -> None:
    """`dims` in file order, the row length first."""
    count = 1
    for size in dims:
        if size == 0:
            cursor.unsupported(f"tensor {name!r} has a zero in its shape {list(dims)}", _CONVERT, at)
        count *= size
    if count >= MAX_ELEMENTS:
        cursor.limit(f"the number of elements of tensor {name!r}", count, MAX_ELEMENTS - 1, at)
    row = dims[0] if dims else 1
    if row % dtype.block_size:
        message = f"tensor {name!r} has rows of {row} elements; {dtype} packs {dtype.block_size} at a time"
        cursor.corrupt("RLX-W045", message, _CONVERT, at)


def _place_tensors(
    file: FileBytes, entries: list[_Entry], data_start: int, alignment: int
) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Check that the tensors lie one after the other, aligned, inside the file, under different names."""
    tensors: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    expected = 0
    for entry in entries:
        place = f"{printable(file.path)}:{entry.at}"
        shown = printable(entry.name)
        if entry.name in tensors:
            raise CorruptFile(f"tensor {shown!r} is there twice", code="RLX-W045", where=place, hint=_CONVERT)
        if entry.offset != expected:
            raise CorruptFile(
                f"tensor {shown!r} is at offset {entry.offset}; the tensors before it end at {expected}",
                code="RLX-W045",
                where=place,
                hint="tensors lie one after the other without holes or overlap; convert the model again",
            )
        start = data_start + entry.offset
        info = TensorInfo(entry.name, entry.dtype, entry.shape, f"{printable(file.path)}:{start}")
        if start + info.nbytes > file.size:
            raise CorruptFile(
                f"the file ends at {file.size}, inside tensor {shown!r} ({start} to {start + info.nbytes})",
                code="RLX-W042",
                where=place,
                hint="the download is incomplete or the file is damaged; fetch it again",
            )
        tensors[entry.name], offsets[entry.name] = info, start
        expected = -(-(entry.offset + info.nbytes) // alignment) * alignment
    return tensors, offsets
