"""The header of a safetensors file, checked whole.

Layout: 8 bytes little-endian N; N bytes of JSON `{name: {"dtype", "shape", "data_offsets"}}` with an
optional `"__metadata__"` of strings; then the data, which the tensors cover exactly, in any order,
without hole or overlap (https://github.com/huggingface/safetensors). No number is trusted before it has
been compared with the size of the file.
"""

from __future__ import annotations

from typing import Any, NoReturn

from rlxflow import dtypes
from rlxflow.dtypes import DType
from rlxflow.errors import CorruptFile, UnsupportedFile, WeightsError, nearest, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.json_file import parse_json
from rlxflow.weights.sniff import HEAD_BYTES, wrong_content
from rlxflow.weights.source import TensorInfo

HEADER_CAP = 25 << 20
"""Largest header read unless the caller allows more; 100,000 tensors take 11 MB."""
HEADER_HARD_CAP = 100_000_000
"""The format's own limit."""
MAX_RANK = 8
MAX_ELEMENTS = 1 << 48
MAX_NAME = 4096

DTYPE_OF_NAME: dict[str, DType] = {
    "F64": dtypes.f64,
    "F32": dtypes.f32,
    "F16": dtypes.f16,
    "BF16": dtypes.bf16,
    "BOOL": dtypes.bool_,
    "I64": dtypes.i64,
    "I32": dtypes.i32,
    "I16": dtypes.i16,
    "I8": dtypes.i8,
    "U64": dtypes.u64,
    "U32": dtypes.u32,
    "U16": dtypes.u16,
    "U8": dtypes.u8,
    # these can be listed, not read: they are not in rlxflow.dtypes.DTYPES
    **{name: DType(name.lower(), "opaque", 1) for name in ("F8_E4M3", "F8_E5M2", "F8_E8M0")},
    **{name: DType(name.lower(), "opaque", 1) for name in ("F8_E4M3FNUZ", "F8_E5M2FNUZ")},
    **{name: DType(name.lower(), "opaque", 3, 4) for name in ("F6_E2M3", "F6_E3M2")},
    "F4": DType("f4", "opaque", 1, 2),
    "C64": DType("c64", "opaque", 8),
}

_INCOMPLETE = "the download is incomplete or damaged; download the file again"
_DAMAGED = "the file is damaged or was written by a faulty program; get it again from its source"


@dataclass(frozen=True)
class Header:
    """What a header says: each tensor's info and the offset of its first byte in the file."""

    tensors: dict[str, TensorInfo]
    offsets: dict[str, int]
    metadata: dict[str, str]
    notes: tuple[str, ...]


def read_header(file: FileBytes, where: str, max_header_bytes: int) -> Header:
    """Read and check the header of `file`; `where` names the file in messages.

    Raises `CorruptFile` where the bytes contradict the format and `UnsupportedFile` for another kind of
    file, or a shape beyond our limits.
    """
    length = _header_length(file, where, min(max_header_bytes, HEADER_HARD_CAP))
    text = file.read(8, length).tobytes()
    entries = parse_json(text, f"{where}:header", what="safetensors header")
    metadata = _metadata(entries.pop("__metadata__", {}), where)
    tensors: dict[str, TensorInfo] = {}
    spans: list[tuple[int, int, str]] = []
    odd = 0
    for name, entry in entries.items():
        info, begin, end = _tensor(name, entry, 8 + length, where)
        odd += len(entry) > 3
        tensors[name] = info
        spans.append((begin, end, name))
    _check_cover(spans, file, 8 + length, where)
    notes = (f"{odd} tensor entries have fields that the format does not name; ignored",) if odd else ()
    return Header(tensors, {name: 8 + length + begin for begin, _, name in spans}, metadata, notes)


def _header_length(file: FileBytes, where: str, cap: int) -> int:
    """The length of the header's JSON, once it is plausible."""
    head = file.read(0, min(file.size, HEAD_BYTES)).tobytes()
    length = int.from_bytes(head[:8], "little")
    if 2 <= length <= min(cap, file.size - 8) and head[8:9] == b"{":
        return length
    raise _bad_start(head, length, cap, file.size, where)


def _bad_start(head: bytes, length: int, cap: int, size: int, where: str) -> WeightsError:
    """Why a file with these first bytes has no header."""
    if not head:
        return _corrupt("RLX-W011", "the file is empty", where, _INCOMPLETE)
    other = wrong_content(head, size, where)
    if other:
        return other
    if size <= 8:
        return _corrupt("RLX-W011", f"a file of {size} bytes is too short for a header", where, _INCOMPLETE)
    swapped = int.from_bytes(head[:8], "big")
    if length > size - 8 and 2 <= swapped <= size - 8 and head[8:9] == b"{":
        hint = "write the file again with the length in little-endian order"
        return _corrupt("RLX-W011", "the header length is written in big-endian order", where, hint)
    if head[8:9] == b"{" and cap < length <= min(HEADER_HARD_CAP, size - 8):
        message = f"the header has {length:,} bytes, more than the limit of {cap:,}"
        hint = f"if you trust the file, open it with SafetensorsFile(path, max_header_bytes={length})"
        return _corrupt("RLX-W012", message, where, hint)
    if length > HEADER_HARD_CAP:
        message = f"the header claims {length:,} bytes, more than the format's {HEADER_HARD_CAP:,}"
        return _corrupt("RLX-W012", message, where, "this is no safetensors file, or its start is damaged")
    if length > size - 8:
        message = f"the header claims {length:,} bytes, the file has {size - 8:,} after the length"
        return _corrupt("RLX-W011", message, where, _INCOMPLETE)
    if head[8:11] == b"\xef\xbb\xbf":
        hint = "write the header again as UTF-8 without it"
        return _corrupt("RLX-W013", "the header starts with a byte order mark", where, hint)
    return _corrupt("RLX-W013", "the header does not start with '{'", where, _DAMAGED)


def _metadata(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _corrupt("RLX-W014", "__metadata__ is not an object", where, _DAMAGED)
    for key, text in value.items():
        if not isinstance(text, str):
            message = f"__metadata__ {printable(key, 60)!r} is {_kind(text)}, not a string"
            raise _corrupt("RLX-W014", message, where, "write metadata as strings only")
    return value


def _tensor(name: str, entry: Any, data_start: int, where: str) -> tuple[TensorInfo, int, int]:
    """One entry's info and its span in the data section; its size is checked against its shape."""
    _check_name(name, where)

    def fail(code: str, problem: str, hint: str = _DAMAGED) -> NoReturn:
        raise _corrupt(code, f"tensor {printable(name)!r}: {problem}", where, hint)

    if not isinstance(entry, dict):
        fail("RLX-W014", f"its entry is {_kind(entry)}, not an object")
    for field in ("dtype", "shape", "data_offsets"):
        if field not in entry:
            fail("RLX-W014", f"{field} is missing")
    if not isinstance(entry["dtype"], str):
        fail("RLX-W014", f"dtype is {_kind(entry['dtype'])}, not a string")
    dtype = DTYPE_OF_NAME.get(entry["dtype"])
    if dtype is None:
        shown = printable(entry["dtype"], 40)
        known = nearest(entry["dtype"][:40].upper(), DTYPE_OF_NAME)
        fail("RLX-W014", f"unknown dtype {shown!r}", known or "update rlxflow if the format has a new dtype")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _counts(shape):
        fail("RLX-W014", "shape is not a list of non-negative integers")
    if not _counts(offsets) or len(offsets) != 2:
        fail("RLX-W014", "data_offsets is not a pair of non-negative integers")
    begin, end = offsets
    if begin > end:
        fail("RLX-W015", f"data_offsets end ({end}) before they begin ({begin})")
    count = 1
    for size in shape:
        count *= size
    if len(shape) > MAX_RANK or count >= MAX_ELEMENTS or (shape and max(shape) >= MAX_ELEMENTS):
        shown = printable(shape, 60)
        raise UnsupportedFile(
            f"tensor {printable(name)!r}: shape {shown} is beyond the limits",
            code="RLX-W019",
            where=where,
            hint=f"tensors have at most {MAX_RANK} dimensions and 2**48 elements",
        )
    info = TensorInfo(name, dtype, tuple(shape), f"{where}:{data_start + begin}")
    if count % dtype.block_size or info.nbytes != end - begin:
        fail("RLX-W016", f"shape {shape} of {entry['dtype']} does not fill {end - begin:,} bytes")
    return info, begin, end


def _check_name(name: str, where: str) -> None:
    """Names are only ever keys, never paths; what would spoil a terminal or a log is refused."""
    if not name:
        raise _corrupt("RLX-W018", "a tensor has an empty name", where, _DAMAGED)
    if len(name) > MAX_NAME:
        message = f"a tensor name has {len(name):,} characters: {printable(name, 40)!r}"
        raise _corrupt("RLX-W018", message, where, f"names have at most {MAX_NAME:,} characters")
    if not name.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        message = f"tensor name {printable(name)!r} holds control characters"
        raise _corrupt("RLX-W018", message, where, "rename the tensor; no known model has such names")


def _check_cover(spans: list[tuple[int, int, str]], file: FileBytes, data_start: int, where: str) -> None:
    """The spans, in order of their begin, must tile the data section exactly."""
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            kind = "overlaps the one before" if begin < at else "leaves a hole before it"
            message = f"tensor {printable(name)!r} {kind}: it begins at {begin:,}, not {at:,}"
            raise _corrupt("RLX-W015", message, where, _DAMAGED)
        at = end
    found = file.size - data_start
    if found < at:
        message = f"the file is {at - found:,} bytes short: the tensors take {at:,}, found {found:,}"
        raise _corrupt("RLX-W017", message, where, _INCOMPLETE)
    if found > at:
        tail = file.read(file.size - min(found - at, 4096), min(found - at, 4096))
        zeros = "zero " if not tail.any() else ""
        hint = "a download was cut short and padded; download it again" if zeros else _DAMAGED
        raise _corrupt("RLX-W017", f"{found - at:,} {zeros}bytes follow the last tensor", where, hint)


def _counts(value: Any) -> bool:
    """A list of non-negative integers; True and 2.0 are not integers."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _corrupt(code: str, message: str, where: str, hint: str) -> CorruptFile:
    return CorruptFile(message, code=code, where=where, hint=hint)
